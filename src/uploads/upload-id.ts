/**
 * Ids of upload sessions: UUIDs of version 7 (RFC 9562 section 5.7), for the spec asks a UUID in the location
 * (distribution-spec v1.1.1 «Pushing Blobs»), and these sort by the time of their making.
 */
export function newUploadId(nowMs: number): string {
  // The random bits and the variant of a version 4 UUID stay; time and version replace the rest.
  const random = crypto.randomUUID();
  return `${firstUploadIdAt(nowMs)}-7${random.slice(15)}`;
}

/** What every id made before this time sorts below. */
export function firstUploadIdAt(timeMs: number): string {
  const hex = timeHex(timeMs);
  return `${hex.slice(0, 8)}-${hex.slice(8)}`;
}

/** ms since 1970 of the id's making */
export function uploadIdTime(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}

/** 48 bits of milliseconds */
function timeHex(timeMs: number): string {
  return Math.max(0, timeMs).toString(16).padStart(12, "0");
}
