import { type Digest, parseDigest } from "./digest.ts";

declare const brand: unique symbol;

export type Tag = string & { readonly [brand]: "tag" };

/** `<reference>` of distribution-spec v1.1.1: a tag, or a digest where it has a colon. */
export type Reference =
  | { readonly kind: "tag"; readonly tag: Tag }
  | { readonly kind: "digest"; readonly digest: Digest }
  | { readonly kind: "malformed"; readonly reason: string };

export const tagGrammar = "a tag is 1 to 128 of A-Z a-z 0-9 _ . - and does not begin with . or -";

export function isTag(value: string): value is Tag {
  return /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/.test(value);
}

/**
 * A malformed tag is a value, not an exception: a pull of one is an ordinary miss (404), a push of one is bad input.
 * @throws OciError DIGEST_INVALID where the reference has a colon and is no digest.
 */
export function parseReference(value: string): Reference {
  if (value.includes(":")) return { kind: "digest", digest: parseDigest(value) };
  if (isTag(value)) return { kind: "tag", tag: value };
  return { kind: "malformed", reason: tagGrammar };
}
