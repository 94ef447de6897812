import type { VerifiedBearer } from "./bearer.ts";
import { rightsKeptMs } from "./kept-time.ts";
import { authorityOf, knownAuthority } from "./login.ts";
import type { Authority } from "./policy.ts";
import { administrator, anonymous } from "../requester.ts";
import { authorityOfRules, knownAuthorityOfRules } from "./workload-identity.ts";

/**
 * How it stands by now with whom a bearer was given to: what was taken away since then ends with the time that an isolate
 * knows rights for (CACHE_TTL, 60 s at most), not with the bearer.
 *
 * `as given`: no longer ago than that, or to somebody of whom nothing is kept here. `ended`: there is no such user or
 * access token any more, or no trust rule that took the job. Else all that the holder may do.
 */
export type Standing = "as given" | "ended" | Authority;

/** @returns undefined where D1 is to be asked, by `standingOf` */
export function knownStanding(env: Env, bearer: VerifiedBearer, nowMs: number): Standing | undefined {
  const { principal, rules, issuedAtMs } = bearer;
  if (nowMs - issuedAtMs < rightsKeptMs(env)) return "as given";
  if (principal.name === administrator.name || principal.name === anonymous.name) return "as given";
  const known = rules === null ? knownAuthority(principal, nowMs) : knownAuthorityOfRules(principal, rules, nowMs);
  return known === null ? "ended" : known;
}

/** D1: 1, for all bearers of a principal in this isolate, until the time is over again. */
export async function standingOf(env: Env, { principal, rules }: VerifiedBearer, nowMs: number): Promise<Standing> {
  const authority =
    rules === null ? await authorityOf(env, principal, nowMs) : await authorityOfRules(env, principal, rules, nowMs);
  return authority ?? "ended";
}
