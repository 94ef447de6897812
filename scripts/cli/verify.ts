import { SingleBar } from "cli-progress";
import type { Command } from "commander";
import { z } from "zod";
import {
  type Finding,
  findingIdSchema,
  findingSchema,
  integritySchema,
  type Verified,
  verifiedSchema,
  verifyRequestSchema,
} from "../../src/integrity/finding.ts";
import { API_PAGE_MAX } from "../../src/limits.ts";
import { report } from "../console.ts";
import { UsageError } from "../options.ts";
import type { Api } from "./api.ts";
import { checked } from "./checked.ts";
import { connect } from "./connection.ts";
import { printFields, printJson, printTable, timeCell } from "./print.ts";
import { addIndexCommands } from "./rebuild.ts";
import { Refusal } from "./refusal.ts";

/** Whether what is kept is what was pushed, and what to do where it is not. */
export function addIntegrityCommands(program: Command): void {
  program
    .command("verify")
    .description(
      "read all blobs and manifests of a repository, and compare them with their digests; what is bad is quarantined",
    )
    .argument("<repository>", "such as team-a/app", checked(verifyRequestSchema.shape.repository))
    .action(verify);

  const integrity = program
    .command("integrity")
    .description("look after content whose bytes were not those of its digest");
  integrity.command("show").description("show how far the scrub is, and how much is quarantined").action(showIntegrity);
  integrity.command("list").description("list what was found, the newest first").action(listFindings);
  const idArgument = ["<id>", "the finding's id, as the list has it", checked(findingIdSchema)] as const;
  integrity
    .command("release")
    .description("serve quarantined content again as it is")
    .argument("[id]", "the finding's id, as the list has it", checked(findingIdSchema))
    .option("--all", "all that is quarantined and that R2 has an object of: where it had been the wrong bucket, say")
    .action(releaseFindings);
  integrity
    .command("discard")
    .description("delete the bad object; what is quarantined stays so until it is pushed again")
    .argument(...idArgument)
    .action(discardObject);
  addIndexCommands(program);
}

interface Verdict {
  readonly objects: number;
  readonly bytes: number;
  readonly findings: readonly Finding[];
}

async function verify(repository: string, _given: unknown, command: Command): Promise<void> {
  const { api, json } = await connect(command);
  const { objects, bytes, findings } = await verifyAll(api, repository);
  const told = `${String(objects)} blobs and manifests of ${repository} were read, ${String(bytes)} bytes`;
  if (json) printJson({ repository, objects, bytes, findings });
  else if (findings.length === 0) report(`${told}: all are what their digests say`);
  else printFindings(findings);
  if (findings.length === 0) return;
  throw new Refusal(`${told}; ${String(findings.length)} are bad: push them again`);
}

async function verifyAll(api: Api, repository: string): Promise<Verdict> {
  const progress = progressOf(repository);
  /** by id: the last slice tells of some again */
  const findings = new Map<number, Finding>();
  let [objects, bytes] = [0, 0];
  try {
    let cursor: string | null = null;
    do {
      const slice: Verified = await verifySlice(api, repository, cursor);
      if (slice.total !== null) progress.start(slice.total.bytes);
      objects += slice.objects;
      bytes += slice.bytes;
      for (const finding of slice.findings) findings.set(finding.id, finding);
      progress.update(bytes);
      cursor = slice.next;
    } while (cursor !== null);
  } finally {
    progress.stop();
  }
  return { objects, bytes, findings: [...findings.values()] };
}

async function verifySlice(api: Api, repository: string, cursor: string | null): Promise<Verified> {
  const request = { repository, ...(cursor === null ? {} : { cursor }) };
  return (await api.create(["integrity", "verify"], request, verifiedSchema)).value;
}

function mib(bytes: number): string {
  return (bytes / 1024 / 1024).toFixed(1);
}

interface Progress {
  start(totalBytes: number): void;
  update(bytes: number): void;
  stop(): void;
}

/** A bar for who looks on, and lines for a log. */
function progressOf(repository: string): Progress {
  return process.stderr.isTTY ? bar(repository) : lines(repository);
}

function bar(repository: string): Progress {
  const shown = new SingleBar({
    stream: process.stderr,
    clearOnComplete: true,
    hideCursor: true,
    format: (_options, { progress, value, total }) =>
      `${repository}  ${(Math.min(progress, 1) * 100).toFixed(0)} %  ${mib(value)} of ${mib(total)} MiB`,
  });
  return {
    start: (totalBytes) => shown.start(totalBytes, 0),
    update: (bytes) => shown.update(bytes),
    stop: () => shown.stop(),
  };
}

/** How much of all is worth a line; of much that is too long to wait for. */
const lineFraction = 0.1;
const lineAfterMs = 30_000;

/** What is read at once has none: its verdict is there as soon. */
function lines(repository: string): Progress {
  let total = 0;
  let told = { bytes: 0, atMs: performance.now() };
  return {
    start(totalBytes) {
      total = totalBytes;
    },
    update(bytes) {
      const nowMs = performance.now();
      if (bytes >= total) return;
      if (bytes - told.bytes < total * lineFraction && nowMs - told.atMs < lineAfterMs) return;
      told = { bytes, atMs: nowMs };
      report(`${repository}: ${mib(bytes)} of ${mib(total)} MiB are read`);
    },
    stop() {},
  };
}

async function showIntegrity(_given: unknown, command: Command): Promise<void> {
  const { api, json } = await connect(command);
  const { value, body } = await api.get(["integrity"], integritySchema);
  if (json) {
    printJson(body);
    return;
  }
  const { scrub, quarantined, halted, lastExport } = value;
  printFields({
    quarantined: halted
      ? `${String(quarantined)}: so much that the scrub waits for somebody to look`
      : String(quarantined),
    ...(scrub === null
      ? { scrub: "has not begun yet" }
      : {
          scrub: scrub.endedAt === null ? `reads ${scrub.reading}s` : `ended ${timeCell(scrub.endedAt) ?? ""}`,
          began: timeCell(scrub.beganAt),
          "begins anew": timeCell(scrub.nextAt),
          read: `${String(scrub.objects)} blobs and manifests, ${String(scrub.bytes)} bytes`,
        }),
    "last export": lastExport,
  });
}

async function listFindings(_given: unknown, command: Command): Promise<void> {
  const { api, json } = await connect(command);
  const path = ["integrity", "findings"];
  const { entries, body } = await api.list(path, "findings", findingSchema, { pageMax: API_PAGE_MAX });
  if (json) printJson(body);
  else printFindings(entries);
}

const releaseOptionsSchema = z.object({ all: z.literal(true).optional() });

async function releaseFindings(id: string | undefined, given: unknown, command: Command): Promise<void> {
  const { all } = releaseOptionsSchema.parse(given);
  if ((id === undefined) !== (all === true)) {
    throw new UsageError("release takes either the id of a finding, or --all");
  }
  const { api, json } = await connect(command);
  if (id !== undefined) {
    const { value, body } = await api.create(["integrity", "findings", id, "release"], {}, findingSchema);
    if (json) printJson(body);
    else printFindings([value]);
    return;
  }
  const findings = await releaseAll(api);
  if (json) printJson({ findings });
  else printFindings(findings);
}

async function releaseAll(api: Api): Promise<readonly Finding[]> {
  const query = { pageMax: API_PAGE_MAX };
  const { entries } = await api.list(["integrity", "findings"], "findings", findingSchema, query);
  const released: Finding[] = [];
  for (const { id, state } of entries) {
    if (state !== "quarantined") continue;
    try {
      released.push((await api.create(["integrity", "findings", String(id), "release"], {}, findingSchema)).value);
    } catch (error) {
      // R2 has no object of it, or it was pushed again meanwhile: the others go on.
      if (!(error instanceof Refusal && error.message.includes("(CONFLICT)"))) throw error;
    }
  }
  return released;
}

async function discardObject(id: string, _given: unknown, command: Command): Promise<void> {
  const { api } = await connect(command);
  await api.remove(["integrity", "findings", id, "object"]);
  report(`the object of finding ${id} goes within minutes`);
}

function printFindings(findings: readonly Finding[]): void {
  printTable(findings, {
    ID: ({ id }) => String(id),
    FOUND: ({ foundAt }) => timeCell(foundAt),
    STATE: ({ state }) => state,
    WHAT: ({ kind, repository, digest }) =>
      repository === null ? `${kind} ${digest}` : `${kind} ${repository}@${digest}`,
    PROBLEM: problemCell,
    OBJECT: ({ objectKey, discardedAt }) => (discardedAt === null ? objectKey : "deleted"),
  });
}

function problemCell({ problem, size, found }: Finding): string {
  switch (problem) {
    case "missing":
      return "there are no bytes";
    case "size":
      return `${found ?? ""} bytes in place of ${String(size)}`;
    case "digest":
      return `the bytes are ${found ?? ""}`;
    default:
      return problem satisfies never;
  }
}
