/** What an isolate keeps for a while, of a bounded number: the oldest goes first. */
export class Kept<T> {
  readonly #most: number;
  readonly #entries = new Map<string, { readonly value: T; readonly untilMs: number }>();

  constructor(most: number) {
    this.#most = most;
  }

  get(key: string, nowMs: number): T | undefined {
    const known = this.#entries.get(key);
    if (known === undefined) return undefined;
    if (known.untilMs > nowMs) return known.value;
    this.#entries.delete(key);
    return undefined;
  }

  set(key: string, value: T, untilMs: number): void {
    this.#entries.delete(key);
    const oldest = this.#entries.keys().next();
    if (this.#entries.size >= this.#most && oldest.done !== true) this.#entries.delete(oldest.value);
    this.#entries.set(key, { value, untilMs });
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }
}
