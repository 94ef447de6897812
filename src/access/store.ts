import { z } from "zod";
import { LAST_USED_STEP_SECONDS } from "../limits.ts";
import { type Grants, grantsSchema } from "./grants.ts";
import { type TrustRule } from "./trust-rule.ts";

/** A user as far as its login goes. */
export interface UserRow {
  readonly name: string;
  readonly grants: Grants;
  /** PBKDF2 hash; null: the user has no password */
  readonly password: string | null;
  readonly disabled: boolean;
}

/** An access token with its user. */
export interface AccessTokenRow {
  readonly id: string;
  readonly user: UserRow;
  /** null: all that its user may do */
  readonly grants: Grants | null;
  /** ms since 1970; null: it does not end by itself */
  readonly expiresAtMs: number | null;
  readonly revoked: boolean;
}

const storedGrants = z
  .string()
  .transform((text): unknown => JSON.parse(text))
  .pipe(grantsSchema);

const userSchema = z
  .object({
    name: z.string(),
    grants: storedGrants,
    password: z.string().nullable(),
    disabledAt: z.number().nullable(),
  })
  .transform(({ disabledAt, ...user }): UserRow => ({ ...user, disabled: disabledAt !== null }));

const tokenSchema = z
  .object({
    id: z.string(),
    tokenGrants: storedGrants.nullable(),
    expiresAt: z.number().nullable(),
    revokedAt: z.number().nullable(),
  })
  .and(userSchema)
  .transform(({ id, tokenGrants, expiresAt, revokedAt, ...user }): AccessTokenRow => ({
    id,
    user,
    grants: tokenGrants,
    expiresAtMs: expiresAt,
    revoked: revokedAt !== null,
  }));

const userColumns =
  "users.name AS name, users.grants AS grants, users.password AS password, users.disabled_at AS disabledAt";
const tokenColumns = `access_tokens.id AS id, access_tokens.grants AS tokenGrants, access_tokens.expires_at AS expiresAt,
  access_tokens.revoked_at AS revokedAt, ${userColumns}`;

/** By `hash` at a login, by `id` for a token that was given for it. Its use is noted in the same query. One D1 batch. */
export async function findAccessToken(
  db: D1Database,
  by: "hash" | "id",
  value: string,
  nowMs: number,
): Promise<AccessTokenRow | null> {
  const [found] = await db.batch([
    db
      .prepare(
        `SELECT ${tokenColumns} FROM access_tokens JOIN users ON users.id = access_tokens.user_id
         WHERE access_tokens.${by} = ?1`,
      )
      .bind(value),
    db
      .prepare(
        `UPDATE access_tokens SET last_used_at = ?2
         WHERE ${by} = ?1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?2)
           AND (last_used_at IS NULL OR last_used_at <= ?3)`,
      )
      .bind(value, nowMs, nowMs - LAST_USED_STEP_SECONDS * 1000),
  ]);
  const row = found?.results[0];
  return row === undefined ? null : tokenSchema.parse(row);
}

export async function findUser(db: D1Database, by: "name" | "email", value: string): Promise<UserRow | null> {
  const row = await db.prepare(`SELECT ${userColumns} FROM users WHERE ${by} = ?1`).bind(value).first();
  return row === null ? null : userSchema.parse(row);
}

const ruleSchema = z.object({
  name: z.string(),
  issuer: z.string(),
  audience: z.string(),
  conditions: z
    .string()
    .transform((text): unknown => JSON.parse(text))
    .pipe(z.record(z.string(), z.array(z.string()))),
  grants: storedGrants,
});

/** All rules of an issuer, by name. */
export async function listTrustRules(db: D1Database, issuer: string): Promise<readonly TrustRule[]> {
  const { results } = await db
    .prepare("SELECT name, issuer, audience, conditions, grants FROM trust_rules WHERE issuer = ?1 ORDER BY name")
    .bind(issuer)
    .all();
  return z.array(ruleSchema).parse(results);
}
