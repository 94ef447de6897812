import { newKey } from "../blobs/keys.ts";
import { bodyBudget, BodyRoom } from "../http/body-budget.ts";
import { BodyBroken } from "../http/body-reader.ts";
import type { ByteRange } from "../http/range.ts";
import { READ_BYTES, SMALL_BODY_BYTES } from "../limits.ts";
import type { DigestAlgorithm } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { LeaseLost, PartWriter } from "./part-writer.ts";
import type { Lease } from "./lease.ts";
import type { AfterEnd, ContentHash, Ledger, Multipart, Part, Progress } from "./ledger.ts";
import { completedParts } from "./put-whole.ts";
import { continueHash, keepHash } from "./running-hashes.ts";

/** The writer's side of a lease, as it arrives over RPC. */
export type LeaseStub = Pick<
  Rpc.Stub<Lease>,
  "tail" | "parts" | "recordParts" | "recordEnd" | "finish" | "discard" | "release"
>;

/** A session that is this request's to write to. */
export interface Grant {
  readonly ledger: Ledger;
  readonly lease: LeaseStub;
  readonly tookOver: boolean;
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
  const { ledger, lease } = grant;
  if (chunk.lengthBytes === 0 && !tailAtRisk(grant)) return (await lease.recordEnd(null, then)) ? ledger : null;
  const prefixBytes = isLargeObject(ledger) ? 0 : ledger.multipart === null ? ledger.offset : ledger.tailBytes;
  return bodyBudget.small.hold(SMALL_BODY_BYTES, async () => {
    const room = new BodyRoom(bodyBudget.large);
    try {
      const partBytes = ledger.partBytes + tailCopyBytes(ledger, chunk, prefixBytes);
      // A prefix is there twice while it is copied behind its other half.
      const isLarge = prefixBytes > SMALL_BODY_BYTES - READ_BYTES;
      if (isLarge) await room.take(partBytes + prefixBytes);
      return await appendHeld(bucket, grant, chunk, algorithm, then, async () => room.take(partBytes));
    } finally {
      room.giveBack();
    }
  });
}

/** Most bytes of a short last part that are copied into the ledger at the end. */
function tailCopyBytes(ledger: Ledger, chunk: Chunk, prefixBytes: number): number {
  // All of a blob, as far as can be told: it leaves no tail, unless it breaks off.
  if (ledger.offset === 0 && chunk.range === null) return 0;
  return chunk.lengthBytes === null ? ledger.partBytes : (prefixBytes + chunk.lengthBytes) % ledger.partBytes;
}

async function appendHeld(
  bucket: R2Bucket,
  grant: Grant,
  chunk: Chunk,
  algorithm: DigestAlgorithm,
  then: AfterEnd,
  onGrow: () => Promise<void>,
): Promise<Ledger | null> {
  const { ledger, lease } = grant;
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
    onParts: async (parts, multipart) => {
      sent.push(...parts);
      return lease.recordParts(parts, multipart);
    },
    onGrow,
  });
  let broken: boolean;
  let recorded: Ledger | null;
  try {
    broken = await consume(writer, chunk);
    const contentHash = hash === null ? null : keepHash(hash, algorithm);
    // Who sends a layer as one PATCH without a range (docker, podman, crane) has no more to send. Its parts are made one
    // object here, where bytes move anyway, and the commit of a large layer takes as long as that of a small one.
    const isAll = !broken && then === "release" && chunk.range === null && ledger.offset === 0;
    recorded =
      isAll && writer.multipart !== null
        ? await recordWhole(bucket, grant, writer, { multipart: writer.multipart, sent, hash: contentHash })
        : await recordEnd(bucket, grant, writer, contentHash, broken ? "release" : then);
  } catch (error) {
    // Parts that the ledger never came to know would stay in R2, listed nowhere.
    await writer.abandon();
    if (error instanceof LeaseLost) return null;
    throw error;
  }
  if (recorded === null) await writer.abandon();
  if (broken) throw brokenOff(writer.newBytes);
  return recorded;
}

/** @returns whether the body broke off */
async function consume(writer: PartWriter, chunk: Chunk): Promise<boolean> {
  const limitBytes = chunk.range === null ? Number.POSITIVE_INFINITY : chunk.range.end - chunk.range.start + 1;
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

/** A silent holder that gave way may yet overwrite the part that is the tail: it is sent again, under its own number. */
function tailAtRisk({ ledger, tookOver }: Grant): boolean {
  return tookOver && ledger.tailBytes > 0;
}

async function recordEnd(
  bucket: R2Bucket,
  grant: Grant,
  writer: PartWriter,
  hash: ContentHash | null,
  then: AfterEnd,
): Promise<Ledger | null> {
  const { ledger, lease } = grant;
  if (writer.newBytes === 0 && !tailAtRisk(grant)) return (await lease.recordEnd(null, then)) ? ledger : null;
  const offset = ledger.offset + writer.newBytes;
  const contentHash = writer.newBytes === 0 ? ledger.hash : hash;
  if (writer.multipart === null) {
    const objectKey = newKey("blobs/", Date.now());
    await bucket.put(objectKey, writer.tail);
    const single = { offset, multipart: null, objectKey, tailBytes: 0, nextPart: ledger.nextPart, hash: contentHash };
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
      nextPart: isWhole ? writer.nextPart + 1 : writer.nextPart,
      hash: contentHash,
    },
    parts: writer.untold,
    tail: { part, bytes: isWhole ? null : writer.tail },
  };
  return (await lease.recordEnd(progress, then)) ? { ...ledger, ...progress.ledger } : null;
}

/**
 * Makes the parts one object, which the ledger then names like one that was put at once. It is sealed meanwhile: a crash
 * between leaves what a final PUT can finish, or the alarm give up.
 */
async function recordWhole(
  bucket: R2Bucket,
  { ledger, lease }: Grant,
  writer: PartWriter,
  {
    multipart,
    sent,
    hash,
  }: { readonly multipart: Multipart; readonly sent: readonly Part[]; readonly hash: ContentHash | null },
): Promise<Ledger | null> {
  const part = await writer.putTailPart();
  const { objectKey, uploadId } = multipart;
  const common = { offset: writer.newBytes, tailBytes: 0, hash };
  const sealed = { ...common, multipart, objectKey: null, nextPart: writer.nextPart + 1 };
  if (!(await lease.recordEnd({ ledger: sealed, parts: [], tail: { part, bytes: null } }, "seal"))) return null;
  await bucket.resumeMultipartUpload(objectKey, uploadId).complete(completedParts([...sent, part]));
  const whole = { ...common, multipart: null, objectKey, nextPart: 1 };
  return (await lease.recordEnd({ ledger: whole, parts: [], tail: null }, "release")) ? { ...ledger, ...whole } : null;
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
