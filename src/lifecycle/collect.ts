import { deleteAuditBefore } from "../audit/store.ts";
import { deleteTombstones, insertGarbage, isUnheldObject } from "../blobs/garbage.ts";
import { firstKeyAt, type KeyPrefix, keyPrefixes } from "../blobs/keys.ts";
import { deleteEventsBefore } from "../events/outbox.ts";
import {
  AUDIT_BACKLOG_SECONDS,
  COLLECTOR_STEP_ROWS,
  COLLECTOR_STEPS_PER_KIND,
  EVENT_RETENTION_SECONDS,
  SWEEP_MARGIN_SECONDS,
  TOMBSTONE_SECONDS,
} from "../limits.ts";
import { deleteUploadStates } from "../uploads/store.ts";

export interface CollectOptions {
  readonly graceSeconds: number;
  readonly uploadTtlSeconds: number;
  readonly auditRetentionSeconds: number;
  /** ms since 1970 */
  readonly nowMs: number;
  /** also look through R2 for objects that no row names: what a crash left behind */
  readonly sweep: boolean;
}

/** A step does a bounded piece of work and says whether there may be more of it. */
export type CollectStep = () => Promise<boolean>;

/**
 * One pass of the collector, which may stop after any step, or be killed in one: each is a transaction of its own, and
 * the next pass goes on. Why a push that runs at the same moment loses nothing is in src/lifecycle/README.md.
 * D1: 1 query where there is nothing to do.
 */
export async function collect(env: Env, options: CollectOptions): Promise<void> {
  if (!options.sweep && !(await hasWork(env.DB, options))) return;
  for (const step of collectSteps(env, options)) {
    for (let steps = 0; steps < COLLECTOR_STEPS_PER_KIND; steps++) if (!(await step())) break;
  }
}

/** The steps of a pass in their order. What was condemned in one pass is removed by a later one at the earliest. */
export function collectSteps(env: Env, options: CollectOptions): CollectStep[] {
  const cutoffMs = options.nowMs - options.graceSeconds * 1000;
  return [
    async () => removeCondemned(env.DB, cutoffMs, options.nowMs),
    async () => condemn(env.DB, cutoffMs, options.nowMs),
    async () => removeUnheldBlobs(env.DB, options.nowMs),
    async () => emptyGarbage(env, options.nowMs),
    ...(options.sweep ? keyPrefixes.map((prefix) => async () => sweep(env, prefix, options)) : []),
    async () => prune(env.DB, options),
  ];
}

/** No manifest of the repository names the blob of the row `repository_blobs`. */
const unnamed = `NOT EXISTS (
  SELECT 1 FROM blobs JOIN manifest_references AS edge ON edge.digest = blobs.digest
  WHERE blobs.id = repository_blobs.blob_id AND edge.repository_id = repository_blobs.repository_id)`;

/** No repository has the blob; and its object is not kept for who looks into what is wrong with it. */
const unheld = `NOT EXISTS (SELECT 1 FROM repository_blobs WHERE repository_blobs.blob_id = blobs.id)
  AND ${isUnheldObject("blobs.object_key")}`;

async function hasWork(db: D1Database, options: CollectOptions): Promise<boolean> {
  const cutoffMs = options.nowMs - options.graceSeconds * 1000;
  const row = await db
    .prepare(
      `SELECT EXISTS (SELECT 1 FROM repository_blobs WHERE condemned_at <= ?1)
           OR EXISTS (SELECT 1 FROM repository_blobs WHERE suspect_at <= ?1)
           OR EXISTS (SELECT 1 FROM blobs WHERE suspect_at IS NOT NULL)
           OR EXISTS (SELECT 1 FROM garbage WHERE deleted_at IS NULL)
           OR EXISTS (SELECT 1 FROM audit WHERE created_at < ?2) AS found`,
    )
    .bind(cutoffMs, options.nowMs - (options.auditRetentionSeconds + AUDIT_BACKLOG_SECONDS) * 1000)
    .first<{ found: number }>();
  return row?.found === 1;
}

/** Second phase: what has been condemned for the whole grace leaves its repository. */
async function removeCondemned(db: D1Database, cutoffMs: number, nowMs: number): Promise<boolean> {
  const chosen = `SELECT repository_id, blob_id FROM repository_blobs
    WHERE condemned_at <= ?1 AND ${unnamed} ORDER BY condemned_at LIMIT ${String(COLLECTOR_STEP_ROWS)}`;
  const results = await db.batch([
    db.prepare(`UPDATE blobs SET suspect_at = ?2 WHERE id IN (SELECT blob_id FROM (${chosen}))`).bind(cutoffMs, nowMs),
    db.prepare(`DELETE FROM repository_blobs WHERE (repository_id, blob_id) IN (${chosen})`).bind(cutoffMs),
  ]);
  return (results.at(-1)?.meta.changes ?? 0) >= COLLECTOR_STEP_ROWS;
}

/** First phase: suspects that a manifest names are cleared, the others condemned. */
async function condemn(db: D1Database, cutoffMs: number, nowMs: number): Promise<boolean> {
  const chosen = `SELECT repository_id, blob_id FROM repository_blobs
    WHERE suspect_at <= ?1 ORDER BY suspect_at LIMIT ${String(COLLECTOR_STEP_ROWS)}`;
  const results = await db.batch([
    db
      .prepare(
        `UPDATE repository_blobs SET condemned_at = ?2, suspect_at = NULL
         WHERE (repository_id, blob_id) IN (${chosen}) AND ${unnamed}`,
      )
      .bind(cutoffMs, nowMs),
    db
      .prepare(
        `UPDATE repository_blobs SET suspect_at = NULL WHERE (repository_id, blob_id) IN (${chosen}) AND NOT (${unnamed})`,
      )
      .bind(cutoffMs),
  ]);
  return results.reduce((sum, result) => sum + result.meta.changes, 0) >= COLLECTOR_STEP_ROWS;
}

/** Blobs that no repository has: their row goes, and their key becomes garbage in the same transaction. */
async function removeUnheldBlobs(db: D1Database, nowMs: number): Promise<boolean> {
  const chosen = `SELECT id FROM blobs WHERE suspect_at IS NOT NULL ORDER BY suspect_at LIMIT ${String(COLLECTOR_STEP_ROWS)}`;
  const results = await db.batch([
    db
      .prepare(
        `INSERT INTO garbage (object_key, created_at)
         SELECT object_key, ?1 FROM blobs WHERE id IN (${chosen}) AND ${unheld}
         ON CONFLICT (object_key) DO NOTHING`,
      )
      .bind(nowMs),
    // Cleared before the others are deleted: both must look at the same rows.
    db.prepare(`UPDATE blobs SET suspect_at = NULL WHERE id IN (${chosen}) AND NOT (${unheld})`),
    db.prepare("DELETE FROM blobs WHERE object_key IN (SELECT object_key FROM garbage WHERE deleted_at IS NULL)"),
  ]);
  return results.slice(1).reduce((sum, result) => sum + result.meta.changes, 0) >= COLLECTOR_STEP_ROWS;
}

/**
 * R2 first, the row after: a crash between repeats the deletion, which is harmless, for keys are never used again. The row
 * stays as a tombstone, so that a commit that was slower than all this still can't name the key.
 */
async function emptyGarbage(env: Pick<Env, "DB" | "BLOBS">, nowMs: number): Promise<boolean> {
  const { results } = await env.DB.prepare(
    `SELECT object_key AS objectKey FROM garbage WHERE deleted_at IS NULL LIMIT ${String(COLLECTOR_STEP_ROWS)}`,
  ).all<{ objectKey: string }>();
  if (results.length === 0) return false;
  const keys = results.map((row) => row.objectKey);
  await env.BLOBS.delete(keys);
  await env.DB.prepare("UPDATE garbage SET deleted_at = ?2 WHERE object_key IN (SELECT value FROM json_each(?1))")
    .bind(JSON.stringify(keys), nowMs)
    .run();
  return keys.length >= COLLECTOR_STEP_ROWS;
}

/**
 * Objects that a crash left between R2 and D1. Keys list in the order of their making, so a cursor passes each of them
 * once, when it is too old for any upload to be still on its way to its row. Those that are older than the database are
 * not its to judge: a new one on a bucket that has been in use would find that no row names anything.
 */
async function sweep(env: Pick<Env, "DB" | "BLOBS">, prefix: KeyPrefix, options: CollectOptions): Promise<boolean> {
  const cursorName = `sweep-cursor:${prefix}`;
  const end = firstKeyAt(prefix, options.nowMs - (options.uploadTtlSeconds + SWEEP_MARGIN_SECONDS) * 1000);
  const known = await env.DB.prepare(
    `SELECT (SELECT value FROM registry_values WHERE name = ?1) AS cursor,
            (SELECT value FROM registry_values WHERE name = 'created-at') AS createdAtMs`,
  )
    .bind(cursorName)
    .first<{ cursor: string | null; createdAtMs: string | null }>();
  if (known === null || known.createdAtMs === null) return false;
  const listed = await env.BLOBS.list({
    prefix,
    limit: COLLECTOR_STEP_ROWS,
    startAfter: known.cursor ?? firstKeyAt(prefix, Number(known.createdAtMs)),
  });
  const keys = listed.objects.map((object) => object.key).filter((key) => key < end);
  const last = keys.at(-1);
  if (last === undefined) return false;
  await env.DB.batch([
    insertGarbage(env.DB, keys, options.nowMs),
    env.DB.prepare(
      "INSERT INTO registry_values (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    ).bind(cursorName, last),
  ]);
  return keys.length >= COLLECTOR_STEP_ROWS;
}

async function prune(db: D1Database, options: CollectOptions): Promise<boolean> {
  const results = await db.batch([
    deleteUploadStates(db, options.nowMs - 2 * options.uploadTtlSeconds * 1000, COLLECTOR_STEP_ROWS),
    deleteTombstones(db, options.nowMs - TOMBSTONE_SECONDS * 1000, COLLECTOR_STEP_ROWS),
    deleteEventsBefore(db, options.nowMs - EVENT_RETENTION_SECONDS * 1000, COLLECTOR_STEP_ROWS),
    deleteAuditBefore(db, options.nowMs - options.auditRetentionSeconds * 1000, COLLECTOR_STEP_ROWS),
  ]);
  return results.some((result) => result.meta.changes >= COLLECTOR_STEP_ROWS);
}
