import { createHash, timingSafeEqual } from "node:crypto";

/** Compares secrets of any length in a time that tells neither where they differ nor how long either is. */
export function isSameSecret(given: string, expected: string): boolean {
  return timingSafeEqual(sha256(given), sha256(expected));
}

function sha256(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}
