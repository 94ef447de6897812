import { forgetLogins } from "../access/login.ts";
import { insertAudit } from "../audit/store.ts";
import type { Requester } from "../requester.ts";
import { isUnrevoked, revokeToken } from "./store.ts";

/**
 * Holds in this isolate at once; elsewhere, and for the token's bearers that are out, within `rightsKeptMs`. To revoke
 * what is revoked changes nothing. One D1 batch.
 * @returns whether that user has, or had, the token
 */
export async function revokeAccessToken(db: D1Database, user: string, id: string, by: Requester): Promise<boolean> {
  const nowMs = Date.now();
  const entry = { action: "token.revoke", reference: id, outcome: "ok", detail: { user } } as const;
  const results = await db.batch([
    insertAudit(db, by, entry, nowMs, isUnrevoked(user, id)),
    revokeToken(db, user, id, nowMs),
  ]);
  forgetLogins();
  return (results.at(-1)?.meta.changes ?? 0) > 0;
}
