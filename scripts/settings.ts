/** The Worker's settings, judged before it is started: it reads them only when a request needs them, and fails that. */
import { BadSetting, configOf } from "../src/config.ts";
import { UsageError } from "./options.ts";

/**
 * @param settings the values by name, as the Worker's env will have them
 * @throws UsageError for the first that src/config.ts would refuse
 */
export function requireSettings(settings: Readonly<Record<string, unknown>>): void {
  try {
    configOf(settings);
  } catch (error) {
    if (!(error instanceof BadSetting)) throw error;
    throw new UsageError(explain(error, settings[error.setting]), { cause: error });
  }
}

function explain({ setting, reason }: BadSetting, value: unknown): string {
  if (value === undefined) return `${setting} is missing from wrangler.toml's [vars]`;
  return typeof value === "string"
    ? `${setting}: ${JSON.stringify(value)} ${reason}`
    : `${setting}: ${JSON.stringify(value)} is not a text in quotes`;
}
