import { databaseFor } from "../databases.ts";
import { createHash } from "node:crypto";
import type { Requester } from "../requester.ts";
import { newKey } from "../blobs/keys.ts";
import { type Digest, digestAlgorithm, digestHex } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { hashStream } from "../oci/hash-stream.ts";
import { appendChunk, type Chunk, type LeaseStub } from "./append.ts";
import { commitBlob, otherDigest } from "./commit.ts";
import { type UploadLocation, unknownUpload } from "./location.ts";
import { completeParts } from "./complete.ts";
import { LeaseLost } from "./part-writer.ts";
import type { Ledger } from "./ledger.ts";
import type { SessionStatus, UploadSession } from "./session.ts";

/** Another request holds the session, or the bytes do not begin where it stands. */
export interface Conflict {
  readonly kind: "conflict";
  /** bytes that the session has */
  readonly offset: number;
}

export interface Created {
  readonly kind: "created";
  /** bytes; null where an earlier request had made it */
  readonly size: number | null;
}

/**
 * The final PUT of an upload that has a ledger (end-6): takes what the request brings, makes the object whole, writes
 * the blob's rows. Repeating it is safe at every point where it can break off.
 * @throws OciError BLOB_UPLOAD_UNKNOWN, DIGEST_INVALID
 */
export async function finishSession(
  env: Env,
  location: UploadLocation,
  digest: Digest,
  chunk: Chunk,
  by: Requester,
): Promise<Created | Conflict> {
  const session = env.UPLOADS.getByName(location.id);
  using answer = await session.open({
    start: chunk.range?.start ?? null,
    purpose: "finish",
    hasBytes: chunk.lengthBytes !== 0,
    create: null,
  });
  if (answer.kind === "unknown" || answer.kind === "sealed") throw unknownUpload();
  if (answer.kind === "conflict") return answer;
  if (answer.kind === "finished") return finishedWith(answer.digest, digest);
  const { lease } = answer;
  try {
    // Bytes beyond what an earlier final PUT brought are no repetition of it.
    if (answer.ledger.sealed && chunk.range !== null && chunk.range.end + 1 !== answer.ledger.offset) {
      await lease.release();
      return { kind: "conflict", offset: answer.ledger.offset };
    }
    const ledger = answer.ledger.sealed
      ? answer.ledger
      : await appendChunk(env.BLOBS, answer, chunk, digestAlgorithm(digest), "seal");
    if (ledger === null) return await finishOvertaken(session, digest);
    const objectKey = await wholeObject(env.BLOBS, ledger, lease, digest);
    await commitBlob(
      databaseFor(env, location.repository),
      { repository: location.repository, digest, size: ledger.offset, objectKey },
      by,
    );
    await lease.finish(digest);
    return { kind: "created", size: ledger.offset };
  } catch (error) {
    // Awaited, unlike the disposal at the end of this scope: the client's next request must find the session free.
    const held = await lease.release();
    if (held || error instanceof OciError) throw error;
    return finishOvertaken(session, digest);
  }
}

/** The lease was lost to another request, to the end of the session, or to this one's own success. */
async function finishOvertaken(session: DurableObjectStub<UploadSession>, digest: Digest): Promise<Created | Conflict> {
  const status = await session.status();
  return status.kind === "finished" ? finishedWith(status.digest, digest) : conflictOf(status);
}

/**
 * The answer to a request that lost its lease: where the session stands by now.
 * @throws OciError BLOB_UPLOAD_UNKNOWN where it has ended
 */
export function conflictOf(status: SessionStatus): Conflict {
  if (status.kind !== "open") throw unknownUpload();
  return { kind: "conflict", offset: status.offset };
}

function finishedWith(finished: Digest, digest: Digest): Created {
  if (finished !== digest) throw otherDigest(finished);
  return { kind: "created", size: null };
}

/**
 * Makes the bytes one object and sees that they are the digest's. Nothing is copied. Nothing is read back either, unless
 * the running hash is not at hand (README.md), or was that of another algorithm than the digest's.
 */
async function wholeObject(bucket: R2Bucket, bytes: Ledger, lease: LeaseStub, digest: Digest): Promise<string> {
  const hex = hexAtHand(bytes, digest);
  if (hex !== null) await requireDigest(lease, digest, hex);
  const objectKey = await completeObject(bucket, bytes, lease);
  if (hex === null) await requireDigest(lease, digest, await readBack(bucket, objectKey, digest));
  return objectKey;
}

/** Other bytes than the digest's end the upload: what came can be the beginning of nothing else either. */
async function requireDigest(lease: LeaseStub, digest: Digest, hex: string): Promise<void> {
  if (hex === digestHex(digest)) return;
  await lease.discard();
  throw new OciError("DIGEST_INVALID", {
    reason: "the bytes that came are not those of the digest, and this upload is given up: begin another with POST",
    digest,
    computed: `${digestAlgorithm(digest)}:${hex}`,
  });
}

function hexAtHand(bytes: Ledger, digest: Digest): string | null {
  const algorithm = digestAlgorithm(digest);
  if (bytes.offset === 0) return createHash(algorithm).digest("hex");
  return bytes.hash?.algorithm === algorithm ? bytes.hash.hex : null;
}

async function completeObject(bucket: R2Bucket, bytes: Ledger, lease: LeaseStub): Promise<string> {
  if (bytes.multipart === null) {
    if (bytes.objectKey !== null) return bytes.objectKey;
    const objectKey = newKey("blobs/", Date.now());
    await bucket.put(objectKey, new Uint8Array(0));
    return objectKey;
  }
  const parts = await lease.parts();
  if (parts === null) throw new LeaseLost();
  await completeParts(bucket, bytes.multipart, parts, bytes.offset);
  return bytes.multipart.objectKey;
}

async function readBack(bucket: R2Bucket, objectKey: string, digest: Digest): Promise<string> {
  const object = await bucket.get(objectKey);
  if (object === null) throw new Error("the upload's bytes are not in R2");
  const hash = createHash(digestAlgorithm(digest));
  await hashStream(hash, object.body);
  return hash.digest("hex");
}
