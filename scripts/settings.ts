/** The Worker's settings, judged before it is started: it reads them only when a request needs them, and fails that. */
import { configOf } from "../src/config.ts";
import { UsageError } from "./options.ts";

declare global {
  /** What src/config.ts reads: here the settings alone, without the bindings, and as nobody has checked them yet. */
  interface Env {
    readonly [setting: string]: unknown;
  }
}

/**
 * @param settings the values by name, as the Worker's env will have them
 * @throws UsageError for the first that src/config.ts would refuse
 */
export function requireSettings(settings: Readonly<Record<string, unknown>>): void {
  try {
    configOf(settings);
  } catch (error) {
    throw new UsageError(error instanceof Error ? explain(error.message, settings) : String(error), { cause: error });
  }
}

/** Puts the value into "setting NAME: reason", which does not have it; of a list, NAME has the index too. */
function explain(message: string, settings: Readonly<Record<string, unknown>>): string {
  const [, name, reason] = /^setting (\w+)[\d.]*: (.*)$/s.exec(message) ?? [];
  if (name === undefined || reason === undefined) return message;
  const value = settings[name];
  if (value === undefined) return `${name} is missing from wrangler.toml's [vars]`;
  return typeof value === "string"
    ? `${name}: ${JSON.stringify(value)} ${reason}`
    : `${name}: ${JSON.stringify(value)} is not a text in quotes`;
}
