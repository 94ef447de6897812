/** The command line of `npm run deploy`. */
import path from "node:path";
import { parseArgs } from "node:util";
import { isLoopback } from "../../src/access/trust-rule.ts";
import { orUsage, parsePath, projectRoot, UsageError } from "../options.ts";
import { isPlan, type Plan, planNames } from "./body-limit.ts";

/** https://developers.cloudflare.com/r2/reference/data-location/#location-hints; D1 knows the same. */
export const locations: readonly string[] = ["wnam", "enam", "weur", "eeur", "apac", "oc"];

export interface DeployOptions {
  /** undefined: not said */
  readonly plan: Plan | undefined;
  /** Where R2 and D1 are to keep what they hold; undefined: near whoever creates them. */
  readonly location: string | undefined;
  /** Where clients reach the registry; undefined: where wrangler says. */
  readonly registry: URL | undefined;
  readonly dryRun: boolean;
  /** Without a question, print a new password. */
  readonly generatePassword: boolean;
  /** Absolute path. */
  readonly configPath: string;
  readonly help: boolean;
}

export const usage = `Usage: npm run deploy -- [options]

  --plan PLAN           the zone's plan, for the longest body that a request may have: free (default), pro, business,
                        enterprise. It becomes MAX_BODY_BYTES, unless wrangler.toml sets that itself
  --location HINT       where a bucket and a database that are created should be: ${locations.join(", ")}
  --registry URL        the registry's address, where it is not the one that wrangler tells
  --generate-password   make the administrator's password and print it, where none is set and nobody can be asked
  --dry-run             build, print what would be done, and do nothing: needs no account and no network
  --config FILE         another wrangler.toml
  --help                this text

Logs in as wrangler does: npx wrangler login, or CLOUDFLARE_API_TOKEN and CLOUDFLARE_ACCOUNT_ID.
The administrator's password is asked for, or comes from ADMIN_PASSWORD in the environment.`;

/** @throws UsageError */
export function parseDeployOptions(argv: readonly string[]): DeployOptions {
  const values = parse(argv);
  return {
    plan: parsePlan(values.plan),
    location: parseLocation(values.location),
    registry: parseRegistry(values.registry),
    dryRun: values["dry-run"] ?? false,
    generatePassword: values["generate-password"] ?? false,
    configPath: parsePath("config", values.config ?? path.join(projectRoot, "wrangler.toml")),
    help: values.help ?? false,
  };
}

function parse(argv: readonly string[]) {
  return orUsage("npm run deploy", "--plan pro", () =>
    parseArgs({
      args: [...argv],
      options: {
        plan: { type: "string" },
        location: { type: "string" },
        registry: { type: "string" },
        "dry-run": { type: "boolean" },
        "generate-password": { type: "boolean" },
        config: { type: "string" },
        help: { type: "boolean" },
      },
    }),
  ).values;
}

function parsePlan(name: string | undefined): Plan | undefined {
  if (name === undefined || isPlan(name)) return name;
  throw new UsageError(`--plan takes ${planNames.join(", ")}, not "${name}"`);
}

function parseLocation(hint: string | undefined): string | undefined {
  if (hint === undefined || locations.includes(hint)) return hint;
  throw new UsageError(`--location takes ${locations.join(", ")}, not "${hint}"`);
}

/** The password is sent there. */
function parseRegistry(text: string | undefined): URL | undefined {
  if (text === undefined) return undefined;
  const url = URL.canParse(text) ? new URL(text) : null;
  const isSafe = url?.protocol === "https:" || (url?.protocol === "http:" && isLoopback(url.hostname));
  if (url === null || !isSafe || url.href !== `${url.origin}/`) {
    throw new UsageError("--registry takes an address such as https://registry.example.com, without a path");
  }
  return url;
}
