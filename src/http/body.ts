import type { Context } from "hono";
import { OciError } from "../oci/errors.ts";
import { bodyBudget } from "./body-budget.ts";

/** Content-Length in bytes; null where the body's length is not known beforehand (Transfer-Encoding: chunked). */
export function contentLength(c: Context): number | null {
  const header = c.req.header("content-length");
  if (header !== undefined && /^\d{1,15}$/.test(header)) return Number(header);
  return c.req.raw.body === null ? 0 : null;
}

/**
 * Reads a body that is bounded, and hands it to `work` while its bytes count against the isolate's budget.
 * @returns null where the body has more than `maxBytes`; the rest of it is not read
 * @throws OciError MANIFEST_INVALID where the client goes away before the body's end
 */
export async function withBoundedBody<T>(
  c: Context,
  maxBytes: number,
  work: (bytes: Uint8Array) => Promise<T>,
): Promise<T | null> {
  const length = contentLength(c);
  if (length !== null && length > maxBytes) return null;
  return bodyBudget.hold(Math.max(length ?? maxBytes, 1), async () => {
    const bytes = await readBounded(c.req.raw.body, maxBytes);
    return bytes === null ? null : work(bytes);
  });
}

async function readBounded(body: ReadableStream<Uint8Array> | null, maxBytes: number): Promise<Uint8Array | null> {
  if (body === null) return new Uint8Array(0);
  const reader = body.getReader({ mode: "byob" });
  let buffer = new Uint8Array(INITIAL_BYTES);
  let filled = 0;
  let scratch = new ArrayBuffer(INITIAL_BYTES);
  for (;;) {
    const { value } = await reader.readAtLeast(INITIAL_BYTES, new Uint8Array(scratch)).catch(() => {
      throw new OciError("MANIFEST_INVALID", "the request's body broke off; nothing of it was kept: send it again");
    });
    if (value === undefined || value.byteLength === 0) break;
    if (filled + value.byteLength > maxBytes) {
      reader.releaseLock();
      return null;
    }
    if (filled + value.byteLength > buffer.byteLength) {
      const grown = new Uint8Array(Math.max(filled + value.byteLength, buffer.byteLength * 2));
      grown.set(buffer.subarray(0, filled));
      buffer = grown;
    }
    buffer.set(value, filled);
    filled += value.byteLength;
    if (value.byteLength < INITIAL_BYTES) break;
    scratch = value.buffer;
  }
  return buffer.subarray(0, filled);
}

const INITIAL_BYTES = 16 * 1024;
