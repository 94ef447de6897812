import { type ByteRange, bytesIn } from "../http/range.ts";
import { randomText } from "./keys.ts";

export interface MultipartRanges {
  readonly body: ReadableStream;
  readonly lengthBytes: number;
  readonly contentType: string;
}

/**
 * Several ranges as one `multipart/byteranges` body (RFC 9110 section 14.6), as zstd:chunked pulls ask. Its length is
 * known beforehand, so it goes out with Content-Length; a range is read when the one before it has gone.
 */
export function multipartRanges(
  ranges: readonly ByteRange[],
  size: number,
  read: (range: ByteRange) => Promise<ReadableStream>,
): MultipartRanges {
  const boundary = `moorage-${randomText()}`;
  const encoder = new TextEncoder();
  const parts = ranges.map((range, index) => ({
    range,
    head: encoder.encode(
      `${index === 0 ? "" : "\r\n"}--${boundary}\r\nContent-Type: application/octet-stream\r\n` +
        `Content-Range: bytes ${String(range.start)}-${String(range.end)}/${String(size)}\r\n\r\n`,
    ),
  }));
  const end = encoder.encode(`\r\n--${boundary}--\r\n`);
  const lengthBytes = parts.reduce((sum, { head, range }) => sum + head.byteLength + bytesIn(range), end.byteLength);
  const { readable, writable } = new FixedLengthStream(lengthBytes);
  void send(parts, end, writable, read);
  return { body: readable, lengthBytes, contentType: `multipart/byteranges; boundary=${boundary}` };
}

async function send(
  parts: readonly { readonly range: ByteRange; readonly head: Uint8Array }[],
  end: Uint8Array,
  writable: WritableStream,
  read: (range: ByteRange) => Promise<ReadableStream>,
): Promise<void> {
  try {
    for (const { range, head } of parts) {
      await write(writable, head);
      await (await read(range)).pipeTo(writable, { preventClose: true });
    }
    await write(writable, end);
    await writable.close();
  } catch (error) {
    // The client is gone, or R2 failed: the body ends short of its length, which every client notices.
    await writable.abort(error).catch(() => undefined);
  }
}

async function write(writable: WritableStream, bytes: Uint8Array): Promise<void> {
  const writer = writable.getWriter();
  await writer.write(bytes);
  writer.releaseLock();
}
