import { hashAccessToken, newAccessToken } from "../access/access-token.ts";
import { formatGrant } from "../access/grants.ts";
import { secretsOf } from "../access/secrets.ts";
import { insertAudit } from "../audit/store.ts";
import type { Requester } from "../requester.ts";
import { insertToken } from "./store.ts";
import type { CreatedToken, NewToken } from "./token.ts";

const DAY_MS = 86_400_000;

/**
 * The token itself is in what is returned, and nowhere else. One D1 batch.
 * @returns null where there is no such user
 */
export async function createToken(
  env: Env,
  user: string,
  wanted: NewToken,
  by: Requester,
): Promise<CreatedToken | null> {
  const nowMs = Date.now();
  const { name, expiresInDays } = wanted;
  const id = newTokenId(nowMs);
  const token = newAccessToken();
  const hash = hashAccessToken(token, secretsOf(env).TOKEN_KEY);
  const grants = wanted.grants?.map(formatGrant) ?? null;
  const expiresAtMs = expiresInDays === undefined ? null : nowMs + expiresInDays * DAY_MS;
  const expiresAt = expiresAtMs === null ? null : new Date(expiresAtMs).toISOString();
  const results = await env.DB.batch([
    insertToken(env.DB, { id, user, name, hash, grants, expiresAtMs }, nowMs),
    insertAudit(
      env.DB,
      by,
      { action: "token.create", reference: id, outcome: "ok", detail: { user, name, grants, expiresAt } },
      nowMs,
      { sql: "EXISTS (SELECT 1 FROM access_tokens WHERE id = ?1)", values: [id] },
    ),
  ]);
  if (results[0]?.meta.changes === 0) return null;
  return { id, token, name, grants, createdAt: new Date(nowMs).toISOString(), expiresAt };
}

/** A UUID of version 7, RFC 9562 section 5.7: it begins with its time, so that tokens are listed as they were made. */
function newTokenId(nowMs: number): string {
  const time = nowMs.toString(16).padStart(12, "0");
  const random = crypto.randomUUID().slice("xxxxxxxx-xxxx-4".length);
  return `${time.slice(0, 8)}-${time.slice(8)}-7${random}`;
}
