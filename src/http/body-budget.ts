import {
  LARGE_BODIES_BYTES,
  MANIFESTS_BYTES,
  READ_BYTES,
  SMALL_BODIES_BYTES,
  SMALL_BODY_BYTES,
  WAIT_HEARTBEAT_MS,
  WAIT_SILENCE_MS,
} from "../limits.ts";

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
    const giveBack = await this.take(bytes);
    try {
      return await work();
    } finally {
      giveBack();
    }
  }

  /** Takes `bytes`, waiting for its turn. @returns what gives them back, to be called once */
  async take(bytes: number): Promise<() => void> {
    if (bytes > this.totalBytes) throw new RangeError("a body buffer larger than the whole budget");
    if (this.#waiting.length > 0 || this.#heldBytes + bytes > this.totalBytes) await this.#turn(bytes);
    else this.#take(bytes);
    return () => {
      this.#heldBytes -= bytes;
      this.#wakeNext();
    };
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

/**
 * The budgets of this isolate. Whoever holds of the large one waits for nothing, and nobody waits for another while
 * holding of the large: so a chain of waiting always ends at somebody who reads on.
 */
export const bodyBudget = {
  /** for a manifest as long as it is small: SMALL_BODY_BYTES each */
  manifests: new BodyBudget(MANIFESTS_BYTES),
  /** for any other body as long as it is small: SMALL_BODY_BYTES each */
  small: new BodyBudget(SMALL_BODIES_BYTES),
  /** for a body that has grown */
  large: new BodyBudget(LARGE_BODIES_BYTES),
} as const;

/** The room of one body: a small one's, until it grows. */
export class BodyRoom {
  #giveBack: () => void;

  constructor(giveBack: () => void) {
    this.#giveBack = giveBack;
  }

  /** Takes `bytes`, and what a read takes, in the place of a small body's room. To be called once. */
  async grow(bytes: number): Promise<void> {
    const giveBack = await bodyBudget.large.take(bytes + READ_BYTES);
    this.#giveBack();
    this.#giveBack = giveBack;
  }

  giveBack(): void {
    this.#giveBack();
  }
}

/** Runs `work` with the room of a small body that is no manifest. */
export async function withBodyRoom<T>(work: (room: BodyRoom) => Promise<T>): Promise<T> {
  const room = new BodyRoom(await bodyBudget.small.take(SMALL_BODY_BYTES));
  try {
    return await work(room);
  } finally {
    room.giveBack();
  }
}
