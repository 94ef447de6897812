import type { Command } from "commander";
import { identitySchema } from "../../src/api/identity.ts";
import { connect } from "./connection.ts";
import { printFields, printJson } from "./print.ts";

export function addWhoamiCommand(program: Command): void {
  program
    .command("whoami")
    .description("show whom the credentials stand for, and what they may do")
    .action(showIdentity);
}

async function showIdentity(_given: unknown, command: Command): Promise<void> {
  const { api, json } = await connect(command);
  const { value, body } = await api.get(["whoami"], identitySchema);
  if (json) {
    printJson(body);
    return;
  }
  const [user = [], narrowed] = value.grants ?? [];
  // What docker login keeps was sent: it knows no more.
  const isBearer = value.scopes !== null;
  printFields({
    principal: value.principal,
    token: value.tokenId,
    administrator: value.admin ? "yes: may do everything" : isBearer ? "not by what docker login keeps" : "no",
    grants: isBearer ? "not told to what docker login keeps; npx moorage login logs in by password" : user.join(" "),
    // An access token may what both lists allow.
    ...(narrowed === undefined ? {} : { "narrowed to": narrowed.join(" ") }),
  });
}
