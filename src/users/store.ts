import { z } from "zod";
import type { SqlCondition } from "../sql.ts";
import type { User } from "./user.ts";

const columns =
  "name, grants, email, password IS NOT NULL AS hasPassword, disabled_at AS disabledAt, created_at AS createdAt";

const rowSchema = z
  .object({
    name: z.string(),
    grants: z
      .string()
      .transform((text): unknown => JSON.parse(text))
      .pipe(z.array(z.string())),
    email: z.string().nullable(),
    hasPassword: z.number(),
    disabledAt: z.number().nullable(),
    createdAt: z.number(),
  })
  .transform(({ hasPassword, disabledAt, createdAt, ...row }): User => ({
    ...row,
    hasPassword: hasPassword !== 0,
    disabled: disabledAt !== null,
    createdAt: new Date(createdAt).toISOString(),
  }));

/** The users after a name, in byte order. D1: 1. */
export async function listUsers(db: D1Database, after: string, limit: number): Promise<readonly User[]> {
  const { results } = await db
    .prepare(`SELECT ${columns} FROM users WHERE name > ?1 ORDER BY name LIMIT ?2`)
    .bind(after, limit)
    .all();
  return results.map((row) => rowSchema.parse(row));
}

/** D1: 1. */
export async function findUser(db: D1Database, name: string): Promise<User | null> {
  const row = await selectUser(db, name).first();
  return row === null ? null : rowSchema.parse(row);
}

/** A user as a row, for a batch; `userOf` reads it. */
export function selectUser(db: D1Database, name: string): D1PreparedStatement {
  return db.prepare(`SELECT ${columns} FROM users WHERE name = ?1`).bind(name);
}

/** @returns null where `selectUser` found none */
export function userOf(result: D1Result | undefined): User | null {
  const row = result?.results[0];
  return row === undefined ? null : rowSchema.parse(row);
}

export function userExists(name: string): SqlCondition {
  return { sql: "EXISTS (SELECT 1 FROM users WHERE name = ?1)", values: [name] };
}

/** @param email null: none is asked for, which is always free */
export function isFree(name: string, email: string | null): SqlCondition {
  return { sql: "NOT EXISTS (SELECT 1 FROM users WHERE name = ?1 OR email = ?2)", values: [name, email] };
}

/** The user is there, and nobody else has the address. */
export function mayHaveEmail(name: string, email: string | null): SqlCondition {
  return {
    sql: `EXISTS (SELECT 1 FROM users WHERE name = ?1)
      AND NOT EXISTS (SELECT 1 FROM users WHERE email = ?2 AND name <> ?1)`,
    values: [name, email],
  };
}

/** What is written of a user; a field that is left out stays as it is. */
export interface WrittenUser {
  /** as their texts */
  readonly grants?: readonly string[];
  readonly email?: string | null;
  /** its hash */
  readonly password?: string | null;
  readonly disabled?: boolean;
}

/** Does nothing where the name or the address is taken. */
export function insertUser(
  db: D1Database,
  name: string,
  { grants = [], email = null, password = null }: WrittenUser,
  nowMs: number,
): D1PreparedStatement {
  const free = isFree(name, email);
  return db
    .prepare(
      `INSERT INTO users (name, email, password, grants, created_at) SELECT ?1, ?2, ?3, ?4, ?5 WHERE ${free.sql}`,
    )
    .bind(...free.values, password, JSON.stringify(grants), nowMs);
}

/** Does nothing where there is no such user, or somebody else has the address. */
export function updateUser(db: D1Database, name: string, written: WrittenUser, nowMs: number): D1PreparedStatement {
  const allowed = mayHaveEmail(name, written.email ?? null);
  const assignments = assignmentsOf(written, nowMs);
  const set = assignments.map(({ sql }, index) => sql.replace("?", `?${String(allowed.values.length + index + 1)}`));
  return db
    .prepare(`UPDATE users SET ${set.join(", ")} WHERE name = ?1 AND ${allowed.sql}`)
    .bind(...allowed.values, ...assignments.map(({ value }) => value));
}

function assignmentsOf({ grants, email, password, disabled }: WrittenUser, nowMs: number) {
  return [
    ...(grants === undefined ? [] : [{ sql: "grants = ?", value: JSON.stringify(grants) }]),
    ...(email === undefined ? [] : [{ sql: "email = ?", value: email }]),
    ...(password === undefined ? [] : [{ sql: "password = ?", value: password }]),
    ...(disabled === true ? [{ sql: "disabled_at = COALESCE(disabled_at, ?)", value: nowMs }] : []),
    ...(disabled === false ? [{ sql: "disabled_at = ?", value: null }] : []),
  ];
}

/** Its access tokens go before it. */
export function deleteUser(db: D1Database, name: string): D1PreparedStatement {
  return db.prepare("DELETE FROM users WHERE name = ?1").bind(name);
}
