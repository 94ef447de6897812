import { z } from "zod";
import { insertAudit } from "../audit/store.ts";
import { type KeyPrefix, keyPrefixes } from "../blobs/keys.ts";
import { EXPORT_LIST_KEYS, EXPORT_PARTS_PER_STEP, MANIFEST_MAX_BYTES, REBUILD_MISSING_MAX } from "../limits.ts";
import { isQuarantinedManifest } from "../manifests/quarantined.ts";
import { parseManifest } from "../oci/manifest.ts";
import type { Requester } from "../requester.ts";
import { jsonArrays } from "../sql.ts";
import type { ContentRow } from "./contents.ts";
import type { Rebuilt, RebuildRequest } from "./copy.ts";
import type { Content } from "./finding.ts";
import { type ExportList, newestExport, readExportList } from "./export.ts";
import { insertReferencesSql, type Noun, nounOf, rebuildOrder } from "./nouns.ts";
import { decodePart } from "./part.ts";
import { birthOf, isOlder, selectBirth } from "./predecessor.ts";
import { quarantine } from "./quarantine.ts";
import { rebuildValue, replaceValue, selectValue, valueOf, writeValue } from "./values.ts";

const stateSchema = z.strictObject({
  /** the name of the copy that is put back */
  export: z.string(),
  beganMs: z.number(),
  endedMs: z.number().nullable(),
  withoutUsers: z.boolean(),
  /** whether this rebuild, or one before it in this database, has ended with users; an earlier version did not note it */
  hasUsers: z.boolean().default(true),
  /** of those that are put back, in their order */
  parts: z.int(),
  rows: z.int(),
  /** which of the key prefixes is looked through, once all parts are put back; and the last key that was */
  prefix: z.int(),
  key: z.string(),
  /** named by a row, and not in R2 */
  missing: z.int(),
  /** in R2, and named by no row */
  unnamed: z.strictObject({ objects: z.int(), bytes: z.int() }),
});

type RebuildState = z.infer<typeof stateSchema>;

/** `export`: there is none. `content`: the index is not empty. */
export type RebuildRefusal = "export" | "content";

/**
 * A step of putting a copy back: at most EXPORT_PARTS_PER_STEP of its parts, then EXPORT_LIST_KEYS of the keys in R2. Where
 * it is lies in the database, so it can be broken off and gone on with; every step may be done twice.
 * D1: 2, 2 more in the first, and 1 a part, or 1 for a page of keys and 2 for each row without object. R2: 1, in the first
 * as newestExport says, and 1 a part and for each manifest that is not in its row, or 1 for a page of keys and for each row
 * that has no key in it, REBUILD_MISSING_MAX of them at most.
 *
 * By force no users, access tokens and trust rules are put back beside those of an index that had them: what was deleted
 * or revoked since would be good again. An index that never had them gets them.
 * @throws PartUnreadable
 */
export async function rebuildStep(env: Env, request: RebuildRequest, by: Requester): Promise<Rebuilt | RebuildRefusal> {
  const { DB: db, BLOBS: bucket } = env;
  const [found, born] = await db.batch([selectValue(db, rebuildValue), selectBirth(db)]);
  const [saved, birth] = [valueOf(found), birthOf(born)];
  const before = parseState(saved);
  const isUnderWay = before !== null && before.endedMs === null;
  const name = request.export ?? (isUnderWay ? before.export : undefined);
  const list = await (name === undefined ? newestExport(bucket, birth) : readExportList(bucket, name));
  if (list === null) return "export";
  const isSame = isUnderWay && before.export === list.name;
  // Whoever is told that the sealed parts can't be read leaves them out from the beginning: each step may be done twice.
  const goesOn = isSame && (before.withoutUsers || !request.withoutUsers);
  if (!isSame && !request.force && (await hasContent(db))) return "content";
  const hadUsers = before?.hasUsers ?? false;
  const leavesUsers = request.force && (hadUsers || !isOlder(list.name, birth));
  const state = goesOn ? before : newState(list.name, request.withoutUsers || leavesUsers, hadUsers);
  const begun = JSON.stringify(state);
  // Before anything is put back: what is cut off then is gone on with, and not refused as content.
  if (!goesOn) await writeValue(db, rebuildValue, begun).run();
  const parts = partsOf(list, state);
  const done = state.parts < parts.length ? await putBack(env, state, parts) : await lookThrough(env, state, by);
  const further = done.endedMs === null || done.withoutUsers ? done : { ...done, hasUsers: true };
  const entry = {
    action: "index.rebuild",
    reference: list.name,
    outcome: "ok",
    detail: toldOf(further, list),
  } as const;
  await db.batch([
    replaceValue(db, rebuildValue, goesOn ? saved : begun, JSON.stringify(further)),
    ...(further.endedMs === null ? [] : [insertAudit(db, by, entry, Date.now())]),
  ]);
  return toldOf(further, list);
}

function parseState(saved: string | null): RebuildState | null {
  const parsed = stateSchema.safeParse(saved === null ? null : JSON.parse(saved));
  return parsed.success ? parsed.data : null;
}

function newState(name: string, withoutUsers: boolean, hasUsers: boolean): RebuildState {
  return {
    export: name,
    beganMs: Date.now(),
    endedMs: null,
    withoutUsers,
    hasUsers,
    parts: 0,
    rows: 0,
    prefix: 0,
    key: "",
    missing: 0,
    unnamed: { objects: 0, bytes: 0 },
  };
}

function toldOf(state: RebuildState, list: ExportList): Rebuilt {
  const { parts, rows, withoutUsers, missing, unnamed, endedMs } = state;
  return {
    export: list.name,
    exportedAt: new Date(list.beganMs).toISOString(),
    ended: endedMs !== null,
    parts,
    partsInAll: partsOf(list, state).length,
    rows,
    usersLeft: withoutUsers,
    missing,
    unnamed,
  };
}

/** A blob that no repository has is none: the smoke test of a deployment leaves such, until the collector comes. */
async function hasContent(db: D1Database): Promise<boolean> {
  const row = await db
    .prepare(
      `SELECT EXISTS (SELECT 1 FROM repository_blobs) OR EXISTS (SELECT 1 FROM manifests) OR EXISTS (SELECT 1 FROM users)
         OR EXISTS (SELECT 1 FROM trust_rules) AS found`,
    )
    .first<{ found: number }>();
  return row?.found === 1;
}

/** What is named comes before what names it. */
function partsOf({ parts }: ExportList, { withoutUsers }: RebuildState): ExportList["parts"] {
  return rebuildOrder
    .filter((name) => !(withoutUsers && nounOf(name).sealed))
    .flatMap((name) => parts.filter(({ noun }) => noun === name));
}

async function putBack(env: Env, state: RebuildState, parts: ExportList["parts"]): Promise<RebuildState> {
  let rows = state.rows;
  const step = parts.slice(state.parts, state.parts + EXPORT_PARTS_PER_STEP);
  for (const { noun: name, key } of step) {
    const noun = nounOf(name);
    const object = await env.BLOBS.get(key);
    if (object === null) throw new Error(`R2 has no ${key}, which the export names`);
    const bytes = new Uint8Array(await object.arrayBuffer());
    const lines = await decodePart(bytes, noun.sealed ? env : null);
    rows += lines.length;
    await insertLines(env, noun, lines, state.beganMs);
  }
  return { ...state, parts: state.parts + step.length, rows };
}

async function insertLines(env: Env, noun: Noun, lines: readonly string[], nowMs: number): Promise<void> {
  const { DB: db } = env;
  const references = noun.name === "manifests" ? await referencesOf(env.BLOBS, lines) : [];
  // One transaction: no manifest is ever without its references, for the collector to find.
  await db.batch([
    ...jsonArrays(lines).map((value) => db.prepare(noun.insert).bind(value, nowMs)),
    ...jsonArrays(references).map((value) => db.prepare(insertReferencesSql).bind(value)),
  ]);
}

const manifestLine = z.object({
  repository: z.string(),
  digest: z.string(),
  media_type: z.string(),
  object_key: z.string().nullable(),
  body: z.string().nullable(),
});

/** R2: 1 for each manifest that is too large for its row. */
async function referencesOf(bucket: R2Bucket, lines: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const line of lines) {
    const { repository, digest, media_type: mediaType, object_key: key, body } = manifestLine.parse(JSON.parse(line));
    const bytes = body !== null ? new TextEncoder().encode(body) : key === null ? null : await bytesAt(bucket, key);
    if (bytes === null) continue;
    for (const [named, kind] of namedBy(bytes, mediaType)) {
      found.push(JSON.stringify([repository, digest, named, kind]));
    }
  }
  return found;
}

async function bytesAt(bucket: R2Bucket, key: string): Promise<Uint8Array | null> {
  const object = await bucket.get(key);
  if (object === null) return null;
  if (object.size <= MANIFEST_MAX_BYTES) return new Uint8Array(await object.arrayBuffer());
  await object.body.cancel();
  return null;
}

/** Of a manifest that could not be pushed today, whatever looks like a digest: rather too much is kept than too little. */
function namedBy(bytes: Uint8Array, mediaType: string): readonly (readonly [digest: string, kind: "blob" | "child"])[] {
  try {
    return parseManifest(bytes, mediaType).references.map(({ digest, kind }) => [digest, kind]);
  } catch {
    const text = new TextDecoder().decode(bytes);
    const digests = new Set(text.match(/sha256:[0-9a-f]{64}(?![0-9a-f])|sha512:[0-9a-f]{128}(?![0-9a-f])/g));
    return [...digests].map((digest) => [digest, "blob"]);
  }
}

/**
 * Compares a page of R2's keys with the rows that lie between its ends: what a row names and R2 has not was deleted since
 * the export, or lost. It is quarantined, with a finding where a manifest names it.
 */
async function lookThrough(env: Env, state: RebuildState, by: Requester): Promise<RebuildState> {
  const prefix = keyPrefixes[state.prefix];
  if (prefix === undefined) return { ...state, endedMs: Date.now() };
  const after = state.key === "" ? prefix : state.key;
  const { objects, truncated } = await env.BLOBS.list({ prefix, startAfter: after, limit: EXPORT_LIST_KEYS });
  const keys = JSON.stringify(objects.map(({ key }) => key));
  const end = truncated ? (objects.at(-1)?.key ?? after) : `${prefix}~`;
  const [absent, unnamed] = await env.DB.batch<ContentRow & { readonly named: number; readonly key: string }>([
    env.DB.prepare(absentSql[prefix]).bind(after, end, keys, REBUILD_MISSING_MAX),
    env.DB.prepare(
      `SELECT value AS key FROM json_each(?1) WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE object_key = value)
         AND NOT EXISTS (SELECT 1 FROM manifests WHERE object_key = value)
         AND NOT EXISTS (SELECT 1 FROM garbage WHERE object_key = value)
         AND NOT EXISTS (SELECT 1 FROM integrity_findings WHERE object_key = value)`,
    ).bind(keys),
  ]);
  const found = absent?.results ?? [];
  // Where there were more than a step takes, the same page is looked at again: those that are quarantined are passed over,
  // and the keys of the others are in the list then.
  const isPageDone = found.length < REBUILD_MISSING_MAX;
  // What was pushed between the list and the rows has its object: that comes before its row.
  const rows = await withoutObject(env.BLOBS, found);
  const kind = prefix === "blobs/" ? "blob" : "manifest";
  for (const row of rows) await quarantineAbsent(env.DB, { ...row, kind }, row.named === 1, by);
  const missing = state.missing + rows.length;
  if (!isPageDone) return { ...state, missing };
  const lost = new Set((unnamed?.results ?? []).map(({ key }) => key));
  const bytes = objects.filter(({ key }) => lost.has(key)).reduce((sum, { size }) => sum + size, 0);
  const counted = { objects: state.unnamed.objects + lost.size, bytes: state.unnamed.bytes + bytes };
  const next = truncated ? { key: end } : { prefix: state.prefix + 1, key: "" };
  const isLast = !truncated && state.prefix + 1 >= keyPrefixes.length;
  return { ...state, ...next, missing, unnamed: counted, endedMs: isLast ? Date.now() : null };
}

/** Heads that are under way at once: a request has six connections. */
const HEADS_AT_ONCE = 6;

/** Those whose object R2 does not have at this moment. R2: 1 each. */
async function withoutObject<T extends { readonly objectKey: string | null }>(
  bucket: R2Bucket,
  rows: readonly T[],
): Promise<readonly T[]> {
  const absent: T[] = [];
  for (let at = 0; at < rows.length; at += HEADS_AT_ONCE) {
    const some = rows.slice(at, at + HEADS_AT_ONCE);
    const heads = await Promise.all(some.map(async ({ objectKey: key }) => (key === null ? null : bucket.head(key))));
    absent.push(...some.filter((_row, index) => heads[index] === null));
  }
  return absent;
}

const absentSql: Readonly<Record<KeyPrefix, string>> = {
  "blobs/": `SELECT id, digest, size, object_key AS objectKey, NULL AS body, NULL AS repository, NULL AS putRequest,
      EXISTS (SELECT 1 FROM manifest_references WHERE manifest_references.digest = blobs.digest) AS named
    FROM blobs WHERE object_key > ?1 AND object_key <= ?2 AND quarantined_at IS NULL
      AND object_key NOT IN (SELECT value FROM json_each(?3)) ORDER BY object_key LIMIT ?4`,
  "manifests/": `SELECT manifests.id AS id, digest, size, object_key AS objectKey, NULL AS body, repositories.name AS repository,
      put_request AS putRequest, 1 AS named
    FROM manifests JOIN repositories ON repositories.id = manifests.repository_id
    WHERE object_key > ?1 AND object_key <= ?2 AND body IS NULL
      AND object_key NOT IN (SELECT value FROM json_each(?3))
      AND NOT ${isQuarantinedManifest()}
    ORDER BY object_key LIMIT ?4`,
};

/** Who asks for it is told that it is not there, and pushes it again. Of what no manifest names, nobody need be told. */
async function quarantineAbsent(db: D1Database, content: Content, isNamed: boolean, by: Requester): Promise<void> {
  if (isNamed) {
    await quarantine(db, content, { problem: "missing", found: null }, by);
    return;
  }
  await db
    .prepare("UPDATE blobs SET quarantined_at = ?2, suspect_at = ?2 WHERE id = ?1 AND object_key = ?3")
    .bind(content.id, Date.now(), content.objectKey)
    .run();
}
