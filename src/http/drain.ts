import { DRAIN_MAX_BYTES, DRAIN_MAX_SECONDS, READ_BYTES } from "../limits.ts";

/**
 * Reads what a request still sends after its answer is known. A client that is still writing when its connection is
 * closed sees a broken pipe instead of the answer. Past the bounds it is cut off all the same: one that has fallen
 * silent may be waiting for just that answer.
 */
export async function drainBody(request: Request): Promise<void> {
  if (request.body === null || request.body.locked) return;
  const reader = request.body.getReader({ mode: "byob" });
  const late = Promise.withResolvers<null>();
  const timer = setTimeout(() => late.resolve(null), DRAIN_MAX_SECONDS * 1000);
  let scratch = new ArrayBuffer(READ_BYTES);
  try {
    for (let drained = 0; drained < DRAIN_MAX_BYTES;) {
      const read = await Promise.race([reader.readAtLeast(READ_BYTES, new Uint8Array(scratch)), late.promise]);
      if (read === null) break;
      if (read.value === undefined || read.value.byteLength < READ_BYTES) return;
      drained += read.value.byteLength;
      scratch = read.value.buffer;
    }
    await reader.cancel();
  } catch {
    // The client is gone: there is nobody left to answer.
  } finally {
    clearTimeout(timer);
  }
}
