import { BODY_BUDGET_BYTES, WAIT_HEARTBEAT_MS, WAIT_SILENCE_MS } from "../limits.ts";

interface Waiter {
  readonly bytes: number;
  aliveAtMs: number;
  admitted: boolean;
  readonly admit: () => void;
}

/**
 * Bounds the bytes of request bodies that this isolate holds at once: it has 128 MB for all its requests together.
 * A request takes what its buffer needs before it reads, and waits its turn where that is not to be had.
 */
export class BodyBudget {
  readonly totalBytes: number;
  #heldBytes = 0;
  #peakBytes = 0;
  readonly #waiting: Waiter[] = [];

  constructor(totalBytes: number) {
    this.totalBytes = totalBytes;
  }

  /** bytes held now */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** most bytes held at once in this isolate's life */
  get peakBytes(): number {
    return this.#peakBytes;
  }

  /** Holds `bytes` (at most the whole budget) while `work` runs. First come, first served. */
  async hold<T>(bytes: number, work: () => Promise<T>): Promise<T> {
    if (bytes > this.totalBytes) throw new RangeError("a body buffer larger than the whole budget");
    if (this.#waiting.length > 0 || this.#heldBytes + bytes > this.totalBytes) await this.#turn(bytes);
    else this.#take(bytes);
    try {
      return await work();
    } finally {
      this.#heldBytes -= bytes;
      this.#wakeNext();
    }
  }

  #take(bytes: number): void {
    this.#heldBytes += bytes;
    this.#peakBytes = Math.max(this.#peakBytes, this.#heldBytes);
  }

  async #turn(bytes: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiter: Waiter = {
      bytes,
      aliveAtMs: Date.now(),
      admitted: false,
      admit: () => {
        // The bytes are taken on behalf of the waiter here, so that nobody overtakes it before it runs.
        this.#take(bytes);
        waiter.admitted = true;
        resolve();
      },
    };
    this.#waiting.push(waiter);
    for (;;) {
      // The runtime ends a request that waits for nothing but another request's promise as hung; a timer of its own
      // keeps it alive, and shows the others that it is.
      await Promise.race([promise, scheduler.wait(WAIT_HEARTBEAT_MS)]);
      if (waiter.admitted) return;
      waiter.aliveAtMs = Date.now();
      // Passed over as gone, in an isolate too busy for its timers: it stands at the end again.
      if (!this.#waiting.includes(waiter)) this.#waiting.push(waiter);
      this.#wakeNext();
    }
  }

  #wakeNext(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      // A waiter whose request was ended would take its bytes and never give them back.
      const isGone = Date.now() - next.aliveAtMs > WAIT_SILENCE_MS;
      if (!isGone && this.#heldBytes + next.bytes > this.totalBytes) return;
      this.#waiting.shift();
      if (!isGone) next.admit();
    }
  }
}

/** The budget of this isolate. */
export const bodyBudget = new BodyBudget(BODY_BUDGET_BYTES);
