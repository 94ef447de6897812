import type { Context } from "hono";
import { MANIFEST_MAX_BYTES, MANIFEST_MEMORY_FACTOR, SMALL_BODY_BYTES } from "../limits.ts";
import { OciError } from "../oci/errors.ts";
import { bodyBudget } from "./body-budget.ts";
import { BodyBroken, BodyReader } from "./body-reader.ts";

/** Content-Length in bytes; null where the body's length is not known beforehand (Transfer-Encoding: chunked). */
export function contentLength(c: Context): number | null {
  const header = c.req.header("content-length");
  if (header !== undefined && /^\d{1,15}$/.test(header)) return Number(header);
  return c.req.raw.body === null ? 0 : null;
}

/**
 * Reads a manifest's body whole, and hands it to `work` while it counts against the isolate's budget, with all that
 * reading it makes of it.
 * @returns null where the body has more than MANIFEST_MAX_BYTES; the rest of it is not read
 * @throws OciError MANIFEST_INVALID where the client goes away before the body's end
 */
export async function withManifestBody<T>(c: Context, work: (bytes: Uint8Array) => Promise<T>): Promise<T | null> {
  const body: ReadableStream<Uint8Array> | null = c.req.raw.body;
  if ((contentLength(c) ?? 0) > MANIFEST_MAX_BYTES) return null;
  if (body === null) return work(new Uint8Array(0));
  return bodyBudget.manifests.hold(SMALL_BODY_BYTES, async () => {
    const reader = new BodyReader(body);
    const smallMax = SMALL_BODY_BYTES / MANIFEST_MEMORY_FACTOR;
    const start = await readUpTo(reader, new Uint8Array(0), smallMax);
    if (start.whole) return work(start.bytes);
    return bodyBudget.large.hold(MANIFEST_MAX_BYTES * MANIFEST_MEMORY_FACTOR, async () => {
      const { bytes, whole } = await readUpTo(reader, start.bytes, MANIFEST_MAX_BYTES);
      if (whole) return work(bytes);
      reader.release();
      return null;
    });
  });
}

/** Reads on until the body ends (`whole`), or there are more than `maxBytes` of it. */
async function readUpTo(
  reader: BodyReader,
  before: Uint8Array,
  maxBytes: number,
): Promise<{ readonly bytes: Uint8Array; readonly whole: boolean }> {
  let buffer = before;
  let filled = before.byteLength;
  try {
    while (filled <= maxBytes) {
      const piece = await reader.next();
      if (piece === null) return { bytes: buffer.subarray(0, filled), whole: filled <= maxBytes };
      if (filled + piece.byteLength > buffer.byteLength) {
        const grown = new Uint8Array(Math.max(filled + piece.byteLength, buffer.byteLength * 2));
        grown.set(buffer.subarray(0, filled));
        buffer = grown;
      }
      buffer.set(piece, filled);
      filled += piece.byteLength;
    }
    return { bytes: buffer.subarray(0, filled), whole: false };
  } catch (error) {
    if (!(error instanceof BodyBroken)) throw error;
    throw new OciError("MANIFEST_INVALID", "the request's body broke off; nothing of it was kept: send it again");
  }
}
