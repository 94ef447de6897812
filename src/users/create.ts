import { formatGrant } from "../access/grants.ts";
import { forgetLogins } from "../access/login.ts";
import { hashPassword } from "../access/password.ts";
import { insertAudit } from "../audit/store.ts";
import type { Requester } from "../requester.ts";
import { insertUser, isFree, selectUser, userOf } from "./store.ts";
import type { NewUser, User } from "./user.ts";

/**
 * One D1 batch.
 * @returns the user, or what of it another one has already
 */
export async function createUser(db: D1Database, user: NewUser, by: Requester): Promise<User | "name" | "email"> {
  const nowMs = Date.now();
  const { name, email = null } = user;
  const grants = user.grants.map(formatGrant);
  const password = user.password === undefined ? null : await hashPassword(user.password);
  const detail = { grants, ...(email === null ? {} : { email }), ...(password === null ? {} : { password: "set" }) };
  const results = await db.batch([
    insertAudit(db, by, { action: "user.create", reference: name, outcome: "ok", detail }, nowMs, isFree(name, email)),
    insertUser(db, name, { grants, email, password }, nowMs),
    selectUser(db, name),
  ]);
  // An address may be known here as nobody's.
  forgetLogins();
  const found = userOf(results.at(-1));
  if (found === null) return "email";
  return results.at(-2)?.meta.changes === 0 ? "name" : found;
}
