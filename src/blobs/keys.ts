/**
 * Every R2 key of the registry. A key is made once and never used again: what a row names can't change under it, and
 * a late write of a request that was given up lands beside the content, not in it. D1 maps digest to key.
 *
 *   blobs/<time>-<random>      a blob, whole or under upload
 *   manifests/<time>-<random>  a manifest that is too large for its row, or not valid UTF-8
 *   exports/parts/<time>/...   rows of a copy of the index (src/integrity/export.ts)
 *   exports/complete/<time>    the list of a copy's parts; written last, so what has one is whole
 *
 * The time is milliseconds since 1970 in base 36, nine characters, so that keys list in the order of their making: the
 * sweep for objects that no row names looks at each key once, not at the whole bucket each time.
 */
/** What the sweep looks through; copies of the index, which no row names, are not among it. */
export const keyPrefixes = ["blobs/", "manifests/"] as const;
export type KeyPrefix = (typeof keyPrefixes)[number];

export function newKey(prefix: KeyPrefix, nowMs: number): string {
  return `${prefix}${sortableTime(nowMs)}-${randomText()}`;
}

/** The first key that could have been made at this time. */
export function firstKeyAt(prefix: KeyPrefix, timeMs: number): string {
  return `${prefix}${sortableTime(timeMs)}`;
}

export const exportPartsPrefix = "exports/parts/";
export const exportListsPrefix = "exports/complete/";

/** A copy of the index is named by the time of its beginning, so that copies list in their order. */
export function newExportName(nowMs: number): string {
  return sortableTime(nowMs);
}

export function newExportPartKey(name: string): string {
  return `${exportPartsPrefix}${name}/${randomText()}`;
}

export function exportListKey(name: string): string {
  return `${exportListsPrefix}${name}`;
}

/** Sorts as text in the order of time, until the year 5188. */
export function sortableTime(timeMs: number): string {
  return Math.max(0, timeMs).toString(36).padStart(9, "0");
}

/** 20 hexadecimal characters, 74 bits of them random. */
export function randomText(): string {
  return crypto.randomUUID().replaceAll("-", "").slice(12);
}
