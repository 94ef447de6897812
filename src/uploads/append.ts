import { newKey } from "../blobs/keys.ts";
import { type BodyRoom, withBodyRoom } from "../http/body-budget.ts";
import { BodyBroken } from "../http/body-reader.ts";
import { type ByteRange, bytesIn } from "../http/range.ts";
import { READ_BYTES, SMALL_BODY_BYTES } from "../limits.ts";
import type { DigestAlgorithm } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { completeParts } from "./complete.ts";
import { LeaseLost, PartWriter } from "./part-writer.ts";
import type { Lease } from "./lease.ts";
import type { AfterEnd, ContentHash, Ledger, Part, Progress } from "./ledger.ts";
import { continueHash, keepHash } from "./running-hashes.ts";

/** The writer's side of a lease, as it arrives over RPC. */
export type LeaseStub = Pick<
  Rpc.Stub<Lease>,
  "tail" | "parts" | "recordUpload" | "touch" | "recordParts" | "recordEnd" | "finish" | "discard" | "release"
>;

/** A session that is this request's to write to. */
export interface Grant {
  readonly ledger: Ledger;
  readonly lease: LeaseStub;
}

export interface Chunk {
  /** null: the request has none */
  readonly body: ReadableStream<Uint8Array> | null;
  /** Content-Length, or null */
  readonly lengthBytes: number | null;
  /** Content-Range, or null */
  readonly range: ByteRange | null;
}

/** The chunk of a final PUT that brings no bytes. */
export const noChunk: Chunk = { body: null, lengthBytes: 0, range: null };

/**
 * Streams one request's bytes behind those that the session has. When it returns they are all in R2: the last ones as
 * a single object where the whole blob so far fits one part, else as the next part. A client that goes away loses at
 * most one read: what came before it is recorded, and the session goes on from there.
 * @returns the ledger as it stands then; null where another request took the session over
 * @throws OciError SIZE_INVALID where the chunk is not as long as its Content-Range says
 */
export async function appendChunk(
  bucket: R2Bucket,
  grant: Grant,
  chunk: Chunk,
  algorithm: DigestAlgorithm,
  then: AfterEnd,
): Promise<Ledger | null> {
  const { lease } = grant;
  const ledger = grant.ledger.joining ? await joinParts(bucket, grant, await lease.parts(), "hold") : grant.ledger;
  if (ledger === null) return null;
  if (chunk.lengthBytes === 0) return (await lease.recordEnd(null, then)) ? ledger : null;
  return withBodyRoom(async (room) => appendHeld(bucket, { ledger, lease }, chunk, algorithm, then, room));
}

/** Most bytes of a short last part that are copied into the ledger at the end. */
function tailCopyBytes(ledger: Ledger, chunk: Chunk): number {
  // All of a blob, as far as can be told: it leaves no tail, unless it breaks off.
  if (ledger.offset === 0 && chunk.range === null) return 0;
  return chunk.lengthBytes === null ? ledger.partBytes : (ledger.offset + chunk.lengthBytes) % ledger.partBytes;
}

async function appendHeld(
  bucket: R2Bucket,
  grant: Grant,
  chunk: Chunk,
  algorithm: DigestAlgorithm,
  then: AfterEnd,
  room: BodyRoom,
): Promise<Ledger | null> {
  const { ledger, lease } = grant;
  const prefixBytes = isLargeObject(ledger) ? 0 : ledger.multipart === null ? ledger.offset : ledger.tailBytes;
  const bufferBytes = isLargeObject(ledger)
    ? ledger.partBytes
    : Math.min(ledger.partBytes, prefixBytes + (chunk.lengthBytes ?? ledger.partBytes));
  // Beside the buffer there is the prefix, at the beginning, or the copy of the tail, at the end.
  const heldBytes = bufferBytes + Math.max(prefixBytes, tailCopyBytes(ledger, chunk));
  if (prefixBytes > SMALL_BODY_BYTES - READ_BYTES) await room.grow(heldBytes);
  const hash = continueHash(ledger.hash, ledger.offset, algorithm);
  const sent: Part[] = [];
  const before = isLargeObject(ledger) ? async () => openObject(bucket, ledger) : await prefixOf(bucket, grant);
  if (before === null) return null;
  const writer = new PartWriter({
    bucket,
    partBytes: ledger.partBytes,
    multipart: ledger.multipart,
    nextPart: ledger.nextPart,
    before,
    hash,
    expectedBytes: chunk.lengthBytes,
    onUpload: async (multipart) => lease.recordUpload(multipart),
    onCopied: async () => lease.touch(),
    onParts: async (parts, multipart) => {
      sent.push(...parts);
      return lease.recordParts(parts, multipart);
    },
    onGrow: async () => room.grow(heldBytes),
  });
  try {
    const broken = await consume(writer, chunk);
    const contentHash = hash === null ? null : keepHash(hash, algorithm);
    // Who sends a layer as one PATCH without a range (docker, podman, crane) has no more to send. Its parts are made one
    // object here, where bytes move anyway, and the commit of a large layer takes as long as that of a small one.
    const isAll = !broken && then === "release" && chunk.range === null && ledger.offset === 0;
    const recorded =
      isAll && writer.multipart !== null
        ? await recordWhole(bucket, grant, writer, sent, contentHash)
        : await recordEnd(bucket, grant, writer, contentHash, broken ? "release" : then);
    if (broken) throw brokenOff(writer.newBytes);
    return recorded;
  } catch (error) {
    // What was begun in R2 the ledger knows, and lets go of: this request can't tell how far its last call came.
    if (error instanceof LeaseLost) return null;
    throw error;
  }
}

/** @returns whether the body broke off */
async function consume(writer: PartWriter, chunk: Chunk): Promise<boolean> {
  const limitBytes = chunk.range === null ? Number.POSITIVE_INFINITY : bytesIn(chunk.range);
  try {
    const fits = chunk.body === null || (await writer.consume(chunk.body, limitBytes));
    if (!fits || (chunk.range !== null && writer.newBytes !== limitBytes)) throw wrongLength(limitBytes);
    return false;
  } catch (error) {
    if (error instanceof BodyBroken) return true;
    throw error;
  }
}

/** Whether a PATCH seemed to be all, and was made one object: against all habit more comes, and has to copy it, once. */
function isLargeObject(ledger: Ledger): boolean {
  return ledger.multipart === null && ledger.offset > ledger.partBytes;
}

/** The bytes that the session has after its last whole part; null where the lease is lost. */
async function prefixOf(bucket: R2Bucket, { ledger, lease }: Grant): Promise<Uint8Array | null> {
  if (ledger.tailBytes > 0) return lease.tail();
  if (ledger.objectKey === null) return new Uint8Array(0);
  return new Response(await openObject(bucket, ledger)).bytes();
}

async function openObject(bucket: R2Bucket, { objectKey }: Ledger): Promise<ReadableStream<Uint8Array>> {
  const object = objectKey === null ? null : await bucket.get(objectKey);
  if (object === null) throw new Error("the session's bytes are not in R2");
  return object.body;
}

async function recordEnd(
  bucket: R2Bucket,
  grant: Grant,
  writer: PartWriter,
  hash: ContentHash | null,
  then: AfterEnd,
): Promise<Ledger | null> {
  const { ledger, lease } = grant;
  if (writer.newBytes === 0) return (await lease.recordEnd(null, then)) ? ledger : null;
  const offset = ledger.offset + writer.newBytes;
  if (writer.multipart === null) {
    const objectKey = newKey("blobs/", Date.now());
    await bucket.put(objectKey, writer.tail);
    const single = { offset, multipart: null, objectKey, tailBytes: 0, nextPart: ledger.nextPart, hash };
    if (await lease.recordEnd({ ledger: single, parts: [], tail: null }, then)) return { ...ledger, ...single };
    await bucket.delete(objectKey);
    return null;
  }
  const part = await writer.putTailPart();
  const isWhole = part.size === ledger.partBytes;
  const progress: Progress = {
    ledger: {
      offset,
      multipart: writer.multipart,
      objectKey: null,
      tailBytes: isWhole ? 0 : part.size,
      nextPart: writer.nextPart + 1,
      hash,
    },
    parts: writer.untold,
    // Sliced: of a view the whole buffer would cross to the session.
    tail: { part, bytes: isWhole ? null : writer.tail.slice() },
  };
  return (await lease.recordEnd(progress, then)) ? { ...ledger, ...progress.ledger } : null;
}

/** The end of a PATCH that is taken for all of the blob: its parts become one object. */
async function recordWhole(
  bucket: R2Bucket,
  { ledger, lease }: Grant,
  writer: PartWriter,
  sent: readonly Part[],
  hash: ContentHash | null,
): Promise<Ledger | null> {
  const part = await writer.putTailPart();
  const { multipart, newBytes: offset, nextPart } = writer;
  const all = { offset, multipart, objectKey: null, tailBytes: 0, nextPart: nextPart + 1, hash };
  // Said beforehand: whoever comes after a crash in between knows that the object may stand, and goes on with it.
  if (!(await lease.recordEnd({ ledger: all, parts: [], tail: { part, bytes: null } }, "join"))) return null;
  return joinParts(bucket, { ledger: { ...ledger, ...all }, lease }, [...sent, part], "release");
}

/** Makes the recorded parts one object, which the ledger then names like one that was put at once. */
async function joinParts(
  bucket: R2Bucket,
  { ledger, lease }: Grant,
  parts: readonly Part[] | null,
  then: "release" | "hold",
): Promise<Ledger | null> {
  if (parts === null || ledger.multipart === null) return null;
  await completeParts(bucket, ledger.multipart, parts, ledger.offset);
  const whole = {
    offset: ledger.offset,
    multipart: null,
    objectKey: ledger.multipart.objectKey,
    tailBytes: 0,
    nextPart: 1,
    hash: ledger.hash,
  };
  const recorded = await lease.recordEnd({ ledger: whole, parts: [], tail: null }, then);
  return recorded ? { ...ledger, ...whole, joining: false } : null;
}

function brokenOff(newBytes: number): OciError {
  return new OciError("BLOB_UPLOAD_INVALID", {
    reason: "the request's body broke off; what came is kept: ask the location where to go on",
    bytes: newBytes,
  });
}

function wrongLength(limitBytes: number): OciError {
  return new OciError("SIZE_INVALID", {
    reason:
      "the chunk is not as long as its Content-Range says; its last bytes were not taken: ask the location where to go on",
    contentRangeBytes: limitBytes,
  });
}
