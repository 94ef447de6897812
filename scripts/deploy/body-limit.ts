/**
 * How long the body of one request may be, which is a matter of the zone's plan: what is longer is answered by Cloudflare
 * itself, with HTML, before the Worker runs. https://developers.cloudflare.com/workers/platform/limits/#request-limits
 */

/** Bytes. In decimal megabytes: should Cloudflare count in MiB, the registry says no a little earlier than it must. */
const bodyLimits = {
  free: 100_000_000,
  pro: 100_000_000,
  business: 200_000_000,
  enterprise: 500_000_000,
} as const;

export type Plan = keyof typeof bodyLimits;

export const planNames: readonly string[] = Object.keys(bodyLimits);

export function isPlan(name: string): name is Plan {
  return Object.hasOwn(bodyLimits, name);
}

export interface BodyLimit {
  /** What goes into MAX_BODY_BYTES; null: wrangler.toml's own stands. */
  readonly bytes: string | null;
  /** Where it comes from, for the one who deploys. */
  readonly reason: string;
}

export interface BodyLimitSources {
  /** wrangler.toml's; undefined: it has none */
  readonly declared: string | undefined;
  /** the option; undefined: not given */
  readonly plan: Plan | undefined;
  /** that of the Worker as it runs; undefined: there is none, or it has none */
  readonly deployed: string | undefined;
}

/**
 * What somebody wrote into wrangler.toml comes first, then the plan that this run names, then what an earlier run set: one
 * who deploys again need not say the plan again.
 */
export function bodyLimitOf({ declared, plan, deployed }: BodyLimitSources): BodyLimit {
  if (isSet(declared)) return { bytes: null, reason: `${declared} bytes, as wrangler.toml says` };
  if (plan !== undefined) return { bytes: String(bodyLimits[plan]), reason: saying(plan) };
  if (isSet(deployed)) return { bytes: deployed, reason: `${deployed} bytes, as before` };
  return { bytes: String(bodyLimits.free), reason: `${saying("free")}; --plan names another` };
}

function saying(plan: Plan): string {
  return `${String(bodyLimits[plan])} bytes, of the plan ${plan}`;
}

/** "0" is off, which is how wrangler.toml comes. */
function isSet(value: string | undefined): value is string {
  return value !== undefined && !/^0*$/.test(value.trim());
}
