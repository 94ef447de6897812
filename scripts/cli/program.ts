import { readFileSync } from "node:fs";
import path from "node:path";
import { Command } from "commander";
import { z } from "zod";
import { projectRoot } from "../options.ts";
import { addAuditCommand } from "./audit.ts";
import { addConnectionOptions } from "./connection.ts";
import { addDoctorCommand } from "./doctor.ts";
import { addLoginCommands } from "./login.ts";
import { addRelayCommand } from "./relay.ts";
import { addTokenCommands } from "./token.ts";
import { addTrustCommands } from "./trust.ts";
import { addUserCommands } from "./user.ts";
import { addIntegrityCommands } from "./verify.ts";
import { addWhoamiCommand } from "./whoami.ts";

const manifestSchema = z.object({ version: z.string() });

/** package.json is in the package too, beside the folder of what is run. */
function versionOfPackage(): string {
  const text = readFileSync(path.join(projectRoot, "package.json"), "utf8");
  return manifestSchema.parse(JSON.parse(text)).version;
}

/** The command line. What it refuses is thrown as a CommanderError, and printed by nobody yet. */
export function moorageProgram(): Command {
  const program = new Command("moorage")
    .description("Manages a registry: who may do what, and who did what.")
    .version(versionOfPackage(), "-V, --version", "print the version")
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: () => {} })
    .exitOverride();
  addConnectionOptions(program);
  // They take over from the program what was set above.
  addUserCommands(program);
  addTokenCommands(program);
  addTrustCommands(program);
  addAuditCommand(program);
  addIntegrityCommands(program);
  addWhoamiCommand(program);
  addRelayCommand(program);
  addLoginCommands(program);
  addDoctorCommand(program);
  return program;
}
