import { createHash, type Hash } from "node:crypto";
import { z } from "zod";
import { type DigestAlgorithm, digestAlgorithm, digestHex } from "../oci/digest.ts";
import { hashStream } from "../oci/hash-stream.ts";
import type { Content, Problem } from "./finding.ts";
import { ResumableHash } from "./sha2.ts";

/** How far the reading of one piece of content is, between two runs. */
export const progressSchema = z.strictObject({
  id: z.int(),
  /** bytes that were read */
  offset: z.int().min(0),
  /** of those bytes; null: none were read yet */
  hash: z.string().nullable(),
  /** whether it was read before, and came to another digest */
  doubted: z.boolean(),
  /** how often R2 failed */
  failures: z.int(),
});

export type Progress = z.infer<typeof progressSchema>;

export type Outcome =
  | { readonly kind: "good" }
  | { readonly kind: "bad"; readonly problem: Problem; readonly found: string | null }
  | { readonly kind: "unfinished"; readonly progress: Progress };

export interface Checked {
  readonly outcome: Outcome;
  /** that were read */
  readonly bytes: number;
}

export function beginning(id: number): Progress {
  return { id, offset: 0, hash: null, doubted: false, failures: 0 };
}

/**
 * Reads content, or the next slice of it, and compares. Bytes that come to another digest are read a second time before
 * that is believed: a connection, or a memory, may have been at fault. R2: 1 a slice,
 * 2 where it fails; none of a manifest in its row.
 * @param mostBytes of this slice; what has no more is read whole, by the platform's own hash
 * @throws what R2 threw: that it did not answer says nothing of the bytes
 */
export async function checkContent(
  bucket: R2Bucket,
  content: Content,
  progress: Progress,
  mostBytes: number,
): Promise<Checked> {
  const { objectKey, body, size, digest } = content;
  if (objectKey === null || body !== null) return checkBody(content, body);
  const isWhole = progress.offset === 0 && size <= mostBytes;
  const hash = isWhole ? null : hashOf(digestAlgorithm(digest), progress);
  if (hash === undefined) {
    return { outcome: { kind: "unfinished", progress: { ...progress, offset: 0, hash: null } }, bytes: 0 };
  }
  const length = Math.min(size - progress.offset, mostBytes);
  const object = await getSlice(bucket, objectKey, { offset: progress.offset, length }, size);
  if (object === null) return { outcome: bad("missing", null), bytes: 0 };
  if (object.size !== size || object.body === null) {
    await object.body?.cancel();
    return { outcome: bad("size", String(object.size)), bytes: 0 };
  }
  const algorithm = digestAlgorithm(digest);
  if (hash === null) {
    const native = createHash(algorithm);
    await readInto(native, object.body, length);
    return { outcome: judge(content, progress, native.digest("hex")), bytes: length };
  }
  await readInto(hash, object.body, length);
  const offset = progress.offset + length;
  if (offset < size) {
    const further: Progress = { ...progress, offset, hash: hash.save(), failures: 0 };
    return { outcome: { kind: "unfinished", progress: further }, bytes: length };
  }
  return { outcome: judge(content, progress, hash.hex()), bytes: length };
}

/**
 * Of an object that ends before the slice R2 gives an error, as it does where it is itself at fault: its head tells which.
 * @returns no body where its size is not the one that it should have
 */
async function getSlice(
  bucket: R2Bucket,
  objectKey: string,
  range: { readonly offset: number; readonly length: number },
  size: number,
): Promise<{ readonly size: number; readonly body: ReadableStream | null } | null> {
  try {
    return await (size === 0 ? bucket.get(objectKey) : bucket.get(objectKey, { range }));
  } catch (error) {
    const head = await bucket.head(objectKey);
    if (head?.size === size) throw error;
    return head === null ? null : { size: head.size, body: null };
  }
}

/** A text of the database is not read over a wire that could be at fault. */
function checkBody({ digest, size }: Content, body: string | null): Checked {
  if (body === null) return { outcome: bad("missing", null), bytes: 0 };
  const bytes = new TextEncoder().encode(body);
  if (bytes.byteLength !== size) return { outcome: bad("size", String(bytes.byteLength)), bytes: bytes.byteLength };
  const algorithm = digestAlgorithm(digest);
  const hex = createHash(algorithm).update(bytes).digest("hex");
  const outcome: Outcome = hex === digestHex(digest) ? { kind: "good" } : bad("digest", `${algorithm}:${hex}`);
  return { outcome, bytes: bytes.byteLength };
}

/** @returns undefined where it can't be gone on with: an earlier version of the Worker saved it */
function hashOf(algorithm: DigestAlgorithm, { hash, offset }: Progress): ResumableHash | undefined {
  const saved = hash === null ? new ResumableHash(algorithm) : ResumableHash.load(algorithm, hash);
  return saved?.lengthBytes === offset ? saved : undefined;
}

function judge({ id, digest }: Content, { doubted }: Progress, hex: string): Outcome {
  if (hex === digestHex(digest)) return { kind: "good" };
  if (doubted) return bad("digest", `${digestAlgorithm(digest)}:${hex}`);
  return { kind: "unfinished", progress: { ...beginning(id), doubted: true } };
}

function bad(problem: Problem, found: string | null): Outcome {
  return { kind: "bad", problem, found };
}

/** @throws where the stream ends before its time: that is R2's, or the wire's, not the object's */
async function readInto(
  hash: Pick<Hash | ResumableHash, "update">,
  body: ReadableStream,
  length: number,
): Promise<void> {
  const read = await hashStream(hash, body);
  if (read !== length) throw new Error(`R2 gave ${String(read)} of ${String(length)} bytes`);
}
