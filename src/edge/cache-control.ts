import { configOf } from "../config.ts";
import type { RepositoryName } from "../oci/repository.ts";
import { matchesAnyPattern } from "../oci/repository-pattern.ts";

/**
 * What others may do with an answer that has content (RFC 9111 section 5.2.2). What everybody may pull may be kept by
 * who is in between, by digest for CACHE_TTL: so long may a delete take to be seen everywhere. All else is for its reader
 * alone, who asks again each time. Nobody may change the bytes: their digest would not be theirs any more.
 */
export function cacheControl(env: Env, repository: RepositoryName, by: "tag" | "digest"): string {
  const { ANONYMOUS_PULL, CACHE_TTL } = configOf(env);
  if (!matchesAnyPattern(repository, ANONYMOUS_PULL)) return "private, no-cache, no-transform";
  if (by === "tag" || CACHE_TTL === 0) return "public, no-cache, no-transform";
  return `public, max-age=${String(CACHE_TTL)}, no-transform`;
}
