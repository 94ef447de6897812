import { DRAIN_MAX_BYTES, DRAIN_MAX_SECONDS, DRAIN_SILENCE_SECONDS, DRAINS_MAX, READ_MOST_BYTES } from "../limits.ts";

/** Bodies that this isolate is reading to their end. */
let draining = 0;

/**
 * Reads what a request still sends after its answer is known. A client that is still writing when its connection is
 * closed sees a broken pipe instead of the answer. Past the bounds it is cut off all the same: one that has fallen
 * silent may be waiting for just that answer. Nobody need be logged in to be refused: what all of them hold is bounded.
 */
export async function drainBody(request: Request): Promise<void> {
  if (request.body === null || request.body.locked) return;
  if (draining >= DRAINS_MAX) return request.body.cancel();
  draining += 1;
  try {
    await drain(request.body);
  } catch {
    // The client is gone: there is nobody left to answer.
  } finally {
    draining -= 1;
  }
}

async function drain(body: ReadableStream): Promise<void> {
  const reader = body.getReader({ mode: "byob" });
  const untilMs = Date.now() + DRAIN_MAX_SECONDS * 1000;
  let scratch = new ArrayBuffer(READ_MOST_BYTES);
  for (let drained = 0; drained < DRAIN_MAX_BYTES && Date.now() < untilMs;) {
    const read = await inTime(reader.readAtLeast(READ_MOST_BYTES, new Uint8Array(scratch)));
    if (read === null) break;
    if (read.value === undefined || read.value.byteLength < READ_MOST_BYTES) return;
    drained += read.value.byteLength;
    scratch = read.value.buffer;
  }
  await reader.cancel();
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
