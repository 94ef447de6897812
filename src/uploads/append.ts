import { createHash } from "node:crypto";
import { newKey } from "../blobs/keys.ts";
import { bodyBudget } from "../http/body-budget.ts";
import type { ByteRange } from "../http/range.ts";
import { READ_BYTES } from "../limits.ts";
import type { DigestAlgorithm } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { BodyBroken, LeaseLost, PartWriter } from "./part-writer.ts";
import type { Lease, Ledger, RequestEnd } from "./session.ts";

/** The writer's side of a lease, as it arrives over RPC. */
export type LeaseStub = Pick<Rpc.Stub<Lease>, "tail" | "parts" | "recordPart" | "recordEnd" | "finish" | "discard" | "release">;

export interface Chunk {
  /** null: the request has none */
  readonly body: ReadableStream<Uint8Array> | null;
  /** Content-Length, or null */
  readonly lengthBytes: number | null;
  /** Content-Range, or null */
  readonly range: ByteRange | null;
}

/**
 * Streams one request's bytes behind those that the session has. When it returns they are all in R2: the last ones as
 * a single object where the whole blob so far fits one part, else as the next part. A client that goes away loses at
 * most one read: what came before it is recorded, and the session goes on from there.
 * @returns the ledger as it stands then; null where another request took the session over
 * @throws OciError SIZE_INVALID where the chunk is not as long as its Content-Range says
 */
export async function appendChunk(
  bucket: R2Bucket,
  ledger: Ledger,
  lease: LeaseStub,
  chunk: Chunk,
  algorithm: DigestAlgorithm,
  then: RequestEnd["then"],
): Promise<RequestEnd["ledger"] | null> {
  const prefixBytes = ledger.multipart === null ? ledger.offset : ledger.tailBytes;
  const needed = prefixBytes + (chunk.lengthBytes ?? ledger.partBytes);
  return bodyBudget.hold(Math.min(ledger.partBytes, needed) + READ_BYTES, async () => {
    // Bytes that follow others would need a hash that can be carried from one request to the next. The resumable ones
    // (WASM or TypeScript) run at 120 to 180 MiB/s here, the native one at 1,450, and reading the finished object back
    // through the native one at 750: so a first request is hashed as it streams, which nearly always is the only one
    // (docker, podman, crane), and a session of several requests is read back once, at its final PUT.
    const hash = ledger.offset === 0 ? createHash(algorithm) : null;
    const writer = new PartWriter({
      bucket,
      partBytes: ledger.partBytes,
      multipart: ledger.multipart,
      nextPart: ledger.nextPart,
      prefix: await prefixOf(bucket, ledger, lease),
      hash,
      expectedBytes: chunk.lengthBytes,
      onPart: async (part, multipart) => lease.recordPart(part, multipart, ledger.partBytes),
    });
    const limitBytes = chunk.range === null ? Number.POSITIVE_INFINITY : chunk.range.end - chunk.range.start + 1;
    let broken: BodyBroken | null = null;
    try {
      const whole = chunk.body === null || (await writer.consume(chunk.body, limitBytes));
      if (!whole || (chunk.range !== null && writer.newBytes !== limitBytes)) throw wrongLength(limitBytes);
    } catch (error) {
      if (error instanceof LeaseLost) return null;
      if (!(error instanceof BodyBroken)) throw error;
      broken = error;
    }
    const contentHash = hash === null ? null : { algorithm, hex: hash.digest("hex") };
    const recorded = await recordEnd(bucket, ledger, lease, writer, contentHash, broken === null ? then : "release");
    if (broken !== null) throw brokenOff(writer.newBytes);
    return recorded;
  });
}

/** The bytes that the session has after its last whole part. */
async function prefixOf(bucket: R2Bucket, ledger: Ledger, lease: LeaseStub): Promise<Uint8Array> {
  if (ledger.tailBytes > 0) return lease.tail();
  if (ledger.objectKey === null) return new Uint8Array(0);
  const object = await bucket.get(ledger.objectKey);
  if (object === null) throw new Error("the session's bytes are not in R2");
  return new Uint8Array(await object.arrayBuffer());
}

async function recordEnd(
  bucket: R2Bucket,
  ledger: Ledger,
  lease: LeaseStub,
  writer: PartWriter,
  hash: Ledger["hash"],
  then: RequestEnd["then"],
): Promise<RequestEnd["ledger"] | null> {
  const { partBytes, nextPart } = ledger;
  if (writer.newBytes === 0) {
    const { offset, multipart, objectKey, tailBytes } = ledger;
    const unchanged = { offset, partBytes, multipart, objectKey, tailBytes, nextPart, hash: ledger.hash };
    return (await lease.recordEnd({ ledger: unchanged, tail: "unchanged", then })) ? unchanged : null;
  }
  const common = { offset: ledger.offset + writer.newBytes, partBytes, hash };
  if (writer.multipart === null) {
    const objectKey = newKey("blobs/", Date.now());
    await bucket.put(objectKey, writer.tail);
    const end = { ...common, multipart: null, objectKey, tailBytes: 0, nextPart };
    const held = await lease.recordEnd({ ledger: end, tail: null, then });
    await deleteObject(bucket, held ? ledger.objectKey : objectKey);
    return held ? end : null;
  }
  const part = await writer.putTailPart();
  const isWhole = part.size === partBytes;
  const end = {
    ...common,
    multipart: writer.multipart,
    objectKey: null,
    tailBytes: isWhole ? 0 : part.size,
    nextPart: isWhole ? writer.nextPart + 1 : writer.nextPart,
  };
  const held = await lease.recordEnd({ ledger: end, tail: { part, bytes: isWhole ? null : writer.tail }, then });
  if (held) await deleteObject(bucket, ledger.objectKey);
  return held ? end : null;
}

/** The single object of the bytes so far, once a longer one or the first part has taken it in. */
async function deleteObject(bucket: R2Bucket, objectKey: string | null): Promise<void> {
  if (objectKey !== null) await bucket.delete(objectKey);
}

function brokenOff(newBytes: number): OciError {
  return new OciError("BLOB_UPLOAD_INVALID", {
    reason: "the request's body broke off; what came is kept: ask the location where to go on",
    bytes: newBytes,
  });
}

function wrongLength(limitBytes: number): OciError {
  return new OciError("SIZE_INVALID", {
    reason: "the chunk is not as long as its Content-Range says; its last bytes were not taken: ask the location where to go on",
    contentRangeBytes: limitBytes,
  });
}
