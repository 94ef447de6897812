import { configOf } from "../config.ts";
import { CREDENTIAL_KEPT_SECONDS } from "../limits.ts";

/**
 * How long, ms, an isolate knows what somebody may: who runs a shorter CACHE_TTL wants what was taken away to be gone
 * sooner, everywhere.
 */
export function rightsKeptMs(env: Env): number {
  return Math.min(CREDENTIAL_KEPT_SECONDS, configOf(env).CACHE_TTL) * 1000;
}
