import type { Hash } from "node:crypto";
import { BodyBroken, BodyReader } from "../http/body-reader.ts";
import { PARTS_MAX, READ_BYTES, SMALL_BODY_BYTES } from "../limits.ts";
import { OciError } from "../oci/errors.ts";
import { newKey } from "../blobs/keys.ts";
import type { Multipart, Part } from "./ledger.ts";

/** Another request took the session over: what this one sent since is not part of the upload. */
export class LeaseLost extends Error {
  override readonly name = "LeaseLost";
}

export interface PartWriterStart {
  readonly bucket: R2Bucket;
  /** size of every part but the last */
  readonly partBytes: number;
  /** null: no part is in R2 yet */
  readonly multipart: Multipart | null;
  readonly nextPart: number;
  /** bytes that came before and are in no whole part; or what opens the object that holds them, where they are more */
  readonly before: Uint8Array | (() => Promise<ReadableStream<Uint8Array>>);
  /** takes every new byte; null where nobody can use the result */
  readonly hash: Hash | null;
  /** bytes that will come, where that is known */
  readonly expectedBytes: number | null;
  /** called before an upload of parts that was begun here has its first part; false: the lease is lost */
  readonly onUpload: (multipart: Multipart) => Promise<boolean>;
  /** called for each part that is copied of the bytes before; false: the lease is lost */
  readonly onCopied: () => Promise<boolean>;
  /** called when R2 has a part, with those before it that were not told yet; false: the lease is lost */
  readonly onParts: (parts: readonly Part[], multipart: Multipart) => Promise<boolean>;
  /** called once, before the buffer grows past what a small body may hold */
  readonly onGrow: () => Promise<void>;
}

/**
 * Cuts a stream of any length into equal R2 parts. It holds one part and one read, whatever the stream's length. Bytes
 * after the last whole part stay in `tail`, for the caller to put where they belong.
 *
 * A part is sent only when a byte after it has come: a blob that fits one part is one `put`, not an upload of parts.
 */
export class PartWriter {
  readonly #start: Omit<PartWriterStart, "before">;
  /** null: the bytes before are in the buffer; they are not held twice */
  readonly #openBefore: (() => Promise<ReadableStream<Uint8Array>>) | null;
  /** how large the buffer may become: a part, or all that there is where that is less */
  readonly #capacityBytes: number;
  #buffer: Uint8Array;
  #filled: number;
  #grown: boolean;
  #multipart: Multipart | null;
  #nextPart: number;
  #newBytes = 0;
  readonly #untold: Part[] = [];

  constructor({ before, ...start }: PartWriterStart) {
    this.#start = start;
    this.#openBefore = before instanceof Uint8Array ? null : before;
    const prefix = before instanceof Uint8Array ? before : new Uint8Array(0);
    const wanted = prefix.byteLength + Math.min(start.expectedBytes ?? READ_BYTES, SMALL_BODY_BYTES - READ_BYTES);
    this.#capacityBytes =
      start.expectedBytes === null || this.#openBefore !== null
        ? start.partBytes
        : Math.min(start.partBytes, prefix.byteLength + start.expectedBytes);
    this.#buffer = new Uint8Array(Math.min(this.#capacityBytes, wanted));
    this.#buffer.set(prefix);
    this.#filled = prefix.byteLength;
    // Who brings a large prefix has taken the room for it.
    this.#grown = prefix.byteLength > SMALL_BODY_BYTES - READ_BYTES;
    this.#multipart = start.multipart;
    this.#nextPart = start.nextPart;
  }

  /** null: no whole part was sent; all bytes so far are in `tail` */
  get multipart(): Multipart | null {
    return this.#multipart;
  }

  get nextPart(): number {
    return this.#nextPart;
  }

  /** whole parts that R2 has, and that `onParts` was not told of */
  get untold(): readonly Part[] {
    return this.#untold;
  }

  /** bytes read from the stream */
  get newBytes(): number {
    return this.#newBytes;
  }

  /** the bytes after the last whole part; valid until the next call */
  get tail(): Uint8Array {
    return this.#buffer.subarray(0, this.#filled);
  }

  /**
   * Reads to the end of the stream.
   * @param limitBytes stops, and returns false, when the stream has more than this
   * @throws LeaseLost; BodyBroken, and then `tail` holds what came before
   */
  async consume(body: ReadableStream<Uint8Array>, limitBytes: number): Promise<boolean> {
    const reader = new BodyReader(body);
    try {
      for (let piece = await reader.next(); piece !== null; piece = await reader.next()) {
        if (this.#newBytes + piece.byteLength > limitBytes) return false;
        if (this.#newBytes === 0) await this.#copyBefore();
        this.#start.hash?.update(piece);
        this.#newBytes += piece.byteLength;
        await this.#take(piece, async () => this.#tell());
      }
      return true;
    } finally {
      // Whatever ends it: the rest is read and dropped, so that the client comes to read the answer.
      reader.release();
    }
  }

  /**
   * Copies an object whose bytes come first, once a byte has come that makes it worth while. Its parts are told together
   * with the first new one: until then the object stands for them, and goes on doing so if this request comes to nothing.
   */
  async #copyBefore(): Promise<void> {
    if (this.#openBefore === null) return;
    const reader = new BodyReader(await this.#openBefore());
    try {
      for (let piece = await reader.next(); piece !== null; piece = await reader.next()) {
        await this.#take(piece, async () => {
          if (!(await this.#start.onCopied())) throw new LeaseLost();
        });
      }
    } catch (error) {
      // Not the client's body: a caller would keep what came of that one.
      if (error instanceof BodyBroken) throw new Error("the session's bytes could not be read", { cause: error });
      throw error;
    }
  }

  /** Sends the tail as the last part; a later chunk sends it again, longer, under another number. */
  async putTailPart(): Promise<Part> {
    return this.#send(this.tail);
  }

  async #take(bytes: Uint8Array, onPart: () => Promise<void>): Promise<void> {
    let at = 0;
    while (at < bytes.byteLength) {
      if (this.#filled === this.#start.partBytes) {
        this.#untold.push(await this.#send(this.tail));
        this.#nextPart++;
        this.#filled = 0;
        await onPart();
      }
      const length = Math.min(bytes.byteLength - at, this.#start.partBytes - this.#filled);
      await this.#makeRoom(length);
      this.#buffer.set(bytes.subarray(at, at + length), this.#filled);
      this.#filled += length;
      at += length;
    }
  }

  /** Grows by doubling, and then to a whole part: most bodies of unknown length are far smaller. */
  async #makeRoom(length: number): Promise<void> {
    const needed = this.#filled + length;
    if (needed <= this.#buffer.byteLength) return;
    if (!this.#grown && needed > SMALL_BODY_BYTES - READ_BYTES) {
      await this.#start.onGrow();
      this.#grown = true;
    }
    const expected = this.#grown ? (this.#start.expectedBytes ?? 0) : 0;
    const wanted = Math.max(needed, this.#buffer.byteLength * 2, expected);
    // More than was announced does not come: the platform ends a body at its length.
    const grown = new Uint8Array(Math.max(needed, Math.min(this.#capacityBytes, wanted)));
    grown.set(this.tail);
    this.#buffer = grown;
  }

  async #tell(): Promise<void> {
    const parts = this.#untold.splice(0);
    if (this.#multipart === null || !(await this.#start.onParts(parts, this.#multipart))) throw new LeaseLost();
  }

  async #send(bytes: Uint8Array): Promise<Part> {
    if (this.#nextPart > PARTS_MAX) {
      throw new OciError(
        "SIZE_INVALID",
        `the blob needs more than ${String(PARTS_MAX)} parts of ${String(this.#start.partBytes)} bytes; send larger chunks`,
        { status: 413 },
      );
    }
    const upload = await this.#upload();
    const { partNumber, etag } = await upload.uploadPart(this.#nextPart, bytes);
    return { number: partNumber, etag, size: bytes.byteLength };
  }

  async #upload(): Promise<R2MultipartUpload> {
    if (this.#multipart !== null) {
      return this.#start.bucket.resumeMultipartUpload(this.#multipart.objectKey, this.#multipart.uploadId);
    }
    const upload = await this.#start.bucket.createMultipartUpload(newKey("blobs/", Date.now()));
    const multipart = { objectKey: upload.key, uploadId: upload.uploadId };
    if (!(await this.#start.onUpload(multipart))) {
      await upload.abort();
      throw new LeaseLost();
    }
    this.#multipart = multipart;
    return upload;
  }
}
