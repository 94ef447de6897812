import { z } from "zod";
import { TRUST_RULES_MAX } from "../limits.ts";
import type { SqlCondition } from "../sql.ts";
import { ruleSchema, type ToldTrustRule } from "./rule.ts";

const columns = "name, issuer, audience, conditions, grants, created_at AS createdAt";

const json = z.string().transform((text): unknown => JSON.parse(text));

const rowSchema = z
  .object({ ...ruleSchema.shape, conditions: json, grants: json, createdAt: z.number() })
  .transform(({ createdAt, ...row }) => ({ ...row, createdAt: new Date(createdAt).toISOString() }))
  .pipe(ruleSchema);

/** The rules after a name, in byte order. D1: 1. */
export async function listRules(db: D1Database, after: string, limit: number): Promise<readonly ToldTrustRule[]> {
  const { results } = await db
    .prepare(`SELECT ${columns} FROM trust_rules WHERE name > ?1 ORDER BY name LIMIT ?2`)
    .bind(after, limit)
    .all();
  return results.map((row) => rowSchema.parse(row));
}

/** D1: 1. */
export async function findRule(db: D1Database, name: string): Promise<ToldTrustRule | null> {
  const row = await selectRule(db, name).first();
  return row === null ? null : rowSchema.parse(row);
}

/** A rule as a row, for a batch; `ruleOf` reads it. */
export function selectRule(db: D1Database, name: string): D1PreparedStatement {
  return db.prepare(`SELECT ${columns} FROM trust_rules WHERE name = ?1`).bind(name);
}

/** @returns null where `selectRule` found none */
export function ruleOf(result: D1Result | undefined): ToldTrustRule | null {
  const row = result?.results[0];
  return row === undefined ? null : rowSchema.parse(row);
}

export function ruleExists(name: string): SqlCondition {
  return { sql: "EXISTS (SELECT 1 FROM trust_rules WHERE name = ?1)", values: [name] };
}

/** No rule has the name, and there are not yet too many of them. */
export function mayBeMade(name: string): SqlCondition {
  return {
    sql: `NOT EXISTS (SELECT 1 FROM trust_rules WHERE name = ?1) AND (SELECT COUNT(*) FROM trust_rules) < ?2`,
    values: [name, TRUST_RULES_MAX],
  };
}

/** What is written of a rule. */
export interface WrittenRule {
  readonly issuer: string;
  readonly audience: string;
  readonly conditions: Readonly<Record<string, readonly string[]>>;
  /** as their texts */
  readonly grants: readonly string[];
}

/** Does nothing where the rule may not be made. */
export function insertRule(
  db: D1Database,
  name: string,
  { issuer, audience, conditions, grants }: WrittenRule,
  nowMs: number,
): D1PreparedStatement {
  const allowed = mayBeMade(name);
  return db
    .prepare(
      `INSERT INTO trust_rules (name, issuer, audience, conditions, grants, created_at)
       SELECT ?1, ?3, ?4, ?5, ?6, ?7 WHERE ${allowed.sql}`,
    )
    .bind(...allowed.values, issuer, audience, JSON.stringify(conditions), JSON.stringify(grants), nowMs);
}

/** A field that is left out stays as it is. Does nothing where there is no such rule. */
export function updateRule(db: D1Database, name: string, written: Partial<WrittenRule>): D1PreparedStatement {
  const { issuer, audience, conditions, grants } = written;
  return db
    .prepare(
      `UPDATE trust_rules SET issuer = COALESCE(?2, issuer), audience = COALESCE(?3, audience),
         conditions = COALESCE(?4, conditions), grants = COALESCE(?5, grants)
       WHERE name = ?1`,
    )
    .bind(
      name,
      issuer ?? null,
      audience ?? null,
      conditions === undefined ? null : JSON.stringify(conditions),
      grants === undefined ? null : JSON.stringify(grants),
    );
}

export function deleteRule(db: D1Database, name: string): D1PreparedStatement {
  return db.prepare("DELETE FROM trust_rules WHERE name = ?1").bind(name);
}
