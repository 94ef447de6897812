import { EDGE_FORGOTTEN_MAX } from "../limits.ts";
import type { Held } from "./held.ts";

/** What the entry, its key and its place in the order take beside the body. */
const ENTRY_BYTES = 1024;

export interface Entry {
  readonly held: Held;
  /** of its own count */
  readonly bytes: number;
  /** ms since 1970 */
  readonly untilMs: number;
}

/**
 * What one isolate keeps at hand, of a bounded number of bytes: what was not asked for the longest goes first. Its own
 * count is of the bodies, and of a kilobyte for all else of an entry.
 */
export class Memory {
  readonly #entries = new Map<string, Entry>();
  readonly #forgotten = new Map<string, number>();
  #bytes = 0;
  /** how often anything was forgotten; what was looked up before that may be what was forgotten */
  #turn = 0;
  #turnOfAll = 0;

  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** To be taken before that is asked for which `set` will be told. */
  get turn(): number {
    return this.#turn;
  }

  get(key: string, nowMs: number): Entry | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    if (entry.untilMs <= nowMs) {
      this.#bytes -= entry.bytes;
      return undefined;
    }
    this.#entries.set(key, entry);
    return entry;
  }

  /** @param turn when it was asked for: what was forgotten since is not kept */
  set(key: string, held: Held, untilMs: number, turn: number, maxBytes: number): void {
    if (this.isForgottenSince(key, turn)) return;
    const bytes = ENTRY_BYTES + (held.body?.byteLength ?? 0);
    this.#delete(key);
    if (bytes > maxBytes) return;
    this.#entries.set(key, { held, bytes, untilMs });
    this.#bytes += bytes;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= maxBytes) break;
      this.#delete(oldest);
    }
  }

  /** Whether it was put or deleted here lately: the primary knows then more than a replica may. */
  wasForgotten(key: string): boolean {
    return this.#forgotten.has(key);
  }

  isForgottenSince(key: string, turn: number): boolean {
    return turn < this.#turnOfAll || turn < (this.#forgotten.get(key) ?? 0);
  }

  /** Not kept any more, nor is what was asked for before now and has not come yet. */
  forget(key: string): void {
    this.#delete(key);
    this.#turn++;
    this.#forgotten.set(key, this.#turn);
    // Rarely so many are deleted that it is not known any more which: whatever is on its way is not kept then.
    if (this.#forgotten.size > EDGE_FORGOTTEN_MAX) {
      this.#forgotten.clear();
      this.#turnOfAll = this.#turn;
    }
  }

  #delete(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
  }
}
