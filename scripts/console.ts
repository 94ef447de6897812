/** What the scripts say to the person who ran them, beside what the Worker logs. */
import { UsageError } from "./options.ts";

export function report(message: string): void {
  console.error(`moorage: ${message}`);
}

/** Says why and exits 1: one line for what the user can put right, the stack for what is a bug. */
export function fail(error: unknown): never {
  return end(error, 1);
}

/** As `fail`, but exits 2 for wrong usage, as moorage does. */
export function failByKind(error: unknown): never {
  return end(error, error instanceof UsageError ? 2 : 1);
}

function end(error: unknown, exitCode: 1 | 2): never {
  report(explain(error));
  // exit, not exitCode: a half-started workerd would keep the process alive. The lock's exit handler ends it.
  process.exit(exitCode);
}

function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof UsageError || ("code" in error && error.code === "ERR_ADDRESS_IN_USE")) return error.message;
  return error.stack ?? error.message;
}
