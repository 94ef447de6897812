import { Kept } from "./kept.ts";

/** Counts by key, each over a period that begins with the first of it; of a bounded number of keys. */
export class Tally {
  readonly #periodMs: number;
  readonly #counts: Kept<{ readonly count: number; readonly untilMs: number }>;

  constructor(most: number, periodSeconds: number) {
    this.#periodMs = periodSeconds * 1000;
    this.#counts = new Kept(most);
  }

  count(key: string, nowMs: number): number {
    return this.#counts.get(key, nowMs)?.count ?? 0;
  }

  /** @returns the count with this one */
  add(key: string, nowMs: number): number {
    const { count, untilMs } = this.#counts.get(key, nowMs) ?? { count: 0, untilMs: nowMs + this.#periodMs };
    this.#counts.set(key, { count: count + 1, untilMs }, untilMs);
    return count + 1;
  }
}
