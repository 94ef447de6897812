/** `npx moorage`: manages a registry, here or elsewhere, over its /api/v1. Exits 0, 1: refused or failed, 2: wrong usage. */
import { CommanderError } from "commander";
import { Refusal } from "./cli/refusal.ts";
import { onOneLine, printJsonError } from "./cli/print.ts";
import { moorageProgram } from "./cli/program.ts";
import { fail, report } from "./console.ts";
import { UsageError } from "./options.ts";

process.stdout.on("error", (error: Error) => {
  // Whoever read the output may have seen enough, as `head` has.
  if ("code" in error && error.code === "EPIPE") process.exit(0);
  tell("FAILED", `the output can't be written: ${error.message}`);
  process.exit(1);
});
process.stderr.on("error", () => {});

try {
  await moorageProgram().parseAsync();
} catch (error) {
  explain(error);
}

function explain(error: unknown): void {
  if (error instanceof CommanderError) {
    // Help, and the version, that were asked for are no error; help in place of a verb that was left out is.
    if (error.exitCode === 0) return;
    process.exitCode = 2;
    if (error.code !== "commander.help") tell("USAGE", usageReason(error));
    else if (isJsonWanted()) tell("USAGE", "a command is missing; --help lists what there is");
  } else if (error instanceof UsageError) {
    process.exitCode = 2;
    tell("USAGE", error.message);
  } else if (error instanceof Refusal) {
    process.exitCode = 1;
    tell(error.code ?? "FAILED", error.message);
  } else if (isJsonWanted()) {
    process.exitCode = 1;
    tell("BUG", error instanceof Error ? (error.stack ?? error.message) : String(error));
  } else {
    fail(error);
  }
}

/** In one line, which is the last one on stderr. */
function tell(code: string, message: string): void {
  if (isJsonWanted()) printJsonError(code, message);
  else report(onOneLine(message));
}

/** Also of a command line that is wrong elsewhere. */
function isJsonWanted(): boolean {
  const args = process.argv.slice(2);
  const end = args.indexOf("--");
  return (end === -1 ? args : args.slice(0, end)).includes("--json");
}

/** Without the value of an option that there is not: somebody may have thought that a password goes there. */
function usageReason({ message, code }: CommanderError): string {
  const reason = message.replace(/^error: /, "");
  const told = code === "commander.unknownOption" ? reason.replace(/^(unknown option '[^'=]*)=[^]*'/, "$1'") : reason;
  return `${told}; --help lists what there is`;
}
