import { insertAudit } from "../audit/store.ts";
import { REFUSAL_NOTED_SECONDS, REFUSALS_KEPT_MAX } from "../limits.ts";
import { OciError } from "../oci/errors.ts";
import { countFailedLogin } from "./brakes.ts";
import { Kept } from "./kept.ts";
import { adminName, type UnknownLogin } from "./login.ts";
import type { Requester } from "../requester.ts";
import type { SqlCondition } from "../sql.ts";

/** What failed by nobody's fault, and was noted lately. */
const notedLately = new Kept<true>(REFUSALS_KEPT_MAX);

/**
 * Notes a login that failed, and counts it. What is nobody's fault does not count, so that its notes have to be bounded
 * here: one in a while for each reason. D1: 1 or 0.
 * @param user the name that was given: it is noted where it is a user's, for some send a secret in its place
 * @throws OciError TOOMANYREQUESTS where its address is braked by now: nothing is noted then
 */
export async function refuseLogin(
  env: Env,
  by: Requester,
  user: string,
  { reason, noted = reason, blameless = false, of = by.principal }: UnknownLogin,
): Promise<OciError> {
  const nowMs = Date.now();
  if (!blameless) await countFailedLogin(env, by.address, nowMs);
  if (!blameless || notedLately.get(noted, nowMs) === undefined) {
    if (blameless) notedLately.set(noted, true, nowMs + REFUSAL_NOTED_SECONDS * 1000);
    const entry = (told: string | null) =>
      ({ action: "login", outcome: "refused", detail: { user: told, reason: noted } }) as const;
    const who = { ...by, principal: of };
    const known: SqlCondition = {
      sql: "(?1 = ?2 OR EXISTS (SELECT 1 FROM users WHERE name = ?1))",
      values: [user, adminName],
    };
    await env.DB.batch([
      insertAudit(env.DB, who, entry(user), nowMs, known),
      insertAudit(env.DB, who, entry(null), nowMs, { ...known, sql: `NOT ${known.sql}` }),
    ]);
  }
  // No challenge: the same credentials would fare no better at /token.
  return new OciError("UNAUTHORIZED", { reason }, { headers: { "WWW-Authenticate": 'Basic realm="moorage"' } });
}
