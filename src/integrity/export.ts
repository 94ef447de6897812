import { z } from "zod";
import { exportListKey, exportListsPrefix, exportPartsPrefix, newExportName, newExportPartKey } from "../blobs/keys.ts";
import {
  EXPORT_INTERVAL_SECONDS,
  EXPORT_LIST_KEYS,
  EXPORT_PARTS_PER_STEP,
  EXPORTS_KEPT,
  INTEGRITY_LEASE_SECONDS,
} from "../limits.ts";
import { type NounName, nounNames, nouns } from "./nouns.ts";
import { encodePart } from "./part.ts";
import { replaceValue, selectValue, valueOf } from "./values.ts";

export const exportValue = "export";

const cursorValue = z.union([z.number(), z.string()]);

const stateSchema = z.strictObject({
  name: z.string(),
  /** ms since 1970 */
  beganMs: z.number(),
  /** null: it is under way */
  endedMs: z.number().nullable(),
  /** whether older ones are still to be taken away */
  pruning: z.boolean(),
  /** whose rows are copied, as an index of `nouns` */
  noun: z.int(),
  /** the last row that was copied */
  cursor: z.tuple([cursorValue, cursorValue]),
  parts: z.int(),
  rows: z.int(),
  /** ms since 1970, until when a step may go on; 0: it has ended */
  leaseMs: z.number(),
});

export type ExportState = z.infer<typeof stateSchema>;

/** What names the parts of a copy: it is written last, so a copy that has one is whole. */
export const exportListSchema = z.object({
  version: z.literal(1),
  name: z.string(),
  beganMs: z.number(),
  endedMs: z.number(),
  parts: z.array(z.object({ noun: z.enum(nounNames), key: z.string(), rows: z.int() })),
});

export type ExportList = z.infer<typeof exportListSchema>;

/** What an earlier version of the Worker saved, and can't be read, is begun anew. */
export function parseExportState(saved: string | null): ExportState | null {
  if (saved === null) return null;
  const parsed = stateSchema.safeParse(JSON.parse(saved));
  return parsed.success ? parsed.data : null;
}

/**
 * Whether a new copy is due: a day after the last one, or after the database was made.
 * @param bornMs when the database was made
 */
export function isExportDue(state: ExportState | null, bornMs: number, nowMs: number): boolean {
  if (state !== null && (state.endedMs === null || state.pruning)) return false;
  return nowMs >= (state?.beganMs ?? bornMs) + EXPORT_INTERVAL_SECONDS * 1000;
}

/**
 * A step of the copy that is under way: at most EXPORT_PARTS_PER_STEP parts, the list at the end, or some of what is old.
 * What is written is noted with each part, so a step that is cut off loses a part at most; two at once can't mix, for
 * each goes on only from what it read. D1: 2, 2 a part, or a noun
 * that has no rows, and 2 for the list; R2: 1 a part, 1 for the list, and then 2 to 4 for what is old.
 * @param saved as the database has it
 * @param begin whether a new one is begun where none is under way
 * @returns how it stands; null where there is none
 */
export async function exportStep(
  env: Env,
  saved: string | null,
  begin: boolean,
  nowMs: number,
): Promise<ExportState | null> {
  const before = parseExportState(saved);
  const isUnderWay = before !== null && (before.endedMs === null || before.pruning);
  if (!isUnderWay && !begin) return before;
  if (isUnderWay && before.leaseMs > nowMs) return before;
  const job = new Job(env, saved);
  const state = isUnderWay ? before : newExport(before, nowMs);
  if (!(await job.note({ ...state, leaseMs: nowMs + INTEGRITY_LEASE_SECONDS * 1000 }, !isUnderWay))) return before;
  return job.work();
}

/** The names of the copies that are whole, the newest first. R2: 1. */
export async function listExports(bucket: R2Bucket): Promise<readonly string[]> {
  const { objects } = await bucket.list({ prefix: exportListsPrefix, limit: EXPORT_LIST_KEYS });
  return objects.map(({ key }) => key.slice(exportListsPrefix.length)).toReversed();
}

/** R2: 1. @returns null where there is no such copy, or it is not whole */
export async function readExportList(bucket: R2Bucket, name: string): Promise<ExportList | null> {
  const object = await bucket.get(exportListKey(name));
  return object === null ? null : exportListSchema.parse(await object.json());
}

/** A name that no copy had: two may begin in one millisecond. */
function newExport(before: ExportState | null, nowMs: number): ExportState {
  const beganMs = Math.max(nowMs, (before?.beganMs ?? 0) + 1);
  return {
    name: newExportName(beganMs),
    beganMs,
    endedMs: null,
    pruning: true,
    noun: 0,
    cursor: [0, ""],
    parts: 0,
    rows: 0,
    leaseMs: 0,
  };
}

interface PageRow {
  readonly line: string;
  readonly first: number | string;
  readonly second: number | string;
  /** rows that were found, where not all of them came */
  readonly total?: number;
}

class Job {
  readonly #env: Env;
  #saved: string | null;
  #state: ExportState | null = null;

  constructor(env: Env, saved: string | null) {
    this.#env = env;
    this.#saved = saved;
  }

  /** @returns false where somebody else has gone on meanwhile: nothing was written then */
  async note(state: ExportState, isNew: boolean, more: readonly D1PreparedStatement[] = []): Promise<boolean> {
    const after = JSON.stringify(state);
    const { DB: db } = this.#env;
    const results = await db.batch([
      replaceValue(db, exportValue, this.#saved, after),
      ...(isNew
        ? [
            db
              .prepare(
                "DELETE FROM export_parts WHERE EXISTS (SELECT 1 FROM registry_values WHERE name = ?1 AND value = ?2)",
              )
              .bind(exportValue, after),
          ]
        : []),
      ...more,
    ]);
    if (results[0]?.meta.changes !== 1) return false;
    this.#saved = after;
    this.#state = state;
    return true;
  }

  async work(): Promise<ExportState | null> {
    for (let parts = 0; parts < EXPORT_PARTS_PER_STEP; parts++) {
      const state = this.#state;
      if (state === null || state.endedMs !== null) break;
      const isNoted = state.noun < nouns.length ? await this.#writePart(state) : await this.#writeList(state);
      if (!isNoted) return state;
    }
    const state = this.#state;
    if (state === null) return null;
    const isPruned = state.endedMs !== null && state.pruning && (await prune(this.#env.BLOBS));
    const end = { ...state, pruning: state.pruning && !isPruned, leaseMs: 0 };
    return (await this.note(end, false)) ? end : state;
  }

  async #writePart(state: ExportState): Promise<boolean> {
    const noun = nouns[state.noun];
    if (noun === undefined) return false;
    const { DB: db, BLOBS: bucket } = this.#env;
    const { results } = await db
      .prepare(noun.select)
      .bind(...state.cursor, noun.rowsMax)
      .all<PageRow>();
    const last = results.at(-1);
    if (last === undefined) return this.note({ ...state, noun: state.noun + 1, cursor: [0, ""] }, false);
    const lines = results.map(({ line }) => line);
    const key = newExportPartKey(state.name);
    await bucket.put(key, await encodePart(lines, noun.sealed ? this.#env : null));
    const number = state.parts + 1;
    // What is pushed from now on is not waited for: a busy registry would have one more each time.
    const isLast = lines.length < noun.rowsMax && lines.length === (last.total ?? lines.length);
    const further: ExportState = {
      ...state,
      noun: isLast ? state.noun + 1 : state.noun,
      cursor: isLast ? [0, ""] : [last.first, last.second],
      parts: number,
      rows: state.rows + lines.length,
    };
    const part = db
      .prepare(
        `INSERT INTO export_parts (number, noun, object_key, row_count)
         SELECT ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM registry_values WHERE name = ?1 AND value = ?2)`,
      )
      .bind(exportValue, JSON.stringify(further), number, noun.name, key, lines.length);
    return this.note(further, false, [part]);
  }

  async #writeList(state: ExportState): Promise<boolean> {
    const { DB: db, BLOBS: bucket } = this.#env;
    const { results } = await db
      .prepare("SELECT noun, object_key AS key, row_count AS rows FROM export_parts ORDER BY number")
      .all<{ noun: NounName; key: string; rows: number }>();
    const { name, beganMs } = state;
    const endedMs = Date.now();
    const list: ExportList = { version: 1, name, beganMs, endedMs, parts: results };
    await bucket.put(exportListKey(name), JSON.stringify(list), { httpMetadata: { contentType: "application/json" } });
    return this.note({ ...state, endedMs }, false);
  }
}

/**
 * Takes away what is older than the copies that are kept, and what was never made whole. Lists go before parts, so no
 * copy seems whole that is not. @returns whether nothing is left to be taken away
 */
async function prune(bucket: R2Bucket): Promise<boolean> {
  const names = await listExports(bucket);
  const old = names.slice(EXPORTS_KEPT);
  if (old.length > 0) await bucket.delete(old.map(exportListKey));
  const oldestKept = names.slice(0, EXPORTS_KEPT).at(-1);
  if (oldestKept === undefined) return true;
  const { objects } = await bucket.list({ prefix: exportPartsPrefix, limit: EXPORT_LIST_KEYS });
  const end = `${exportPartsPrefix}${oldestKept}`;
  const keys = objects.map(({ key }) => key).filter((key) => key < end);
  if (keys.length > 0) await bucket.delete(keys);
  return keys.length < EXPORT_LIST_KEYS;
}

/** D1: 1. */
export async function readExportState(db: D1Database): Promise<string | null> {
  return valueOf(await selectValue(db, exportValue).all());
}
