import { DRAIN_MAX_BYTES, DRAIN_MAX_SECONDS, DRAIN_SILENCE_SECONDS, READ_BYTES, READ_MOST_BYTES } from "../limits.ts";

/**
 * Reads what a request still sends after its answer is known. A client that is still writing when its connection is
 * closed sees a broken pipe instead of the answer. Past the bounds it is cut off all the same: one that has fallen
 * silent may be waiting for just that answer.
 */
export async function drainBody(request: Request): Promise<void> {
  if (request.body === null || request.body.locked) return;
  const reader = request.body.getReader({ mode: "byob" });
  const untilMs = Date.now() + DRAIN_MAX_SECONDS * 1000;
  let scratch = new ArrayBuffer(READ_BYTES);
  try {
    for (let drained = 0; drained < DRAIN_MAX_BYTES && Date.now() < untilMs;) {
      const read = await inTime(reader.readAtLeast(READ_MOST_BYTES, new Uint8Array(scratch)));
      if (read === null) break;
      if (read.value === undefined || read.value.byteLength < READ_MOST_BYTES) return;
      drained += read.value.byteLength;
      scratch = read.value.buffer;
    }
    await reader.cancel();
  } catch {
    // The client is gone: there is nobody left to answer.
  }
}

/** @returns null where it takes too long */
async function inTime<T>(read: Promise<T>): Promise<T | null> {
  const late = Promise.withResolvers<null>();
  const timer = setTimeout(() => late.resolve(null), DRAIN_SILENCE_SECONDS * 1000);
  try {
    return await Promise.race([read, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
