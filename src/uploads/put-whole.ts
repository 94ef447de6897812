import { createHash } from "node:crypto";
import { newKey } from "../blobs/keys.ts";
import { withBodyRoom } from "../http/body-budget.ts";
import { BodyBroken } from "../http/body-reader.ts";
import { PART_BYTES, SINGLE_PUT_MAX_BYTES } from "../limits.ts";
import { type Digest, digestAlgorithm, digestHex } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { completeParts } from "./complete.ts";
import { PartWriter } from "./part-writer.ts";
import type { Part } from "./ledger.ts";

export interface StoredBlob {
  readonly objectKey: string;
  /** bytes */
  readonly size: number;
}

/**
 * Puts a whole blob, whose digest is known before its bytes, to R2 (end-4b, and POST then PUT). With a length it is one
 * `put` that streams through and that R2 itself checks; without one it is cut into parts, and hashed on the way.
 * @throws OciError DIGEST_INVALID where the bytes are not the digest's; nothing is left in R2 then
 */
export async function putWhole(
  bucket: R2Bucket,
  body: ReadableStream<Uint8Array> | null,
  lengthBytes: number | null,
  digest: Digest,
): Promise<StoredBlob> {
  if (body !== null && (lengthBytes === null || lengthBytes > SINGLE_PUT_MAX_BYTES)) {
    return putUnknownLength(bucket, body, digest);
  }
  const objectKey = newKey("blobs/", Date.now());
  const { size } = await putChecked(bucket, objectKey, body ?? new Uint8Array(0), digest);
  return { objectKey, size };
}

async function putUnknownLength(
  bucket: R2Bucket,
  body: ReadableStream<Uint8Array>,
  digest: Digest,
): Promise<StoredBlob> {
  return withBodyRoom(async (room) => {
    const hash = createHash(digestAlgorithm(digest));
    const parts: Part[] = [];
    const writer = new PartWriter({
      bucket,
      partBytes: PART_BYTES,
      multipart: null,
      nextPart: 1,
      before: new Uint8Array(0),
      hash,
      expectedBytes: null,
      onUpload: async () => true,
      onCopied: async () => true,
      onParts: async (more) => {
        parts.push(...more);
        return true;
      },
      onGrow: async () => room.grow(PART_BYTES),
    });
    try {
      await writer.consume(body, Number.POSITIVE_INFINITY);
      if (writer.newBytes === 0 && !isDigestOfNothing(digest)) throw new EmptyBody(digest);
      if (writer.multipart === null) {
        const objectKey = newKey("blobs/", Date.now());
        await putChecked(bucket, objectKey, writer.tail, digest);
        return { objectKey, size: writer.newBytes };
      }
      if (hash.digest("hex") !== digestHex(digest)) throw digestMismatch(digest);
      parts.push(await writer.putTailPart());
      await completeParts(bucket, writer.multipart, parts, writer.newBytes);
      return { objectKey: writer.multipart.objectKey, size: writer.newBytes };
    } catch (error) {
      if (writer.multipart !== null) {
        await bucket.resumeMultipartUpload(writer.multipart.objectKey, writer.multipart.uploadId).abort();
      }
      throw error instanceof BodyBroken ? bodyBroken() : error;
    }
  });
}

/** One `put` that R2 checks against the digest itself. */
async function putChecked(
  bucket: R2Bucket,
  objectKey: string,
  bytes: ReadableStream<Uint8Array> | Uint8Array,
  digest: Digest,
): Promise<R2Object> {
  try {
    return await bucket.put(objectKey, bytes, { [digestAlgorithm(digest)]: digestHex(digest) });
  } catch (error) {
    const message = error instanceof Error ? error.message : "";
    // 10037 is R2's code for a checksum that does not match; the binding hands codes out in the message only.
    if (message.includes("10037")) throw digestMismatch(digest);
    if (message.includes("Network connection lost")) throw bodyBroken();
    throw error;
  }
}

/** A body of unknown length that came to nothing, where the digest is not that of nothing. */
export class EmptyBody extends OciError {
  constructor(digest: Digest) {
    super("DIGEST_INVALID", { reason: "the body is empty, and the digest is not that of nothing", digest });
  }
}

function isDigestOfNothing(digest: Digest): boolean {
  return createHash(digestAlgorithm(digest)).digest("hex") === digestHex(digest);
}

export function digestMismatch(digest: Digest): OciError {
  return new OciError("DIGEST_INVALID", {
    reason: "the bytes that came are not those of the digest; none were kept: send the right ones",
    digest,
  });
}

function bodyBroken(): OciError {
  return new OciError("BLOB_UPLOAD_INVALID", "the request's body broke off; nothing of it was kept: send it again");
}
