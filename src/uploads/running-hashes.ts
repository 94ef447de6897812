import { createHash, type Hash } from "node:crypto";
import { HASHES_KEPT_MAX } from "../limits.ts";
import type { DigestAlgorithm } from "../oci/digest.ts";
import type { ContentHash } from "./ledger.ts";

/**
 * Native hashes, by what they have come to. The ledger tells the digest of its bytes so far, and a hash that has come to
 * the same digest has seen the same bytes, whoever brought them: so it is found by that, and needs no session's name, and
 * can't be a wrong one. It can be absent, for it lives in one isolate: then the object is read back once, at the end.
 */
const kept = new Map<string, Hash>();

/** A hash that has seen the ledger's bytes and may take more; null where this isolate has none. */
export function continueHash(soFar: ContentHash | null, offset: number, algorithm: DigestAlgorithm): Hash | null {
  if (offset === 0) return createHash(algorithm);
  if (soFar?.algorithm !== algorithm) return null;
  // A copy: where this request comes to nothing, the next one begins where it began.
  return kept.get(keyOf(soFar))?.copy() ?? null;
}

/** Keeps the hash for the session's next request. */
export function keepHash(hash: Hash, algorithm: DigestAlgorithm): ContentHash {
  const soFar: ContentHash = { algorithm, hex: hash.copy().digest("hex") };
  kept.delete(keyOf(soFar));
  kept.set(keyOf(soFar), hash);
  const [oldest] = kept.keys();
  if (kept.size > HASHES_KEPT_MAX && oldest !== undefined) kept.delete(oldest);
  return soFar;
}

function keyOf({ algorithm, hex }: ContentHash): string {
  return `${algorithm}:${hex}`;
}
