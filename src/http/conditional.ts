import type { Digest } from "../oci/digest.ts";

/** Content named by a digest never changes, so its digest is a strong validator (RFC 9110 section 8.8.3). */
export function etagOf(digest: Digest): string {
  return `"${digest}"`;
}

/** If-None-Match, RFC 9110 section 13.1.2: `*` or a list, compared weakly. */
export function isNotModified(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch === undefined) return false;
  return ifNoneMatch
    .split(",")
    .map((candidate) => candidate.trim())
    .some((candidate) => candidate === "*" || candidate.replace(/^W\//, "") === etag);
}

/** If-Range, RFC 9110 section 13.1.5: only a strong match lets the range stand. A date never matches: there is none. */
export function rangeStands(ifRange: string | undefined, etag: string): boolean {
  return ifRange === undefined || ifRange.trim() === etag;
}
