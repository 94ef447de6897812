/** `npx moorage`: manages a registry, here or elsewhere, over its /api/v1. Exits 0, 1: refused or failed, 2: wrong usage. */
import { CommanderError } from "commander";
import { Refusal } from "./cli/refusal.ts";
import { onOneLine } from "./cli/print.ts";
import { moorageProgram } from "./cli/program.ts";
import { fail, report } from "./console.ts";
import { UsageError } from "./options.ts";

// Whoever read the output may have seen enough, as `head` has.
process.stdout.on("error", () => process.exit(0));
process.stderr.on("error", () => {});

try {
  await moorageProgram().parseAsync();
} catch (error) {
  explain(error);
}

function explain(error: unknown): void {
  if (error instanceof CommanderError) {
    // Help that was asked for is no error; help in place of a verb that was left out is.
    process.exitCode = error.exitCode === 0 ? 0 : 2;
    if (error.exitCode !== 0 && error.code !== "commander.help") report(usageReason(error));
  } else if (error instanceof UsageError) {
    process.exitCode = 2;
    report(onOneLine(error.message));
  } else if (error instanceof Refusal) {
    process.exitCode = 1;
    report(onOneLine(error.message));
  } else {
    fail(error);
  }
}

/** Without the value of an option that there is not: somebody may have thought that a password goes there. */
function usageReason({ message, code }: CommanderError): string {
  const reason = onOneLine(message.replace(/^error: /, ""));
  const told = code === "commander.unknownOption" ? reason.replace(/^(unknown option '[^'=]*)=.*'/, "$1'") : reason;
  return `${told}; --help lists what there is`;
}
