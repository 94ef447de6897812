import type { Command } from "commander";
import { z } from "zod";
import {
  copiesSchema,
  type Copy,
  copySchema,
  type Rebuilt,
  rebuildRequestSchema,
  rebuiltSchema,
} from "../../src/integrity/copy.ts";
import { report } from "../console.ts";
import { type Api, type Answer } from "./api.ts";
import { checked } from "./checked.ts";
import { connect } from "./connection.ts";
import { printFields, printJson, printTable, timeCell } from "./print.ts";

/** Copies of the index in R2, and what is made of one where the database is lost. */
export function addIndexCommands(program: Command): void {
  const exports = program
    .command("export")
    .description("manage the copies of the index that are kept in R2: one a day is made by itself");
  exports
    .command("create")
    .description("make a copy now")
    .option("--force", "begin anew where R2 has copies of an index of before this database: they go in their turn")
    .action(createExport);
  exports
    .command("list")
    .description("list the copies that are whole, the newest first, and how many rows each has")
    .action(listExports);

  program
    .command("rebuild")
    .description(
      "put a copy of the index back into an empty database, and compare it with R2; goes on where it was broken off",
    )
    .option(
      "--export <name>",
      "which copy; without it, the newest that has rows, and is older than the database where there are such",
      checked(rebuildRequestSchema.shape.export.unwrap()),
    )
    .option(
      "--force",
      "put it beside what the database has, which stays as it is; users, access tokens and trust rules that it no longer has stay away",
    )
    .option("--without-users", "leave users, access tokens and trust rules out: for another TOKEN_KEY")
    .action(rebuild);
}

/** While the cron trigger is at work at it, there is nothing to do but to ask again. */
const pauseMs = 1000;

const createOptionsSchema = z.object({ force: z.literal(true).optional() });

async function createExport(given: unknown, command: Command): Promise<void> {
  const { force } = createOptionsSchema.parse(given);
  const { api, json } = await connect(command);
  let made = await api.create(["index", "exports"], { force }, copySchema);
  while (!made.value.ended) made = await nextStep(api, made.value);
  if (json) {
    printJson(made.body);
    return;
  }
  const { name, beganAt, rows, parts } = made.value;
  printFields({ name, began: timeCell(beganAt), rows: String(rows), parts: String(parts) });
}

async function nextStep(api: Api, { name, parts }: Copy): Promise<Answer<Copy>> {
  const made = await api.create(["index", "exports"], { name }, copySchema);
  if (!made.value.ended && made.value.parts === parts) await new Promise((resolve) => setTimeout(resolve, pauseMs));
  return made;
}

async function listExports(_given: unknown, command: Command): Promise<void> {
  const { api, json } = await connect(command);
  const { value, body } = await api.get(["index", "exports"], copiesSchema);
  if (json) {
    printJson(body);
    return;
  }
  printTable(value.exports, {
    NAME: ({ name }) => name,
    BEGAN: ({ beganAt }) => timeCell(beganAt),
    ROWS: ({ rows }) => (rows === null ? null : String(rows)),
  });
  if (value.halted) {
    report(
      "some are older than this database, and none is made by itself: moorage rebuild puts one back, moorage export create --force begins anew",
    );
  }
}

const optionsSchema = z.object({
  export: z.string().optional(),
  force: z.literal(true).optional(),
  withoutUsers: z.literal(true).optional(),
});

async function rebuild(given: unknown, command: Command): Promise<void> {
  const { force, ...rest } = optionsSchema.parse(given);
  const { api, json } = await connect(command);
  let done = await api.create(["index", "rebuild"], { ...rest, force }, rebuiltSchema);
  while (!done.value.ended) {
    const { parts, partsInAll, rows } = done.value;
    if (!json) report(`${String(parts)} of ${String(partsInAll)} parts, ${String(rows)} rows are put back`);
    // Not by force again: what is under way is gone on with.
    done = await api.create(["index", "rebuild"], { ...rest, export: done.value.export }, rebuiltSchema);
  }
  if (json) printJson(done.body);
  else printRebuilt(done.value);
}

function printRebuilt({ export: name, exportedAt, rows, usersLeft, missing, unnamed }: Rebuilt): void {
  printFields({
    export: name,
    began: timeCell(exportedAt),
    rows: String(rows),
    "missing in R2": missing === 0 ? "nothing" : `${String(missing)}: moorage integrity list shows what was named`,
    "unknown in R2": `${String(unnamed.objects)} objects, ${String(unnamed.bytes)} bytes`,
  });
  const began = timeCell(exportedAt) ?? "";
  report(`what was pushed after ${began} is not in it, and has to be pushed again; what was deleted since is back`);
  report(
    usersLeft
      ? "users, access tokens and trust rules were left as they are in this database"
      : `users, access tokens and trust rules are those of ${began}: who was deleted, disabled or given less since, and each access token that was revoked since, is good again. Look through moorage user list, moorage token list and moorage trust list`,
  );
}
