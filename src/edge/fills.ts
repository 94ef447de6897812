import { EDGE_FILL_AGAIN_SECONDS, EDGE_FILL_SECONDS, EDGE_FILLS_MAX, EDGE_FILLS_KEPT_MAX } from "../limits.ts";

/**
 * Which fills of the data centre's cache this isolate has begun lately: few at once, and none again so soon where it did
 * not stay. A cache that keeps nothing, as in some places it does not, would else be filled anew for each range that is read.
 */
export class Fills {
  /** by key, since when, ms; the oldest first */
  readonly #underWay = new Map<string, number>();
  readonly #ended = new Map<string, number>();

  /** @returns whether it may begin: `end` is to be called then */
  begin(key: string, nowMs: number): boolean {
    for (const [other, sinceMs] of this.#underWay) {
      // The platform ends what goes on for long after the answer, and tells nobody.
      if (sinceMs + EDGE_FILL_SECONDS * 1000 > nowMs) break;
      this.#underWay.delete(other);
    }
    const endedMs = this.#ended.get(key);
    if (endedMs !== undefined && endedMs + EDGE_FILL_AGAIN_SECONDS * 1000 > nowMs) return false;
    if (this.#underWay.has(key) || this.#underWay.size >= EDGE_FILLS_MAX) return false;
    this.#underWay.set(key, nowMs);
    return true;
  }

  end(key: string, nowMs: number): void {
    this.#underWay.delete(key);
    this.#ended.delete(key);
    this.#ended.set(key, nowMs);
    const [oldest] = this.#ended.keys();
    if (this.#ended.size > EDGE_FILLS_KEPT_MAX && oldest !== undefined) this.#ended.delete(oldest);
  }

  /** It was removed from the cache: it may be filled again. */
  forget(key: string): void {
    this.#ended.delete(key);
  }
}
