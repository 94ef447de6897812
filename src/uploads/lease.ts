import { RpcTarget } from "cloudflare:workers";
import { LEASE_IDLE_SECONDS } from "../limits.ts";
import type { Digest } from "../oci/digest.ts";
import type { AfterEnd, Multipart, Part, Progress } from "./ledger.ts";

/** What a lease lets its holder do; each is the session's own, and done only while the lease stands. */
export interface LeaseActions {
  isHeld: () => boolean;
  release: () => void;
  recordUpload: (multipart: Multipart) => void;
  recordParts: (parts: readonly Part[], multipart: Multipart) => void;
  recordEnd: (progress: Progress | null, then: AfterEnd) => Promise<void>;
  tail: () => Uint8Array;
  parts: () => Part[];
  finish: (digest: Digest) => void;
  discard: () => Promise<void>;
}

/**
 * The right to write to a session. Every call says whether it still stood: false means that another request took over,
 * and that what this one sent since is not part of the upload.
 */
export class Lease extends RpcTarget {
  readonly #actions: LeaseActions;
  #usedAtMs = Date.now();

  constructor(actions: LeaseActions) {
    super();
    this.#actions = actions;
  }

  isIdle(nowMs: number): boolean {
    return nowMs - this.#usedAtMs > LEASE_IDLE_SECONDS * 1000;
  }

  /** The bytes of the short last part: at most `partBytes`; null where the lease is lost. */
  tail(): Uint8Array | null {
    return this.#use() ? this.#actions.tail() : null;
  }

  /** A multipart upload was begun. Told before it has a part, so that the session's end finds it, whatever happens. */
  recordUpload(multipart: Multipart): boolean {
    return this.#do(() => this.#actions.recordUpload(multipart));
  }

  /** A sign of life of a holder that has nothing to record for long. */
  touch(): boolean {
    return this.#use();
  }

  /** Whole parts are in R2; where there was a tail, or a single object, they hold its bytes too. */
  recordParts(parts: readonly Part[], multipart: Multipart): boolean {
    return this.#do(() => this.#actions.recordParts(parts, multipart));
  }

  /** All parts that make the object, in order; null where the lease is lost. */
  parts(): Part[] | null {
    return this.#use() ? this.#actions.parts() : null;
  }

  /**
   * The request's bytes have ended, and all of them are in R2. Ends the lease, or seals the session.
   * @param progress null where no byte came
   */
  async recordEnd(progress: Progress | null, then: AfterEnd): Promise<boolean> {
    if (!this.#use()) return false;
    await this.#actions.recordEnd(progress, then);
    if (then === "release") this.release();
    return true;
  }

  /** The blob's rows are written. Ends the lease. */
  finish(digest: Digest): boolean {
    const done = this.#do(() => this.#actions.finish(digest));
    this.release();
    return done;
  }

  /** Gives the upload up with all its bytes. Ends the lease. */
  async discard(): Promise<boolean> {
    if (!this.#actions.isHeld()) return false;
    await this.#actions.discard();
    this.release();
    return true;
  }

  /** @returns whether it was still held */
  release(): boolean {
    const held = this.#actions.isHeld();
    this.#actions.release();
    return held;
  }

  /** The runtime calls it when the caller let go of the lease, or is gone. */
  [Symbol.dispose](): void {
    this.#actions.release();
  }

  #do(action: () => void): boolean {
    if (!this.#use()) return false;
    action();
    return true;
  }

  /** Whether the lease still stands; if so, it has shown a sign of life. */
  #use(): boolean {
    if (!this.#actions.isHeld()) return false;
    this.#usedAtMs = Date.now();
    return true;
  }
}
