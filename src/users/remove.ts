import { deleteTokensOf } from "../access-tokens/store.ts";
import { forgetLogins } from "../access/login.ts";
import { insertAudit } from "../audit/store.ts";
import type { Requester } from "../requester.ts";
import { deleteUser, userExists } from "./store.ts";

/**
 * The user goes with its access tokens; holds as a change does. One D1 batch.
 * @returns whether there was the user
 */
export async function removeUser(db: D1Database, name: string, by: Requester): Promise<boolean> {
  const entry = { action: "user.delete", reference: name, outcome: "ok" } as const;
  const results = await db.batch([
    insertAudit(db, by, entry, Date.now(), userExists(name)),
    deleteTokensOf(db, name),
    deleteUser(db, name),
  ]);
  forgetLogins();
  return (results.at(-1)?.meta.changes ?? 0) > 0;
}
