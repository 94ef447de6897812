import { OciError } from "./errors.ts";

declare const brand: unique symbol;

/** The registered algorithms of image-spec v1.1.1 «Digests»; the encoded part is lower-case hex of this length. */
const hexLength = { sha256: 64, sha512: 128 } as const;

export type DigestAlgorithm = keyof typeof hexLength;
export type Digest = string & { readonly [brand]: "digest" };

export const digestAlgorithms: readonly DigestAlgorithm[] = ["sha256", "sha512"];

/** The digest of no bytes, for each algorithm: a PUT without a body may rightly name one. */
export const emptyDigests: readonly string[] = [
  "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
];

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
