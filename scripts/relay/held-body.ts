import type { IncomingMessage } from "node:http";
import type { Places } from "./places.ts";
import { fill, type Frame, UNCOUNTED_BODY_BYTES, type Window } from "./window.ts";

/** Bytes of a body that go upstream as one request, held until that has said that it has them. */
export interface Chunk {
  readonly frames: readonly Frame[];
  readonly bytes: number;
  /** Whether nothing comes after it. */
  readonly isLast: boolean;
}

export interface HeldBodyOptions {
  /** Content-Length; null: told by its end alone */
  readonly lengthBytes: number | null;
  /** The client's address. */
  readonly owner: string;
  /** Frames of a chunk: those that upstream wants at least, and the most that it is given. */
  readonly least: number;
  readonly most: number;
  /** How long a client may leave a frame half filled where others wait for one, ms. */
  readonly idleMs: number;
  /** How long it may be at filling one then, ms; null: as long as something comes. */
  readonly fillMs: number | null;
  readonly signal: AbortSignal;
}

/**
 * A request's body, which comes once, as chunks that can be sent as often as it takes. It is read while there is room in
 * the window, and no faster.
 */
export class HeldBody {
  readonly #body: IncomingMessage;
  readonly #window: Window;
  readonly #options: HeldBodyOptions;
  readonly #abort = new AbortController();
  readonly #signal: AbortSignal;
  #filling: Frame | null = null;
  readonly #full: Frame[] = [];
  readonly #empty: Frame[] = [];
  /** Frames that it has, wherever they are. */
  #held = 0;
  #hasBegun = false;
  #isReading = false;
  /** Whether there is more to read than there is room for. */
  #isBlocked = false;
  #readAtMs = Date.now();
  /** When the frame was had that fills. */
  #openedAtMs = Date.now();
  #ended = false;
  #flushed = false;
  #error: Error | null = null;
  #wake: () => void = () => {};
  readonly #idle: NodeJS.Timeout;

  constructor(body: IncomingMessage, window: Window, options: HeldBodyOptions) {
    this.#body = body;
    this.#window = window;
    this.#options = options;
    this.#signal = AbortSignal.any([options.signal, this.#abort.signal]);
    this.#idle = setInterval(() => this.#flushIfIdle(), Math.min(options.idleMs, options.fillMs ?? Infinity) / 2);
    void this.#pump().then(
      () => this.#end(null),
      (error: unknown) => this.#end(error instanceof Error ? error : new Error(String(error))),
    );
  }

  /**
   * The next bytes, once there are as many as a chunk may have, or as can be held.
   * @throws Error where the client went away, or the signal's reason
   */
  async next(): Promise<Chunk> {
    const { least, most } = this.#options;
    for (;;) {
      if (this.#error !== null) throw this.#error;
      const count = this.#full.length;
      // The larger the chunk, the fewer there are; a client is mostly faster than the line, and more comes at once.
      const isFull = this.#isBlocked && !this.#window.frames.has(least);
      const isEnough = count >= most || (count >= least && isFull) || (count > 0 && this.#flushed);
      if (isEnough || this.#ended) {
        this.#flushed = false;
        const isLast = this.#ended && count <= most;
        const frames = this.#full.splice(0, most);
        return { frames, bytes: frames.reduce((sum, { length }) => sum + length, 0), isLast };
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Its bytes are upstream, or never will be. */
  release(chunk: Chunk): void {
    for (const frame of chunk.frames) this.#giveBack(frame);
  }

  /** Gives back what it has; what the client still sends is read to nowhere, so that it gets to read its answer. */
  close(): void {
    clearInterval(this.#idle);
    this.#abort.abort(new Error("the upload has ended"));
    for (const frame of this.#full.splice(0)) this.#giveBack(frame);
    this.#giveBackEmpty();
    if (this.#filling !== null) this.#giveBack(this.#filling);
    this.#filling = null;
  }

  async #pump(): Promise<void> {
    let early: Buffer = Buffer.alloc(0);
    this.#isReading = true;
    // Destroyed, the body would take the connection with it, and the answer.
    for await (const read of this.#body.iterator({ destroyOnReturn: false })) {
      const piece: unknown = read;
      if (this.#abort.signal.aborted) break;
      if (!Buffer.isBuffer(piece)) throw new TypeError("a body is read as bytes");
      this.#isReading = false;
      this.#readAtMs = Date.now();
      // A place is taken for bytes that have come, not for a client that has only said that they will.
      const bytes = this.#hasBegun ? piece : Buffer.concat([early, piece]);
      const isEarly = !this.#hasBegun && bytes.length < UNCOUNTED_BODY_BYTES;
      early = isEarly ? bytes : Buffer.alloc(0);
      if (!isEarly) await this.#hold(bytes);
      this.#isReading = true;
    }
    if (early.length > 0 && !this.#abort.signal.aborted) await this.#hold(early);
    if (this.#abort.signal.aborted) setImmediate(() => this.#body.resume());
  }

  async #hold(bytes: Buffer): Promise<void> {
    for (let rest = bytes; rest.length > 0;) {
      if (this.#filling === null) {
        this.#filling = await this.#room();
        this.#openedAtMs = Date.now();
      }
      rest = rest.subarray(fill(this.#filling, rest));
      if (this.#filling.length === this.#filling.capacity) await this.#complete(this.#filling);
    }
  }

  #end(error: Error | null): void {
    clearInterval(this.#idle);
    if (this.#abort.signal.aborted) {
      setImmediate(() => this.#body.resume());
      return;
    }
    this.#error = error;
    if (this.#filling !== null) this.#full.push(this.#filling);
    this.#filling = null;
    this.#giveBackEmpty();
    this.#ended = true;
    this.#wake();
  }

  async #room(): Promise<Frame> {
    const isStart = !this.#hasBegun && this.#options.lengthBytes === null;
    this.#hasBegun = true;
    if (!isStart) return this.#frame();
    await this.#take(this.#window.starts, 1, () => true);
    return this.#window.open("start");
  }

  async #frame(): Promise<Frame> {
    const empty = this.#empty.pop();
    if (empty !== undefined) return empty;
    const { least } = this.#options;
    // Who reads ahead waits for those who have nothing yet.
    await this.#take(this.#window.frames, least, () => this.#held === 0);
    this.#held += least;
    for (let more = 1; more < least; more++) this.#empty.push(this.#window.open("frame"));
    return this.#window.open("frame");
  }

  async #take(places: Places, count: number, isUrgent: () => boolean): Promise<void> {
    if (!places.has(count)) {
      this.#isBlocked = true;
      this.#wake();
    }
    await places.take(count, { owner: this.#options.owner, isUrgent }, this.#signal);
    this.#isBlocked = false;
    // It may have been closed just when they came.
    if (!this.#signal.aborted) return;
    places.give(count);
    this.#signal.throwIfAborted();
  }

  async #complete(filled: Frame): Promise<void> {
    if (filled.kind === "frame") {
      this.#filling = null;
      this.#full.push(filled);
      this.#wake();
      return;
    }
    // It is no small body. What has come moves to a frame, and the start is the next one's.
    const frame = await this.#frame();
    fill(frame, filled.buffer.subarray(0, filled.length));
    this.#filling = frame;
    this.#openedAtMs = Date.now();
    this.#giveBack(filled);
    if (frame.length === frame.capacity) await this.#complete(frame);
  }

  /** A client that has stopped keeps nobody from going on: what it has sent goes upstream as it is. */
  #flushIfIdle(): void {
    const { idleMs, fillMs } = this.#options;
    // It may have stopped just where a frame is full.
    const kind = this.#filling?.kind ?? (this.#full.length > 0 ? "frame" : null);
    if (kind === null || !this.#isReading) return;
    const now = Date.now();
    const isIdle = now - this.#readAtMs >= idleMs || (fillMs !== null && now - this.#openedAtMs >= fillMs);
    if (!isIdle) return;
    if (!(kind === "frame" ? this.#window.frames : this.#window.starts).awaited) return;
    if (this.#filling !== null) this.#full.push(this.#filling);
    this.#filling = null;
    this.#flushed = true;
    this.#giveBackEmpty();
    this.#wake();
  }

  /** Those that nothing is to come into. */
  #giveBackEmpty(): void {
    for (const frame of this.#empty.splice(0)) this.#giveBack(frame);
  }

  #giveBack(frame: Frame): void {
    if (frame.kind === "frame") this.#held -= 1;
    this.#window.close(frame);
  }
}
