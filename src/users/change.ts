import { formatGrant } from "../access/grants.ts";
import { forgetLogins } from "../access/login.ts";
import { hashPassword } from "../access/password.ts";
import { insertAudit } from "../audit/store.ts";
import type { Requester } from "../requester.ts";
import { mayHaveEmail, selectUser, updateUser, userOf } from "./store.ts";
import type { User, UserChange } from "./user.ts";

/**
 * Holds in this isolate at once; elsewhere, and for bearers that are out, within `rightsKeptMs`. One D1 batch.
 * @returns the user as it is now; null where there is none; `email` where another one has that
 */
export async function changeUser(
  db: D1Database,
  name: string,
  change: UserChange,
  by: Requester,
): Promise<User | "email" | null> {
  const nowMs = Date.now();
  const written = await writtenOf(change);
  const { password, ...told } = written;
  const detail = {
    ...told,
    ...(password === undefined ? {} : { password: password === null ? "removed" : "set" }),
  };
  const allowed = mayHaveEmail(name, change.email ?? null);
  const results = await db.batch([
    insertAudit(db, by, { action: "user.change", reference: name, outcome: "ok", detail }, nowMs, allowed),
    updateUser(db, name, written, nowMs),
    selectUser(db, name),
  ]);
  forgetLogins();
  const found = userOf(results.at(-1));
  return found !== null && results.at(-2)?.meta.changes === 0 ? "email" : found;
}

async function writtenOf({ grants, email, password, disabled }: UserChange) {
  return {
    ...(grants === undefined ? {} : { grants: grants.map(formatGrant) }),
    ...(email === undefined ? {} : { email }),
    ...(password === undefined ? {} : { password: password === null ? null : await hashPassword(password) }),
    ...(disabled === undefined ? {} : { disabled }),
  };
}
