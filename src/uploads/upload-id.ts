import { Buffer } from "node:buffer";

/**
 * Ids of upload sessions: UUIDs of version 7 (RFC 9562 section 5.7), for the spec asks a UUID in the location
 * (distribution-spec v1.1.1 «Pushing Blobs»), and these sort by the time of their making.
 */
export function newUploadId(nowMs: number): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const time = Buffer.from(timeHex(nowMs), "hex");
  bytes.set(time);
  bytes[6] = 0x70 | ((bytes[6] ?? 0) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  const hex = Buffer.from(bytes).toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
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
