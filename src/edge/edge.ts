import { type Config, configOf } from "../config.ts";
import { EDGE_CONTENT_MAX_SECONDS, EDGE_FILLS_MAX, EDGE_MEMORY_ITEM_MAX_BYTES, EDGE_READING_BYTES } from "../limits.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepositoryName } from "../oci/repository.ts";
import * as dataCentre from "./data-centre.ts";
import type { CacheResult } from "../trace/trace.ts";
import type { Held, HeldKind } from "./held.ts";
import { Memory } from "./memory.ts";

/** What a cache needs of a request that has passed its access check. */
export interface EdgeRequest {
  readonly env: Env;
  readonly context: Pick<ExecutionContext, "waitUntil">;
  readonly repository: RepositoryName;
}

export interface Found {
  readonly held: Held;
  readonly result: CacheResult;
}

const memory = new Memory();

/** What the isolate's memory holds by its own count: entries, and bytes. */
export function memoryInUse(): { readonly entries: number; readonly bytes: number } {
  return { entries: memory.size, bytes: memory.bytes };
}

/**
 * How long what a repository has is believed, ms; 0: nothing is cached. Half the grace at most: what the collector
 * removes has been 404 for all of it, in every isolate for half of it.
 */
function ttlMs(config: Config): number {
  return Math.min(config.CACHE_TTL, config.GC_GRACE_SECONDS / 2) * 1000;
}

/** How long bytes are kept by their digest. They are never asked for without what a repository has. */
function contentMs(config: Config): number {
  return Math.min(EDGE_CONTENT_MAX_SECONDS, config.GC_GRACE_SECONDS / 2) * 1000;
}

/** Whether this caller is answered from the caches at all: who may push has to see what was just changed. */
export function isCached(env: Env, mayPush: boolean): boolean {
  return !mayPush && ttlMs(configOf(env)) > 0;
}

/**
 * What a repository has under a digest: from memory, from the data centre, or of those who know. Each keeps it no longer
 * than CACHE_TTL after it was asked of those.
 * @param ask D1, which has to be the primary where this isolate put or deleted it: a replica may know less. null: there is no
 * such thing, which nobody keeps
 */
export async function findHeld(
  request: EdgeRequest,
  kind: HeldKind,
  digest: Digest,
  ask: (isPrimary: boolean) => Promise<Held | null>,
): Promise<Found | null> {
  const { env, context, repository } = request;
  const key = heldKey(kind, repository, digest);
  const config = configOf(env);
  const known = memory.get(key, Date.now());
  if (known !== undefined) return { held: known, result: "memory" };
  const { turn } = memory;
  const askedAtMs = Date.now();
  const cached = await dataCentre.matchHeld(key, askedAtMs);
  if (cached !== null) {
    memory.set(key, cached.held, cached.untilMs, turn, config.CACHE_MEMORY_BYTES);
    return { held: cached.held, result: "cache" };
  }
  const held = await ask(memory.wasForgotten(key));
  if (held === null) return null;
  const untilMs = askedAtMs + ttlMs(config);
  memory.set(key, held, untilMs, turn, config.CACHE_MEMORY_BYTES);
  const putInDataCentre = async (): Promise<void> => {
    await dataCentre.putHeld(key, held, untilMs, askedAtMs);
    if (memory.isForgottenSince(key, turn)) await dataCentre.remove(key);
  };
  context.waitUntil(putInDataCentre());
  return { held, result: "miss" };
}

export interface Peeked {
  readonly held: Held;
  /** null where it would have to be read */
  readonly body: Uint8Array | null;
}

/** What memory alone has of it at this moment. */
export function peek(kind: HeldKind, repository: RepositoryName, digest: Digest, nowMs: number): Peeked | null {
  const held = memory.get(heldKey(kind, repository, digest), nowMs);
  if (held === undefined) return null;
  if (held.body !== null) return { held, body: held.body };
  const content = memory.get(contentKey(digest), nowMs);
  return { held, body: content !== undefined && content.objectKey === held.objectKey ? content.body : null };
}

/** The row of which R2 had nothing any more: another isolate deleted it. */
export async function forgetHeld(kind: HeldKind, repository: RepositoryName, digest: Digest): Promise<void> {
  const key = heldKey(kind, repository, digest);
  memory.forget(key);
  await dataCentre.remove(key);
}

/** After a delete: neither this isolate nor its data centre answers with it any more, and the bytes go. */
export async function forget(kind: HeldKind, repository: RepositoryName, digest: Digest): Promise<void> {
  const keys = [heldKey(kind, repository, digest), contentKey(digest)];
  for (const key of keys) memory.forget(key);
  await Promise.all(keys.map(dataCentre.remove));
}

/** A manifest that was put: once more, it may have another media type. */
export function forgetInMemory(kind: HeldKind, repository: RepositoryName, digest: Digest): void {
  memory.forget(heldKey(kind, repository, digest));
}

export interface Bytes {
  readonly body: Uint8Array | ReadableStream;
  readonly result: CacheResult;
}

/** Bytes `first` to `last`, both included; null: all. */
export interface Slice {
  readonly start: number;
  readonly end: number;
}

/** bytes that are being read into memory at this moment, for all requests of the isolate */
let readingBytes = 0;
const filling = new Set<string>();

/**
 * The bytes of a digest, which the caller may have. Small ones are read whole and kept; of larger ones the data
 * centre's cache is filled beside the answer, by a read of its own: a slow client would keep the fill waiting, and
 * a slow fill the client.
 * R2: 0 where they are cached; else 1, and 1 for the fill of a large one.
 * @returns null where R2 has no such object
 */
export async function readContent(
  request: EdgeRequest,
  digest: Digest,
  held: Held & { readonly objectKey: string },
  slice: Slice | null,
): Promise<Bytes | null> {
  const { env } = request;
  const config = configOf(env);
  const key = contentKey(digest);
  const nowMs = Date.now();
  const known = memory.get(key, nowMs);
  // What was damaged and pushed again is another object, of the same digest.
  if (known !== undefined && known.body !== null && known.objectKey === held.objectKey) {
    return { body: cut(known.body, slice), result: "memory" };
  }
  const { turn } = memory;
  const keep = (body: Uint8Array): void => {
    const content: Held = { ...held, body };
    memory.set(key, content, nowMs + contentMs(config), turn, config.CACHE_MEMORY_BYTES);
  };
  const isSmall = held.size <= Math.min(EDGE_MEMORY_ITEM_MAX_BYTES, config.CACHE_MEMORY_BYTES / 16);
  const isKept = held.size <= config.CACHE_BLOB_MAX_BYTES;
  const cached = isKept ? await dataCentre.matchContent(key, held.objectKey, isSmall ? null : slice) : null;
  if (cached !== null) {
    if (!isSmall) return { body: cached, result: "cache" };
    const body = await whole(cached, held.size);
    if (body !== null) {
      keep(body);
      return { body: cut(body, slice), result: "cache" };
    }
  }
  if (isKept && isSmall && readingBytes + held.size <= EDGE_READING_BYTES) {
    const body = await readWhole(env.BLOBS, held);
    if (body === null) return null;
    keep(body);
    fill(request, key, held.objectKey, turn, async () => body);
    return { body: cut(body, slice), result: "miss" };
  }
  const range = slice === null ? {} : { range: { offset: slice.start, length: slice.end - slice.start + 1 } };
  const object = await env.BLOBS.get(held.objectKey, range);
  if (object === null) return null;
  if (isKept && !isSmall) {
    fill(request, key, held.objectKey, turn, async () => (await env.BLOBS.get(held.objectKey))?.body ?? null);
  }
  return { body: object.body, result: "miss" };
}

async function readWhole(bucket: R2Bucket, held: Held & { readonly objectKey: string }): Promise<Uint8Array | null> {
  readingBytes += held.size;
  try {
    const object = await bucket.get(held.objectKey);
    return object === null ? null : new Uint8Array(await object.arrayBuffer());
  } finally {
    readingBytes -= held.size;
  }
}

/** null where the cache broke off */
async function whole(body: ReadableStream, size: number): Promise<Uint8Array | null> {
  const bytes = await new Response(body).bytes().catch(() => null);
  return bytes?.byteLength === size ? bytes : null;
}

function fill(
  { env, context }: EdgeRequest,
  key: string,
  objectKey: string,
  turn: number,
  read: () => Promise<Uint8Array | ReadableStream | null>,
): void {
  if (filling.has(key) || filling.size >= EDGE_FILLS_MAX) return;
  filling.add(key);
  const filled = async (): Promise<void> => {
    try {
      const body = await read();
      if (body === null) return;
      await dataCentre.putContent(key, objectKey, body, contentMs(configOf(env)) / 1000);
      if (memory.isForgottenSince(key, turn)) await dataCentre.remove(key);
    } finally {
      filling.delete(key);
    }
  };
  context.waitUntil(filled());
}

function cut(bytes: Uint8Array, slice: Slice | null): Uint8Array {
  return slice === null ? bytes : bytes.subarray(slice.start, slice.end + 1);
}

function heldKey(kind: HeldKind, repository: RepositoryName, digest: Digest): string {
  return `${kind}/${repository}/${digest}`;
}

function contentKey(digest: Digest): string {
  return `content/${digest}`;
}
