import { Command } from "commander";
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

/** The command line. What it refuses is thrown as a CommanderError, and printed by nobody yet. */
export function moorageProgram(): Command {
  const program = new Command("moorage")
    .description("Manages a registry: who may do what, and who did what.")
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
