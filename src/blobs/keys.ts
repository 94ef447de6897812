/**
 * Every R2 key of the registry. A key is made once and never used again: what a row names can't change under it, and
 * a late write of a request that was given up lands beside the content, not in it. D1 maps digest to key.
 *
 *   blobs/<time>-<random>      a blob, whole or under upload
 *   manifests/<time>-<random>  a manifest that is too large for its row, or not valid UTF-8
 *
 * The time is milliseconds since 1970 in base 36, nine characters, so that keys list in the order of their making: the
 * sweep for objects that no row names looks at each key once, not at the whole bucket each time.
 */
export const keyPrefixes = ["blobs/", "manifests/"] as const;
export type KeyPrefix = (typeof keyPrefixes)[number];

export function newKey(prefix: KeyPrefix, nowMs: number): string {
  return `${prefix}${sortableTime(nowMs)}-${randomText()}`;
}

/** The first key that could have been made at this time. */
export function firstKeyAt(prefix: KeyPrefix, timeMs: number): string {
  return `${prefix}${sortableTime(timeMs)}`;
}

/** Sorts as text in the order of time, until the year 5188. */
export function sortableTime(timeMs: number): string {
  return Math.max(0, timeMs).toString(36).padStart(9, "0");
}

/** 20 hexadecimal characters, 74 bits of them random. */
export function randomText(): string {
  return crypto.randomUUID().replaceAll("-", "").slice(12);
}
