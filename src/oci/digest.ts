import { OciError } from "./errors.ts";

declare const brand: unique symbol;

/** The registered algorithms of image-spec v1.1.1 «Digests»; the encoded part is lower-case hex of this length. */
const hexLength = { sha256: 64, sha512: 128 } as const;

export type DigestAlgorithm = keyof typeof hexLength;
export type Digest = string & { readonly [brand]: "digest" };

export const digestAlgorithms: readonly DigestAlgorithm[] = ["sha256", "sha512"];

export function isDigestAlgorithm(value: string): value is DigestAlgorithm {
  return value === "sha256" || value === "sha512";
}

export function isDigest(value: string): value is Digest {
  const colon = value.indexOf(":");
  const algorithm = value.slice(0, colon);
  if (colon < 0 || !isDigestAlgorithm(algorithm)) return false;
  return value.length === colon + 1 + hexLength[algorithm] && /^[0-9a-f]+$/.test(value.slice(colon + 1));
}

/** @throws OciError DIGEST_INVALID that says which part is wrong. */
export function parseDigest(value: string): Digest {
  if (isDigest(value)) return value;
  throw new OciError("DIGEST_INVALID", { reason: whyNotDigest(value), digest: value.slice(0, 200) });
}

export function digestAlgorithm(digest: Digest): DigestAlgorithm {
  return digest.startsWith("sha256:") ? "sha256" : "sha512";
}

export function digestHex(digest: Digest): string {
  return digest.slice(digest.indexOf(":") + 1);
}

/** @throws OciError DIGEST_INVALID for an algorithm that is not sha256 or sha512. */
export function parseDigestAlgorithm(value: string): DigestAlgorithm {
  if (isDigestAlgorithm(value)) return value;
  throw new OciError("DIGEST_INVALID", {
    reason: `digest algorithm is not supported; use one of ${digestAlgorithms.join(", ")}`,
    algorithm: value.slice(0, 64),
  });
}

function whyNotDigest(value: string): string {
  const colon = value.indexOf(":");
  if (colon < 0) return "a digest has the form <algorithm>:<hex>";
  const algorithm = value.slice(0, colon);
  if (!isDigestAlgorithm(algorithm)) {
    return `digest algorithm is not supported; use one of ${digestAlgorithms.join(", ")}`;
  }
  return `a ${algorithm} digest has ${String(hexLength[algorithm])} lower-case hexadecimal characters after the colon`;
}
