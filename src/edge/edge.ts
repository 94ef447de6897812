import { createHash } from "node:crypto";
import { configOf } from "../config.ts";
import { EDGE_MEMORY_ITEM_MAX_BYTES, EDGE_READING_BYTES } from "../limits.ts";
import { type ByteRange, bytesIn } from "../http/range.ts";
import { type Digest, digestAlgorithm, digestHex } from "../oci/digest.ts";
import type { RepositoryName } from "../oci/repository.ts";
import * as dataCentre from "./data-centre.ts";
import { printError } from "../trace/log.ts";
import type { CacheResult } from "../trace/trace.ts";
import type { Held, HeldKind } from "./held.ts";
import { contentMs, heldMs } from "./freshness.ts";
import { Fills } from "./fills.ts";
import { Memory } from "./memory.ts";
import { namespaceOf } from "./namespace.ts";

/** What a cache needs of a request that has passed its access check. */
export interface EdgeRequest {
  readonly env: Env;
  readonly context: Pick<ExecutionContext, "waitUntil">;
  readonly repository: RepositoryName;
}

export interface Found {
  readonly held: Held;
  /** ms since 1970, until when it is believed */
  readonly untilMs: number;
  readonly result: CacheResult;
}

const memory = new Memory();
const fills = new Fills();

/** What the isolate's memory holds by its own count: entries, and bytes. */
export function memoryInUse(): { readonly entries: number; readonly bytes: number } {
  return { entries: memory.size, bytes: memory.bytes };
}

/** Whether this caller is answered from the caches at all: who may push has to see what was just changed. */
export function isCached(env: Env, mayPush: boolean): boolean {
  return !mayPush && heldMs(configOf(env)) > 0;
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
  if (known !== undefined) return { ...known, result: "memory" };
  const { turn } = memory;
  const askedAtMs = Date.now();
  const url = inDataCentre(env, key);
  // What this isolate has changed lately may have been put there since by one that had asked before.
  const isChanged = memory.wasForgotten(key);
  const cached = isChanged ? null : await dataCentre.matchHeld(url, askedAtMs);
  if (cached !== null) {
    memory.set(key, cached.held, cached.untilMs, turn, config.CACHE_MEMORY_BYTES);
    return { ...cached, result: "cache" };
  }
  const held = await ask(isChanged);
  if (held === null) return null;
  const untilMs = askedAtMs + heldMs(config);
  memory.set(key, held, untilMs, turn, config.CACHE_MEMORY_BYTES);
  const putInDataCentre = async (): Promise<void> => {
    await dataCentre.putHeld(url, held, untilMs, askedAtMs);
    if (memory.isForgottenSince(key, turn)) await dataCentre.remove(url);
  };
  context.waitUntil(putInDataCentre());
  return { held, untilMs, result: "miss" };
}

export interface Peeked {
  readonly held: Held;
  /** ms since 1970, until when it is believed */
  readonly untilMs: number;
  /** null where it would have to be read */
  readonly body: Uint8Array | null;
}

/** What memory alone has of it at this moment. */
export function peek(kind: HeldKind, repository: RepositoryName, digest: Digest, nowMs: number): Peeked | null {
  const known = memory.get(heldKey(kind, repository, digest), nowMs);
  if (known === undefined) return null;
  const { held, untilMs } = known;
  if (held.body !== null) return { held, untilMs, body: held.body };
  const content = memory.get(contentKey(digest), nowMs)?.held;
  return { held, untilMs, body: content !== undefined && content.objectKey === held.objectKey ? content.body : null };
}

/** After a delete: neither this isolate nor its data centre answers with it any more, and the bytes go. */
export async function forget(
  { env, repository }: Pick<EdgeRequest, "env" | "repository">,
  kind: HeldKind,
  digest: Digest,
): Promise<void> {
  await forgetKeys(env, [heldKey(kind, repository, digest), contentKey(digest)]);
}

async function forgetKeys(env: Env, keys: readonly string[]): Promise<void> {
  for (const key of keys) {
    memory.forget(key);
    fills.forget(key);
  }
  await Promise.all(keys.map(async (key) => dataCentre.remove(inDataCentre(env, key))));
}

/** A manifest that was put: once more, it may have another media type. */
export function forgetInMemory(kind: HeldKind, repository: RepositoryName, digest: Digest): void {
  memory.forget(heldKey(kind, repository, digest));
}

export interface Bytes {
  readonly body: Uint8Array | ReadableStream;
  readonly result: CacheResult;
}

/** bytes that are being read into memory at this moment, for all requests of the isolate */
let readingBytes = 0;

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
  slice: ByteRange | null,
): Promise<Bytes | null> {
  const { env } = request;
  const config = configOf(env);
  const key = contentKey(digest);
  const nowMs = Date.now();
  const known = memory.get(key, nowMs)?.held;
  // What was damaged and pushed again is another object, of the same digest.
  if (known !== undefined && known.body !== null && known.objectKey === held.objectKey) {
    return { body: cut(known.body, slice), result: "memory" };
  }
  const wanted: Wanted = { digest, held, slice, key, url: inDataCentre(env, key), turn: memory.turn };
  if (held.size > config.CACHE_BLOB_MAX_BYTES) return missed(await readObject(env.BLOBS, held.objectKey, slice));
  const isSmall = held.size <= Math.min(EDGE_MEMORY_ITEM_MAX_BYTES, config.CACHE_MEMORY_BYTES / 16);
  if (!isSmall || readingBytes + held.size > EDGE_READING_BYTES) return streamContent(request, wanted, !isSmall);
  readingBytes += held.size;
  try {
    return await readSmall(request, wanted);
  } finally {
    readingBytes -= held.size;
  }
}

/**
 * The bytes of what `findHeld` found. Where R2 has no such object, another isolate deleted it, and it may have been pushed
 * again since, under another key: then those who know are asked once more.
 * @param ask as `findHeld` has it
 * @returns null where there is no such thing any more
 */
export async function readHeld(
  request: EdgeRequest,
  kind: HeldKind,
  digest: Digest,
  held: Held,
  slice: ByteRange | null,
  ask: (isPrimary: boolean) => Promise<Held | null>,
): Promise<Bytes | null> {
  const bytes = await bytesOf(request, digest, held, slice);
  if (bytes !== null) return bytes;
  await forgetKeys(request.env, [heldKey(kind, request.repository, digest)]);
  const again = await findHeld(request, kind, digest, ask);
  return again === null ? null : bytesOf(request, digest, again.held, slice);
}

async function bytesOf(
  request: EdgeRequest,
  digest: Digest,
  { objectKey, ...held }: Held,
  slice: ByteRange | null,
): Promise<Bytes | null> {
  if (held.body !== null) return { body: cut(held.body, slice), result: "memory" };
  return objectKey === null ? null : readContent(request, digest, { ...held, objectKey }, slice);
}

interface Wanted {
  readonly digest: Digest;
  readonly held: Held & { readonly objectKey: string };
  readonly slice: ByteRange | null;
  readonly key: string;
  /** in the data centre's cache */
  readonly url: string;
  /** of the memory, when it was asked for */
  readonly turn: number;
}

/** Of R2, past the caches. @param slice null: all of it; @returns null where R2 has no such object */
export async function readObject(
  bucket: R2Bucket,
  objectKey: string,
  slice: ByteRange | null,
): Promise<ReadableStream | null> {
  const range = slice === null ? {} : { range: { offset: slice.start, length: bytesIn(slice) } };
  return (await bucket.get(objectKey, range))?.body ?? null;
}

async function streamContent(request: EdgeRequest, wanted: Wanted, isFilled: boolean): Promise<Bytes | null> {
  const { held, slice, url } = wanted;
  const bucket = request.env.BLOBS;
  const cached = await dataCentre.matchContent(url, held.objectKey, slice);
  if (cached !== null) return { body: cached, result: "cache" };
  const body = await readObject(bucket, held.objectKey, slice);
  if (body !== null && isFilled) fill(request, wanted, async () => readObject(bucket, held.objectKey, null));
  return missed(body);
}

function missed(body: ReadableStream | null): Bytes | null {
  return body === null ? null : { body, result: "miss" };
}

async function readSmall(request: EdgeRequest, wanted: Wanted): Promise<Bytes | null> {
  const { digest, held, slice, url } = wanted;
  const cached = await dataCentre.matchContent(url, held.objectKey, null);
  const known = cached === null ? null : await whole(cached, held.size);
  if (known !== null && keep(request.env, wanted, known)) return { body: cut(known, slice), result: "cache" };
  const object = await request.env.BLOBS.get(held.objectKey);
  if (object === null) return null;
  const body = new Uint8Array(await object.arrayBuffer());
  if (keep(request.env, wanted, body)) fill(request, wanted, async () => body);
  else printError({ notOfItsDigest: digest, objectKey: held.objectKey, bytes: body.byteLength });
  return { body: cut(body, slice), result: "miss" };
}

function keep(env: Env, { digest, held, key, turn }: Wanted, body: Uint8Array): boolean {
  if (!isOf(digest, body)) return false;
  const config = configOf(env);
  memory.set(key, { ...held, body }, Date.now() + contentMs(config), turn, config.CACHE_MEMORY_BYTES);
  return true;
}

/** What R2, or the cache, has under the digest may be damaged: kept, it would outlive the mend. */
function isOf(digest: Digest, bytes: Uint8Array): boolean {
  return createHash(digestAlgorithm(digest)).update(bytes).digest("hex") === digestHex(digest);
}

/** null where the cache broke off */
async function whole(body: ReadableStream, size: number): Promise<Uint8Array | null> {
  const bytes = await new Response(body).bytes().catch(() => null);
  return bytes?.byteLength === size ? bytes : null;
}

function fill(
  { env, context }: EdgeRequest,
  { held, key, url, turn }: Wanted,
  read: () => Promise<Uint8Array | ReadableStream | null>,
): void {
  if (!fills.begin(key, Date.now())) return;
  const filled = async (): Promise<void> => {
    try {
      const body = await read();
      if (body === null) return;
      await dataCentre.putContent(url, held.objectKey, body, contentMs(configOf(env)) / 1000);
    } finally {
      fills.end(key, Date.now());
    }
    if (!memory.isForgottenSince(key, turn)) return;
    fills.forget(key);
    await dataCentre.remove(url);
  };
  context.waitUntil(filled());
}

function cut(bytes: Uint8Array, slice: ByteRange | null): Uint8Array {
  return slice === null ? bytes : bytes.subarray(slice.start, slice.end + 1);
}

function heldKey(kind: HeldKind, repository: RepositoryName, digest: Digest): string {
  return `${kind}/${repository}/${digest}`;
}

function contentKey(digest: Digest): string {
  return `content/${digest}`;
}

function inDataCentre(env: Env, key: string): string {
  return `${namespaceOf(env)}/${key}`;
}
