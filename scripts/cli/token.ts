import type { Command } from "commander";
import { z } from "zod";
import {
  type AccessToken,
  accessTokenSchema,
  createdTokenSchema,
  newTokenSchema,
  tokenIdSchema,
} from "../../src/access-tokens/token.ts";
import { API_PAGE_MAX } from "../../src/limits.ts";
import { userNameSchema } from "../../src/users/user.ts";
import { report } from "../console.ts";
import { checked, grantOption, wholeNumber } from "./checked.ts";
import { connect } from "./connection.ts";
import { onOneLine, printJson, printTable, timeCell } from "./print.ts";

const userArgument = ["<user>", "whose token it is", checked(userNameSchema)] as const;
const { maxValue: lifeMaxDays } = newTokenSchema.shape.expiresInDays.unwrap();

export function addTokenCommands(program: Command): void {
  const token = program.command("token").description("manage access tokens, with which programs log in as a user");

  token
    .command("create")
    .description("make an access token; it is printed this once, alone on standard output")
    .argument(...userArgument)
    .argument("<name>", "what it is for, such as build-server", checked(newTokenSchema.shape.name))
    .option(
      grantOption.flags,
      "narrows it to this, such as team-a/app:pull; may be repeated; without one it may all that its user may",
      grantOption.each,
    )
    .option(
      "--expires-in-days <n>",
      "how long it is good; without this it does not end",
      wholeNumber(lifeMaxDays ?? 3650),
    )
    .action(createToken);

  token
    .command("list")
    .description("list the access tokens of a user, the oldest first")
    .argument(...userArgument)
    .action(listTokens);

  token
    .command("revoke")
    .description("revoke an access token; it stays in the list")
    .argument(...userArgument)
    .argument("<id>", "the token's id, as the list has it", checked(tokenIdSchema))
    .action(revokeToken);
}

const newOptionsSchema = z.object({
  grant: z.array(z.string()).optional(),
  expiresInDays: z.number().optional(),
});

async function createToken(user: string, name: string, given: unknown, command: Command): Promise<void> {
  const { grant: grants, expiresInDays } = newOptionsSchema.parse(given);
  const { api, json } = await connect(command);
  const path = ["users", user, "tokens"];
  const { value, body } = await api.create(path, { name, grants, expiresInDays }, createdTokenSchema);
  const rights =
    value.grants === null
      ? "may all that its user may"
      : `is narrowed to ${value.grants.join(" ")} of what its user may`;
  const end = value.expiresAt === null ? "without an end" : `until ${timeCell(value.expiresAt) ?? ""}`;
  report(onOneLine(`the token "${value.name}" of ${user} ${rights}, ${end}; it is not shown again`));
  report(`it ends before that with: moorage token revoke ${user} ${value.id}`);
  if (json) printJson(body);
  else console.log(value.token);
}

async function listTokens(user: string, _given: unknown, command: Command): Promise<void> {
  const { api, json } = await connect(command);
  const path = ["users", user, "tokens"];
  const { entries, body } = await api.list(path, "tokens", accessTokenSchema, { pageMax: API_PAGE_MAX });
  if (json) printJson(body);
  else {
    printTable(entries, {
      ID: ({ id }) => id,
      NAME: ({ name }) => name,
      CREATED: ({ createdAt }) => timeCell(createdAt),
      "LAST USED": ({ lastUsedAt }) => timeCell(lastUsedAt) ?? "never",
      ENDS: endCell,
      "NARROWED TO": ({ grants }) => grants?.join(" ") ?? null,
    });
  }
}

async function revokeToken(user: string, id: string, _given: unknown, command: Command): Promise<void> {
  const { api } = await connect(command);
  await api.remove(["users", user, "tokens", id]);
  report(`the token ${id} of ${user} is revoked; what was handed out for it ends within minutes`);
}

function endCell({ expiresAt, revokedAt }: AccessToken): string {
  if (revokedAt !== null) return `revoked ${timeCell(revokedAt) ?? ""}`;
  return timeCell(expiresAt) ?? "never";
}
