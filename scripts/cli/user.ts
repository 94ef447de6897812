import { type Command, Option } from "commander";
import { z } from "zod";
import { API_PAGE_MAX } from "../../src/limits.ts";
import { newUserSchema, type User, userNameSchema, userSchema } from "../../src/users/user.ts";
import { report } from "../console.ts";
import { UsageError } from "../options.ts";
import { checked, grantOption } from "./checked.ts";
import { connect } from "./connection.ts";
import { readPassword } from "./password.ts";
import { printFields, printJson, printTable, timeCell } from "./print.ts";

const nameArgument = ["<name>", "the user's name", checked(userNameSchema)] as const;
const checkedEmail = checked(newUserSchema.shape.email);
const passwordOption = [
  "--new-password-file <file>",
  "a file with a password for /token; - is standard input",
] as const;

export function addUserCommands(program: Command): void {
  const user = program.command("user").description("manage users: whom grants and access tokens belong to");

  user
    .command("create")
    .description("create a user")
    .argument(...nameArgument)
    .option(
      grantOption.flags,
      "such as team-a/*:pull,push; may be repeated; without one it may do nothing",
      grantOption.each,
    )
    .option("--email <address>", "by which Cloudflare Access knows the person", checkedEmail)
    .option(...passwordOption)
    .action(createUser);

  user.command("list").description("list all users").action(listUsers);

  user
    .command("show")
    .description("show a user")
    .argument(...nameArgument)
    .action(showUser);

  user
    .command("change")
    .description("change what is given of a user")
    .argument(...nameArgument)
    .option(grantOption.flags, "may be repeated; these take the place of all grants before", grantOption.each)
    .addOption(new Option("--no-grants", "take all grants away").conflicts("grant"))
    .option("--email <address>", "by which Cloudflare Access knows the person", checkedEmail)
    .option("--no-email", "take the address away")
    .option(...passwordOption)
    .addOption(new Option("--no-password", "take the password away").conflicts("newPasswordFile"))
    .option("--disable", "refuse the user and its access tokens until it is enabled")
    .addOption(new Option("--enable", "take it back").conflicts("disable"))
    .action(changeUser);

  user
    .command("delete")
    .description("delete a user with its access tokens")
    .argument(...nameArgument)
    .action(deleteUser);
}

const newOptionsSchema = z.object({
  grant: z.array(z.string()).default([]),
  email: z.string().optional(),
  newPasswordFile: z.string().optional(),
});

async function createUser(name: string, given: unknown, command: Command): Promise<void> {
  const { grant: grants, email, newPasswordFile } = newOptionsSchema.parse(given);
  const password = await newPassword(newPasswordFile, command);
  const { api, json } = await connect(command);
  const { value, body } = await api.create(["users"], { name, grants, email, password }, userSchema);
  if (json) printJson(body);
  else printUser(value);
}

async function listUsers(_given: unknown, command: Command): Promise<void> {
  const { api, json } = await connect(command);
  const { entries, body } = await api.list(["users"], "users", userSchema, { pageMax: API_PAGE_MAX });
  if (json) printJson(body);
  else {
    printTable(entries, {
      NAME: ({ name }) => name,
      CREATED: ({ createdAt }) => timeCell(createdAt),
      "LOGS IN": loginCell,
      EMAIL: ({ email }) => email,
      GRANTS: ({ grants }) => grants.join(" "),
    });
  }
}

async function showUser(name: string, _given: unknown, command: Command): Promise<void> {
  const { api, json } = await connect(command);
  const { value, body } = await api.get(["users", name], userSchema);
  if (json) printJson(body);
  else printUser(value);
}

/** commander has `--no-x` as an x that is false, and true where it was not given. */
const changeOptionsSchema = z.object({
  grant: z.array(z.string()).optional(),
  grants: z.boolean(),
  email: z.union([z.string(), z.literal(false)]).optional(),
  newPasswordFile: z.string().optional(),
  password: z.boolean(),
  disable: z.literal(true).optional(),
  enable: z.literal(true).optional(),
});

async function changeUser(name: string, given: unknown, command: Command): Promise<void> {
  const options = changeOptionsSchema.parse(given);
  const change = {
    ...(options.grants ? {} : { grants: [] }),
    ...(options.grant === undefined ? {} : { grants: options.grant }),
    ...(options.email === undefined ? {} : { email: options.email === false ? null : options.email }),
    ...(options.password ? {} : { password: null }),
    ...(options.disable === undefined ? {} : { disabled: true }),
    ...(options.enable === undefined ? {} : { disabled: false }),
  };
  const password = await newPassword(options.newPasswordFile, command);
  const whole = password === undefined ? change : { ...change, password };
  if (Object.keys(whole).length === 0) {
    throw new UsageError("this says nothing that is to be changed; moorage user change --help lists what can be");
  }
  const { api, json } = await connect(command);
  const { value, body } = await api.change(["users", name], whole, userSchema);
  if (json) printJson(body);
  else printUser(value);
}

async function deleteUser(name: string, _given: unknown, command: Command): Promise<void> {
  const { api } = await connect(command);
  await api.remove(["users", name]);
  report(`the user ${name} is deleted, and so are its access tokens`);
}

async function newPassword(file: string | undefined, command: Command): Promise<string | undefined> {
  if (file === undefined) return undefined;
  if (file === "-" && command.optsWithGlobals()["passwordFile"] === "-") {
    throw new UsageError("--password-file and --new-password-file can't both be standard input");
  }
  return readPassword("new-password-file", file);
}

function printUser(user: User): void {
  printFields({
    name: user.name,
    created: timeCell(user.createdAt),
    "logs in": loginCell(user),
    email: user.email,
    grants: user.grants.join(" "),
  });
}

function loginCell({ disabled, hasPassword }: User): string {
  if (disabled) return "no: disabled";
  return hasPassword ? "by password or token" : "by token";
}
