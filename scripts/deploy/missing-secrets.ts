/** The secrets that the Worker lacks: typed by whoever deploys, taken from the environment, or made. */
import { requiredSecrets } from "../../src/access/secrets.ts";
import { UsageError } from "../options.ts";
import { makeSecret } from "../secrets.ts";
import type { Ask } from "./question.ts";

export interface PasswordSources {
  /** null: there is nobody to ask */
  readonly ask: Ask | null;
  /** ADMIN_PASSWORD of the environment; undefined: not set */
  readonly given: string | undefined;
  /** Whether it may be made, and printed, unasked. */
  readonly generate: boolean;
}

export interface MissingSecrets {
  /** By name; empty where none is missing. */
  readonly values: Readonly<Record<string, string>>;
  /** Whether the administrator's password was made here: then nobody else knows it. */
  readonly isPasswordMade: boolean;
}

/**
 * @param wanted names of those that the Worker needs
 * @param present names of those that it has: they are left alone
 * @throws UsageError where there is no way to one of them
 */
export async function missingSecrets(
  wanted: readonly string[],
  present: readonly string[],
  sources: PasswordSources,
): Promise<MissingSecrets> {
  const missing = wanted.filter((name) => !present.includes(name));
  const unknown = missing.filter((name) => !requiredSecrets.some((known) => known === name));
  if (unknown.length > 0) {
    const commands = unknown.map((name) => `npx wrangler secret put ${name}`).join("; ");
    throw new UsageError(`wrangler.toml requires secrets that are not made here: ${commands}`);
  }
  const values: Record<string, string> = {};
  let isPasswordMade = false;
  for (const name of requiredSecrets.filter((known) => missing.includes(known))) {
    const typed = name === "ADMIN_PASSWORD" ? await passwordOf(sources) : null;
    values[name] = typed ?? makeSecret(name);
    if (name === "ADMIN_PASSWORD") isPasswordMade = typed === null;
  }
  return { values, isPasswordMade };
}

/** @returns null: one is to be made */
async function passwordOf({ ask, given, generate }: PasswordSources): Promise<string | null> {
  if (given !== undefined) return given;
  if (generate) return null;
  if (ask === null) {
    throw new UsageError(
      "the administrator's password is not set, and there is no terminal to ask for it: set ADMIN_PASSWORD in the " +
        "environment, or let one be made and printed by --generate-password",
    );
  }
  return askTwice(ask);
}

async function askTwice(ask: Ask): Promise<string | null> {
  const typed = await ask("Password for the user admin, who may do everything (empty: one is made): ");
  if (typed === "") return null;
  if (typed.trim() === "") throw new UsageError("a password of spaces alone is none");
  if ((await ask("The same again: ")) !== typed) throw new UsageError("the two passwords are not the same");
  return typed;
}
