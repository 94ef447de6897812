import { z } from "zod";
import { exportListKey, exportListsPrefix, exportPartsPrefix, newExportName, newExportPartKey } from "../blobs/keys.ts";
import {
  EXPORT_INTERVAL_SECONDS,
  EXPORT_LIST_KEYS,
  EXPORT_LISTS_READ_MAX,
  EXPORT_PARTS_PER_STEP,
  EXPORTS_KEPT,
  INTEGRITY_LEASE_SECONDS,
} from "../limits.ts";
import { type Noun, type NounName, nounNames, nounOf } from "./nouns.ts";
import { encodePart } from "./part.ts";
import { type Birth, isOlder } from "./predecessor.ts";
import { replaceValue } from "./values.ts";

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
  /** whose rows are copied: by name, for another version may have another order; null: all are */
  noun: z.enum(nounNames).nullable(),
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

/** What is old may still have to be taken away, though the copy itself is whole. */
export function isExportUnderWay({ endedMs, pruning }: ExportState): boolean {
  return endedMs === null || pruning;
}

/** Whether a new copy is due: a day after the last one, or after the database was made. */
export function isExportDue(state: ExportState | null, { bornMs }: Birth, nowMs: number): boolean {
  if (state !== null && isExportUnderWay(state)) return false;
  return nowMs >= (state?.beganMs ?? bornMs) + EXPORT_INTERVAL_SECONDS * 1000;
}

/**
 * A step of the copy that is under way: at most EXPORT_PARTS_PER_STEP parts, the list at the end, or some of what is old.
 * What is written is noted with each part, so a step that is cut off loses a part at most; two at once can't mix, for
 * each goes on only from what it read. D1: 2, 2 a part, or a noun
 * that has no rows, and 2 for the list; R2: 1 a part, 1 for the list, and then 2 to 4 for what is old.
 * @param saved as the database has it
 * @param birth copies that are older are not taken away before it is settled what becomes of them
 * @param begin whether a new one is begun where none is under way
 * @returns how it stands; null where there is none
 */
export async function exportStep(
  env: Env,
  saved: string | null,
  birth: Birth,
  begin: boolean,
  nowMs: number,
): Promise<ExportState | null> {
  const before = parseExportState(saved);
  const isUnderWay = before !== null && isExportUnderWay(before);
  if (!isUnderWay && !begin) return before;
  if (isUnderWay && before.leaseMs > nowMs) return before;
  const job = new Job(env, saved, birth);
  const state = isUnderWay ? before : newExport(before, nowMs);
  if (!(await job.note({ ...state, leaseMs: nowMs + INTEGRITY_LEASE_SECONDS * 1000 }, !isUnderWay))) return before;
  return job.work();
}

/** As newExportName makes them; what somebody else puts beside them is no copy. */
const namePattern = /^[0-9a-z]{9}$/;

/** The names of the copies that are whole, the newest first. R2: 1. */
export async function listExports(bucket: R2Bucket): Promise<readonly string[]> {
  const { objects } = await bucket.list({ prefix: exportListsPrefix, limit: EXPORT_LIST_KEYS });
  const names = objects.map(({ key }) => key.slice(exportListsPrefix.length));
  return names.filter((name) => namePattern.test(name)).toReversed();
}

/** R2: 1. @returns null where there is no such copy, it is not whole, or its list can't be read */
export async function readExportList(bucket: R2Bucket, name: string): Promise<ExportList | null> {
  const object = await bucket.get(exportListKey(name));
  if (object === null) return null;
  const text = await object.text();
  try {
    return exportListSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** A copy that is whole; `rows` is null where its list can't be read, or was not. */
export interface WholeExport {
  readonly name: string;
  /** ms since 1970 */
  readonly beganMs: number;
  readonly rows: number | null;
}

/** The same with how many rows each has. R2: 1, and 1 for each of the newest EXPORT_LISTS_READ_MAX. */
export async function describeExports(bucket: R2Bucket): Promise<readonly WholeExport[]> {
  const described: WholeExport[] = [];
  for (const [at, name] of (await listExports(bucket)).entries()) {
    const list = at < EXPORT_LISTS_READ_MAX ? await readExportList(bucket, name) : null;
    described.push({ name, beganMs: Number.parseInt(name, 36), rows: list === null ? null : rowsIn(list) });
  }
  return described;
}

function rowsIn({ parts }: ExportList): number {
  return parts.reduce((sum, { rows }) => sum + rows, 0);
}

/**
 * The newest copy that has rows: of those that are older than this database, where there are such and nobody has said
 * what becomes of them. A copy of a database that was just made anew has none. R2: 2, and 1 for each that has no rows,
 * EXPORT_LISTS_READ_MAX of them at most.
 */
export async function newestExport(bucket: R2Bucket, birth: Birth): Promise<ExportList | null> {
  const names = await listExports(bucket);
  const older = birth.isSettled ? [] : names.filter((name) => isOlder(name, birth));
  for (const name of (older.length > 0 ? older : names).slice(0, EXPORT_LISTS_READ_MAX)) {
    const list = await readExportList(bucket, name);
    if (list !== null && rowsIn(list) > 0) return list;
  }
  return null;
}

/** A name that no copy had: two may begin in one millisecond. */
function newExport(before: ExportState | null, nowMs: number): ExportState {
  const beganMs = Math.max(nowMs, (before?.beganMs ?? 0) + 1);
  return {
    name: newExportName(beganMs),
    beganMs,
    endedMs: null,
    pruning: true,
    noun: nounNames[0],
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
  readonly #birth: Birth;
  #saved: string | null;
  #state: ExportState | null = null;

  constructor(env: Env, saved: string | null, birth: Birth) {
    this.#env = env;
    this.#saved = saved;
    this.#birth = birth;
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
      const { noun: name } = state;
      const isNoted = name === null ? await this.#writeList(state) : await this.#writePart(state, nounOf(name));
      if (!isNoted) return state;
    }
    const state = this.#state;
    if (state === null) return null;
    const isPruned = state.endedMs !== null && state.pruning && (await prune(this.#env.BLOBS, this.#birth));
    const end = { ...state, pruning: state.pruning && !isPruned, leaseMs: 0 };
    return (await this.note(end, false)) ? end : state;
  }

  async #writePart(state: ExportState, noun: Noun): Promise<boolean> {
    const { DB: db, BLOBS: bucket } = this.#env;
    const { results } = await db
      .prepare(noun.select)
      .bind(...state.cursor, noun.rowsMax)
      .all<PageRow>();
    const last = results.at(-1);
    const next = nounNames[nounNames.indexOf(noun.name) + 1] ?? null;
    if (last === undefined) return this.note({ ...state, noun: next, cursor: [0, ""] }, false);
    const lines = results.map(({ line }) => line);
    const key = newExportPartKey(state.name);
    await bucket.put(key, await encodePart(lines, noun.sealed ? this.#env : null));
    const number = state.parts + 1;
    // What is pushed from now on is not waited for: a busy registry would have one more each time.
    const isLast = lines.length < noun.rowsMax && lines.length === (last.total ?? lines.length);
    const further: ExportState = {
      ...state,
      noun: isLast ? next : noun.name,
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
 * copy seems whole that is not. What is older than the database stays until it is settled what becomes of it.
 * @returns whether nothing is left to be taken away
 */
async function prune(bucket: R2Bucket, birth: Birth): Promise<boolean> {
  const names = (await listExports(bucket)).filter((name) => birth.isSettled || !isOlder(name, birth));
  const old = names.slice(EXPORTS_KEPT);
  if (old.length > 0) await bucket.delete(old.map(exportListKey));
  const oldestKept = names.slice(0, EXPORTS_KEPT).at(-1);
  if (oldestKept === undefined) return true;
  const startAfter = birth.isSettled ? exportPartsPrefix : `${exportPartsPrefix}${newExportName(birth.bornMs)}`;
  const { objects } = await bucket.list({ prefix: exportPartsPrefix, startAfter, limit: EXPORT_LIST_KEYS });
  const end = `${exportPartsPrefix}${oldestKept}`;
  const keys = objects.map(({ key }) => key).filter((key) => key < end);
  if (keys.length > 0) await bucket.delete(keys);
  return keys.length < EXPORT_LIST_KEYS;
}
