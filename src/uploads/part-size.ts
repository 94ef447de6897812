import { PART_BYTES, PART_MIN_BYTES } from "../limits.ts";

/**
 * The part size of a new session. R2 wants equal parts, and what a chunk leaves over after its last whole part is sent
 * again with the next chunk. So where a client sends chunks of one length (it gives Content-Range), the part is chosen
 * to divide that length, as far as R2's least part allows: chunks of 10 MiB then leave nothing over, where parts of
 * 8 MiB would send 12 of every 40 MiB twice.
 * @param chunkBytes length of the first chunk, null where it is unknown or no further chunk is expected
 */
export function choosePartBytes(chunkBytes: number | null): number {
  if (chunkBytes === null || chunkBytes < PART_MIN_BYTES) return PART_BYTES;
  const divided = Math.floor(chunkBytes / Math.ceil(chunkBytes / PART_BYTES));
  return divided >= PART_MIN_BYTES ? divided : PART_BYTES;
}
