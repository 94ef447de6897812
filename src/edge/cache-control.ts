import { configOf } from "../config.ts";
import type { RepositoryName } from "../oci/repository.ts";
import { matchesAnyPattern } from "../oci/repository-pattern.ts";

/**
 * What others may do with an answer that has content (RFC 9111 section 5.2.2). What everybody may pull may be kept by
 * who is in between, by digest for what is left of the time that it is believed here: so long may a delete take to be seen
 * everywhere. All else is for its reader alone, who asks again each time. Nobody may change the bytes: their digest
 * would not be theirs any more.
 * @param freshMs for how long it is believed from now on; 0 by tag
 */
export function cacheControl(env: Env, repository: RepositoryName, freshMs: number): string {
  if (!matchesAnyPattern(repository, configOf(env).ANONYMOUS_PULL)) return "private, no-cache, no-transform";
  const seconds = Math.floor(freshMs / 1000);
  return seconds <= 0 ? "public, no-cache, no-transform" : `public, max-age=${String(seconds)}, no-transform`;
}
