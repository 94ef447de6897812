import type { Config } from "../config.ts";
import { EDGE_CONTENT_MAX_SECONDS } from "../limits.ts";

/**
 * How long what a repository has is believed, ms; 0: nothing is cached. Half the grace at most: what the collector
 * removes has been 404 for all of it, in every isolate for half of it.
 */
export function heldMs(config: Config): number {
  return Math.min(config.CACHE_TTL, config.GC_GRACE_SECONDS / 2) * 1000;
}

/** How long bytes are kept by their digest, ms. They are never asked for without what a repository has. */
export function contentMs(config: Config): number {
  return Math.min(EDGE_CONTENT_MAX_SECONDS, config.GC_GRACE_SECONDS / 2) * 1000;
}
