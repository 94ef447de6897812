/** The secrets of the local run. A deployed Worker has them from `wrangler secret put`; here they are made, once. */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parseEnv } from "node:util";
import { BadSecret, requiredSecrets, secretsOf } from "../src/access/secrets.ts";
import { UsageError } from "./options.ts";
import { stateRefusal } from "./state-folder.ts";

export interface LocalSecrets {
  /** dotenv, readable by its owner alone */
  readonly file: string;
  readonly values: Readonly<Record<string, string>>;
}

/**
 * Reads the state's secrets, and makes those that are missing: they stay the same as long as the state does.
 * @param given settings and secrets that were given otherwise: they come before the kept ones, and are not kept
 * @throws UsageError where one can't be used, or nothing can be written
 */
export function localSecrets(stateDir: string, given: Readonly<Record<string, unknown>>): LocalSecrets {
  const file = fileIn(stateDir);
  try {
    const kept = read(file);
    const missing = requiredSecrets.filter((name) => kept[name] === undefined);
    if (missing.length > 0) {
      for (const name of missing) kept[name] = makeSecret(name);
      write(file, kept);
    }
    requireSecrets({ ...kept, ...given }, file);
    return { file, values: kept };
  } catch (error) {
    throw stateRefusal(stateDir, error);
  }
}

/**
 * The administrator's password that this state's registry has, unless it was given another; null where none was made.
 * @throws UsageError where it can't be read
 */
export function keptPassword(stateDir: string): { readonly file: string; readonly password: string } | null {
  const file = fileIn(stateDir);
  try {
    const password = read(file)["ADMIN_PASSWORD"];
    return password === undefined ? null : { file, password };
  } catch (error) {
    throw stateRefusal(stateDir, error);
  }
}

function fileIn(stateDir: string): string {
  return path.join(stateDir, "secrets.env");
}

function read(file: string): Record<string, string> {
  const kept: Record<string, string> = {};
  if (existsSync(file)) Object.assign(kept, parseEnv(readFileSync(file, "utf8")));
  return kept;
}

/** A password that can be typed, 120 bits; keys of 256. */
export function makeSecret(name: (typeof requiredSecrets)[number]): string {
  return name === "ADMIN_PASSWORD" ? randomBytes(15).toString("base64url") : randomBytes(32).toString("base64");
}

/** Whole or not at all: half of a key would be another key to the next start. */
function write(file: string, values: Readonly<Record<string, string>>): void {
  const lines = Object.entries(values).map(([name, value]) => `${name}="${value}"\n`);
  const draft = `${file}.${String(process.pid)}`;
  writeFileSync(draft, lines.join(""), { mode: 0o600 });
  renameSync(draft, file);
}

function requireSecrets(values: Readonly<Record<string, unknown>>, file: string): void {
  try {
    secretsOf(values);
  } catch (error) {
    if (!(error instanceof BadSecret)) throw error;
    throw new UsageError(`${error.secret} (of --var, or of ${file}) ${error.reason}`, { cause: error });
  }
}
