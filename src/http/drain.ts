import { DRAIN_MAX_BYTES, READ_BYTES } from "../limits.ts";

/**
 * Reads what a request still sends after its answer is known. A client that is still writing when its connection is closed sees a broken
 * pipe instead of the answer; past the bound it is cut off all the same.
 */
export async function drainBody(request: Request): Promise<void> {
  if (request.body === null || request.body.locked) return;
  const reader = request.body.getReader({ mode: "byob" });
  let scratch = new ArrayBuffer(READ_BYTES);
  try {
    for (let drained = 0; drained < DRAIN_MAX_BYTES;) {
      const { value } = await reader.readAtLeast(READ_BYTES, new Uint8Array(scratch));
      if (value === undefined || value.byteLength < READ_BYTES) return;
      drained += value.byteLength;
      scratch = value.buffer;
    }
    await reader.cancel();
  } catch {
    // The client is gone: there is nobody left to answer.
  }
}
