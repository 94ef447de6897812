import { READ_BYTES } from "../limits.ts";

/** Reads a body to its end, into one buffer of READ_BYTES. @returns how many bytes it had */
export async function hashStream(
  hash: { readonly update: (bytes: Uint8Array) => unknown },
  body: ReadableStream,
): Promise<number> {
  const reader = body.getReader({ mode: "byob" });
  let scratch = new ArrayBuffer(READ_BYTES);
  let bytes = 0;
  for (;;) {
    const { value } = await reader.readAtLeast(READ_BYTES, new Uint8Array(scratch));
    if (value === undefined) return bytes;
    hash.update(value);
    bytes += value.byteLength;
    if (value.byteLength < READ_BYTES) return bytes;
    scratch = value.buffer;
  }
}
