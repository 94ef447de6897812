import { Kept } from "../access/kept.ts";
import { insertAudit } from "../audit/store.ts";
import { LOGIN_NOTED_SECONDS, LOGINS_NOTED_KEPT_MAX } from "../limits.ts";
import type { Requester } from "../requester.ts";

/** Whose logins this isolate has noted lately, and from where. */
const noted = new Kept<true>(LOGINS_NOTED_KEPT_MAX);

/**
 * Notes who logged in at /token, beside the answer. Clients log in for each image that they pull: noted each time, that would
 * cost three times what the pull does. So of one principal, with one token, at one address, the first is noted
 * and then none for LOGIN_NOTED_SECONDS, by each isolate.
 * D1: 1, or 0.
 */
export function noteLogin(
  env: Pick<Env, "DB">,
  context: Pick<ExecutionContext, "waitUntil">,
  by: Requester,
  nowMs: number,
): void {
  const { principal, address } = by;
  const key = JSON.stringify([principal.name, principal.tokenId, address]);
  if (noted.get(key, nowMs) === true) return;
  noted.set(key, true, nowMs + LOGIN_NOTED_SECONDS * 1000);
  const insert = async (): Promise<void> => {
    try {
      await insertAudit(env.DB, by, { action: "login", outcome: "ok" }, nowMs).run();
    } catch (error) {
      noted.delete(key);
      throw error;
    }
  };
  context.waitUntil(insert());
}
