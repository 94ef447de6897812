import { createHash } from "node:crypto";
import { CREDENTIAL_KEPT_SECONDS, ID_TOKENS_KEPT_MAX, ISSUERS_KEPT_MAX } from "../limits.ts";
import { issuerOf, type Verification, type VerifiedToken, verifyIdToken } from "./id-token.ts";
import { Kept } from "./kept.ts";
import { rightsKeptMs } from "./kept-time.ts";
import type { Login, Lookup } from "./login.ts";
import type { Authority, RulesTaken } from "./policy.ts";
import type { Principal } from "../requester.ts";
import { listTrustRules } from "./store.ts";
import { misfitOf, type TrustRule } from "./trust-rule.ts";

/**
 * A job's OpenID Connect token in place of a password: from GitHub Actions, GitLab, Kubernetes, or any issuer that a
 * trust rule names. What its signature says is kept, what the rules make of it is not: so a rule that is changed or
 * deleted has its effect within `rightsKeptMs`, and not twice that.
 * D1: 1 for an issuer whose rules this isolate has not read in that time, else 0. Fetches the issuer's keys if need be.
 * @param lookup of the rules; a bearer that is given for it may outlive the ID token, by no more than its own life
 */
export async function loginWithIdToken(
  env: Env,
  token: string,
  nowMs: number,
  lookup: Lookup = "kept",
): Promise<Login> {
  const issuer = issuerOf(token);
  const rules = issuer === null ? [] : await rulesOf(env, issuer, nowMs, lookup);
  if (issuer === null || rules.length === 0) return unfit("no trust rule has its issuer");
  const verified = await knownToken(token, issuer, nowMs);
  if (verified.kind === "verified") return loginByRules(rules, verified);
  return verified.kind === "refused"
    ? unfit(verified.reason)
    : { kind: "unknown", reason: unverifiable, noted: verified.reason, blameless: true };
}

/**
 * The grants of all rules that take the token add up, as those of one list do: nothing is ever taken away by a rule, so
 * that no new one, nor its name, can break what works. The principal is named for the first of them by name.
 */
function loginByRules(rules: readonly TrustRule[], { subject, claims }: VerifiedToken): Login {
  const misfits = rules.map((rule) => misfitOf(rule, claims));
  const fitting = rules.filter((_rule, index) => misfits[index] === null);
  const [first] = fitting;
  if (first === undefined) return unfit(rules.map(({ name }, index) => `${name}: ${misfits[index] ?? ""}`).join("; "));
  const principal = { name: `oidc:${first.name}:${subject}`, tokenId: null };
  return { kind: "known", authority: authorityBy(principal, first.issuer, fitting) };
}

function authorityBy(principal: Principal, issuer: string, rules: readonly TrustRule[]): Authority {
  const grants = [rules.flatMap((rule) => rule.grants)];
  return { principal, admin: false, grants, rules: { issuer, marks: rules.map(markOf) }, proof: null };
}

/**
 * What a job may do by now by the rules that it was taken by: as they grant now, but for those that take others now, or
 * are gone. null: none is left. D1: 1.
 */
export async function authorityOfRules(
  env: Env,
  principal: Principal,
  taken: RulesTaken,
  nowMs: number,
): Promise<Authority | null> {
  const { issuer } = taken;
  const rules = await rulesOf(env, issuer, nowMs, "fresh");
  // No name that anybody could make up: this registry has signed it. Not kept, each of its bearers would ask each time.
  if (rules.length === 0) keptRules.set(issuer, rules, nowMs + rightsKeptMs(env));
  return authorityByMarks(principal, taken, rules);
}

/** The same from what this isolate has read of the rules lately; undefined where it has not. D1: 0. */
export function knownAuthorityOfRules(
  principal: Principal,
  taken: RulesTaken,
  nowMs: number,
): Authority | null | undefined {
  const known = keptRules.get(taken.issuer, nowMs);
  return known === undefined ? undefined : authorityByMarks(principal, taken, known);
}

function authorityByMarks(
  principal: Principal,
  { issuer, marks }: RulesTaken,
  rules: readonly TrustRule[],
): Authority | null {
  const left = rules.filter((rule) => marks.includes(markOf(rule)));
  return left.length === 0 ? null : authorityBy(principal, issuer, left);
}

const markCharacters = 16;
const keptMarks = new WeakMap<TrustRule, string>();

/** Of whom a rule takes, not of what it grants to them: a job's bearer is as good as each rule that would take it again. */
function markOf(rule: TrustRule): string {
  const known = keptMarks.get(rule);
  if (known !== undefined) return known;
  const { name, issuer, audience, conditions } = rule;
  const text = JSON.stringify([name, issuer, audience, conditions]);
  const mark = createHash("sha256").update(text).digest("base64url").slice(0, markCharacters);
  keptMarks.set(rule, mark);
  return mark;
}

/** Anybody may have a token of a public issuer: which rules there are, and by what they fail, is for the audit. */
function unfit(noted: string): Login {
  return { kind: "unknown", reason: "no trust rule takes this token as it is", noted: noted.slice(0, 1000) };
}

const unverifiable = "this token can't be verified now: the keys of its issuer are not to be had; try again later";

/** By issuer; only of those that have rules: who makes names up can't push out what is known. */
const keptRules = new Kept<readonly TrustRule[]>(ISSUERS_KEPT_MAX);

async function rulesOf(env: Env, issuer: string, nowMs: number, lookup: Lookup): Promise<readonly TrustRule[]> {
  const known = lookup === "kept" ? keptRules.get(issuer, nowMs) : undefined;
  // That there are none is kept for bearers alone: a rule that is made now is to take the next token.
  if (known !== undefined && known.length > 0) return known;
  const rules = await listTrustRules(env.DB, issuer);
  if (rules.length > 0) keptRules.set(issuer, rules, nowMs + rightsKeptMs(env));
  else keptRules.delete(issuer);
  return rules;
}

/** By the token's hash: a memory that holds no credential gives none away. */
const keptTokens = new Kept<VerifiedToken>(ID_TOKENS_KEPT_MAX);

async function knownToken(token: string, issuer: string, nowMs: number): Promise<Verification> {
  const hash = createHash("sha256").update(token).digest("base64url");
  const known = keptTokens.get(hash, nowMs);
  if (known !== undefined) return known;
  const verified = await verifyIdToken(token, { issuer, keysUrl: null }, nowMs);
  if (verified.kind === "verified") {
    keptTokens.set(hash, verified, Math.min(nowMs + CREDENTIAL_KEPT_SECONDS * 1000, verified.expiresAtMs));
  }
  return verified;
}

/** The rules are asked for again: one of them was changed here. */
export function forgetTrustRules(): void {
  keptRules.clear();
}
