import type { VerifiedBearer } from "./bearer.ts";
import { rightsKeptMs } from "./kept-time.ts";
import { authorityOf, knownAuthority } from "./login.ts";
import type { Authority } from "./policy.ts";
import { adminProof } from "./proof.ts";
import { administrator, anonymous } from "../requester.ts";
import { secretsOf } from "./secrets.ts";
import { authorityOfRules, knownAuthorityOfRules } from "./workload-identity.ts";

/**
 * How it stands by now with whom a bearer was given to: what was taken away since then ends with the time that an isolate
 * knows rights for (CACHE_TTL, 60 s at most), not with the bearer.
 *
 * `as given`: it was given no longer ago than that, or to the administrator, whose password it still is. `ended`: there is
 * no such user or access token any more, the password is another, or no trust rule is left that took the job. Else all
 * that the holder may do.
 */
export type Standing = "as given" | "ended" | Pick<Authority, "admin" | "grants">;

const nobody = { admin: false, grants: [] };

/** @returns undefined where D1 is to be asked, by `standingOf` */
export function knownStanding(env: Env, bearer: VerifiedBearer, nowMs: number): Standing | undefined {
  const { principal, rules, proof, issuedAtMs } = bearer;
  if (nowMs - issuedAtMs < rightsKeptMs(env)) return "as given";
  if (principal.name === anonymous.name) return nobody;
  if (principal.name === administrator.name) return proof === adminProof(secretsOf(env)) ? "as given" : "ended";
  const known = rules === null ? knownAuthority(principal, nowMs) : knownAuthorityOfRules(principal, rules, nowMs);
  return known === undefined ? undefined : judge(bearer, known);
}

/** D1: 1, of which all bearers of a principal in this isolate have the answer until the time is over again. */
export async function standingOf(env: Env, bearer: VerifiedBearer, nowMs: number): Promise<Standing> {
  const { principal, rules } = bearer;
  const authority =
    rules === null ? await authorityOf(env, principal, nowMs) : await authorityOfRules(env, principal, rules, nowMs);
  return judge(bearer, authority);
}

function judge({ proof }: VerifiedBearer, authority: Authority | null): Standing {
  return authority === null || authority.proof !== proof ? "ended" : authority;
}
