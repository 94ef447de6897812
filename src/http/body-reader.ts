import {
  BODY_SILENCE_SECONDS,
  READ_BYTES,
  READ_FAST_MS,
  READ_LEAST_BYTES,
  READ_MOST_BYTES,
  READ_SLOW_MS,
} from "../limits.ts";

/** The client went away, its connection broke, or it fell silent, before the body's end. */
export class BodyBroken extends Error {
  override readonly name = "BodyBroken";
}

/**
 * Reads a body piece by piece into one small buffer. A read that fails takes its buffer with it, which is why it is not
 * the one that the bytes are kept in; copying them costs nothing beside R2.
 */
export class BodyReader {
  readonly #reader: ReadableStreamBYOBReader;
  #scratch = new ArrayBuffer(READ_BYTES);
  #ended = false;
  /** A read is over when it has so much: a slow body's is soon, so that what came of it is not lost when it breaks. */
  #leastBytes = READ_LEAST_BYTES;

  constructor(body: ReadableStream<Uint8Array>) {
    this.#reader = body.getReader({ mode: "byob" });
  }

  /**
   * @returns the next bytes, at most READ_BYTES, valid until the next call; null at the end
   * @throws BodyBroken
   */
  async next(): Promise<Uint8Array | null> {
    if (this.#ended) return null;
    const leastBytes = this.#leastBytes;
    const begunMs = Date.now();
    const { value } = await this.#read(leastBytes);
    this.#adapt(Date.now() - begunMs);
    // The end of the stream is a short read.
    this.#ended = value === undefined || value.byteLength < leastBytes;
    if (value === undefined || value.byteLength === 0) return null;
    this.#scratch = value.buffer;
    return value;
  }

  /** Leaves the rest of the body to whoever comes next. */
  release(): void {
    this.#reader.releaseLock();
  }

  #adapt(tookMs: number): void {
    if (tookMs < READ_FAST_MS) this.#leastBytes = Math.min(this.#leastBytes * 16, READ_MOST_BYTES);
    else if (tookMs > READ_SLOW_MS) this.#leastBytes = Math.max(this.#leastBytes / 16, READ_LEAST_BYTES);
  }

  async #read(leastBytes: number): Promise<ReadableStreamReadResult<Uint8Array<ArrayBuffer>>> {
    const silence = Promise.withResolvers<never>();
    const timer = setTimeout(() => silence.reject(new BodyBroken("the body fell silent")), BODY_SILENCE_SECONDS * 1000);
    try {
      return await Promise.race([this.#reader.readAtLeast(leastBytes, new Uint8Array(this.#scratch)), silence.promise]);
    } catch (error) {
      if (error instanceof BodyBroken) await this.#reader.cancel(error);
      throw new BodyBroken("the request's body broke off", { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }
}
