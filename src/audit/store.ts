import { z } from "zod";
import type { Requester } from "../requester.ts";
import type { SqlCondition } from "../sql.ts";
import { type AuditAction, type AuditFilter, auditOutcomes, type AuditOutcome, type AuditRecord } from "./record.ts";

/** What was done, or tried. */
export interface AuditEntry {
  readonly action: AuditAction;
  readonly repository?: string;
  /** a tag, or what else named it in the request */
  readonly reference?: string;
  readonly digest?: string;
  readonly outcome: AuditOutcome;
  readonly detail?: Readonly<Record<string, unknown>>;
}

/**
 * A statement for the batch of the change itself, so that neither is ever without the other.
 * @param onlyIf holds where the change is made
 */
export function insertAudit(
  db: D1Database,
  by: Requester,
  entry: AuditEntry,
  nowMs: number,
  onlyIf: SqlCondition = { sql: "1", values: [] },
): D1PreparedStatement {
  const values = [
    nowMs,
    by.principal.name,
    by.principal.tokenId,
    by.address,
    by.requestId,
    entry.action,
    entry.repository ?? null,
    entry.reference ?? null,
    entry.digest ?? null,
    entry.outcome,
    entry.detail === undefined ? null : JSON.stringify(entry.detail),
  ];
  const parameters = values.map((_, index) => `?${String(onlyIf.values.length + index + 1)}`).join(", ");
  return db
    .prepare(
      `INSERT INTO audit (created_at, principal, token_id, address, request_id, action, repository, reference, digest,
                          outcome, detail)
       SELECT ${parameters} WHERE ${onlyIf.sql}`,
    )
    .bind(...onlyIf.values, ...values);
}

export function deleteAuditBefore(db: D1Database, beforeMs: number, limit: number): D1PreparedStatement {
  return db
    .prepare("DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE created_at < ?1 ORDER BY created_at LIMIT ?2)")
    .bind(beforeMs, limit);
}

const rowSchema = z
  .object({
    id: z.number(),
    createdAt: z.number(),
    principal: z.string(),
    tokenId: z.string().nullable(),
    address: z.string().nullable(),
    requestId: z.string(),
    action: z.string(),
    repository: z.string().nullable(),
    reference: z.string().nullable(),
    digest: z.string().nullable(),
    outcome: z.enum(auditOutcomes),
    detail: z
      .string()
      .transform((text): unknown => JSON.parse(text))
      .pipe(z.record(z.string(), z.unknown()))
      .nullable(),
  })
  .transform(({ createdAt, ...row }): AuditRecord => ({ ...row, createdAt: new Date(createdAt).toISOString() }));

/**
 * What was noted, the newest first. Each index of one column ends with the time, so whatever is asked is read in order,
 * and no further than the page. D1: 1.
 */
export async function listAudit(db: D1Database, filter: AuditFilter, limit: number): Promise<readonly AuditRecord[]> {
  const { results } = await selectAudit(db, filter, limit).all();
  return results.map((row) => rowSchema.parse(row));
}

export function selectAudit(db: D1Database, filter: AuditFilter, limit: number): D1PreparedStatement {
  const conditions = conditionsOf(filter);
  const where = conditions.length === 0 ? "" : `WHERE ${conditions.map(({ sql }) => sql).join(" AND ")}`;
  return db
    .prepare(
      `SELECT id, created_at AS createdAt, principal, token_id AS tokenId, address, request_id AS requestId, action,
         repository, reference, digest, outcome, detail
       FROM audit ${where} ORDER BY created_at DESC, id DESC LIMIT ?`,
    )
    .bind(...conditions.flatMap(({ value }) => value ?? []), limit);
}

interface Condition {
  readonly sql: string;
  readonly value?: string | number | readonly number[];
}

function conditionsOf({ principal, action, repository, outcome, since, until, before }: AuditFilter): Condition[] {
  return [
    ...(principal === undefined ? [] : [{ sql: "principal = ?", value: principal }]),
    ...(action === undefined ? [] : [{ sql: "action = ?", value: action }]),
    ...(repository === undefined ? [] : [{ sql: "repository = ?", value: repository }]),
    // Not as a parameter: the refusals have an index of their own, which only this very text finds.
    ...(outcome === undefined ? [] : [{ sql: outcome === "refused" ? "outcome = 'refused'" : "outcome = 'ok'" }]),
    ...(since === undefined ? [] : [{ sql: "created_at >= ?", value: since }]),
    ...(until === undefined ? [] : [{ sql: "created_at < ?", value: until }]),
    // One that is gone by now took with it all that was older.
    ...(before === undefined
      ? []
      : [{ sql: "(created_at, id) < ((SELECT created_at FROM audit WHERE id = ?), ?)", value: [before, before] }]),
  ];
}

/** A pull, as it waits for its batch. */
export interface PullRow {
  readonly by: Requester;
  readonly repository: string;
  readonly reference: string | null;
  readonly digest: string;
  /** ms since 1970 */
  readonly nowMs: number;
}

/** Many pulls as one statement, and one value: D1 takes a hundred parameters. */
export function insertPulls(db: D1Database, pulls: readonly PullRow[]): D1PreparedStatement {
  const rows = pulls.map(({ by, repository, reference, digest, nowMs }) => [
    nowMs,
    by.principal.name,
    by.principal.tokenId,
    by.address,
    by.requestId,
    repository,
    reference,
    digest,
  ]);
  return db
    .prepare(
      `INSERT INTO audit (created_at, principal, token_id, address, request_id, action, repository, reference, digest,
                          outcome)
       SELECT ${pullFields(0, 5)}, 'manifest.pull', ${pullFields(5, 8)}, 'ok'
       FROM json_each(?1)`,
    )
    .bind(JSON.stringify(rows));
}

function pullFields(start: number, end: number): string {
  const fields = Array.from(
    { length: end - start },
    (_, index) => `json_extract(value, '$[${String(start + index)}]')`,
  );
  return fields.join(", ");
}
