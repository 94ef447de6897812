import { z } from "zod";
import type { SqlCondition } from "../sql.ts";
import type { AccessToken } from "./token.ts";

const rowSchema = z
  .object({
    id: z.string(),
    name: z.string(),
    grants: z
      .string()
      .transform((text): unknown => JSON.parse(text))
      .pipe(z.array(z.string()))
      .nullable(),
    createdAt: z.number(),
    expiresAt: z.number().nullable(),
    lastUsedAt: z.number().nullable(),
    revokedAt: z.number().nullable(),
  })
  .transform(({ createdAt, expiresAt, lastUsedAt, revokedAt, ...row }): AccessToken => ({
    ...row,
    createdAt: new Date(createdAt).toISOString(),
    expiresAt: isoOrNull(expiresAt),
    lastUsedAt: isoOrNull(lastUsedAt),
    revokedAt: isoOrNull(revokedAt),
  }));

function isoOrNull(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString();
}

/**
 * A user's tokens after an id, the oldest first: an id begins with its time. D1: 1.
 * @returns null where there is no such user
 */
export async function listTokens(
  db: D1Database,
  user: string,
  after: string,
  limit: number,
): Promise<readonly AccessToken[] | null> {
  const { results } = await db
    .prepare(
      `SELECT access_tokens.id, access_tokens.name, access_tokens.grants, access_tokens.created_at AS createdAt,
         expires_at AS expiresAt, last_used_at AS lastUsedAt, revoked_at AS revokedAt
       FROM users LEFT JOIN access_tokens ON access_tokens.user_id = users.id AND access_tokens.id > ?2
       WHERE users.name = ?1 ORDER BY access_tokens.id LIMIT ?3`,
    )
    .bind(user, after, limit)
    .all();
  if (results.length === 0) return null;
  return results.filter(({ id }) => id !== null).map((row) => rowSchema.parse(row));
}

/** A token as it is written. */
export interface WrittenToken {
  readonly id: string;
  readonly user: string;
  readonly name: string;
  /** keyed: see access/access-token.ts */
  readonly hash: string;
  /** as their texts */
  readonly grants: readonly string[] | null;
  /** ms */
  readonly expiresAtMs: number | null;
}

/** Does nothing where there is no such user. */
export function insertToken(db: D1Database, token: WrittenToken, nowMs: number): D1PreparedStatement {
  const { id, user, name, hash, grants, expiresAtMs } = token;
  return db
    .prepare(
      `INSERT INTO access_tokens (id, user_id, name, hash, grants, created_at, expires_at)
       SELECT ?2, id, ?3, ?4, ?5, ?6, ?7 FROM users WHERE name = ?1`,
    )
    .bind(user, id, name, hash, grants === null ? null : JSON.stringify(grants), nowMs, expiresAtMs);
}

const usersToken = "id = ?1 AND user_id = (SELECT id FROM users WHERE name = ?2)";

/** The user's token is there and good, but for its end. */
export function isUnrevoked(user: string, id: string): SqlCondition {
  return {
    sql: `EXISTS (SELECT 1 FROM access_tokens WHERE ${usersToken} AND revoked_at IS NULL)`,
    values: [id, user],
  };
}

/** Changes a row wherever there is the token; the first time stays. */
export function revokeToken(db: D1Database, user: string, id: string, nowMs: number): D1PreparedStatement {
  return db
    .prepare(`UPDATE access_tokens SET revoked_at = COALESCE(revoked_at, ?3) WHERE ${usersToken}`)
    .bind(id, user, nowMs);
}

export function deleteTokensOf(db: D1Database, user: string): D1PreparedStatement {
  return db.prepare("DELETE FROM access_tokens WHERE user_id = (SELECT id FROM users WHERE name = ?1)").bind(user);
}
