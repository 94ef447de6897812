import { randomBytes } from "node:crypto";
import { type Command, InvalidArgumentError } from "commander";
import { z } from "zod";
import { isRepositoryName } from "../../src/oci/repository.ts";
import { report } from "../console.ts";
import { allChecks } from "../doctor/checks.ts";
import { Client } from "../doctor/client.ts";
import { examine } from "../doctor/examination.ts";
import { Pushed } from "../doctor/pushed.ts";
import type { Finding, Outcome } from "../doctor/verdict.ts";
import { wholeNumber } from "./checked.ts";
import { connectionOptions, type ConnectionOptions, findLogin, isPlain, registryOf } from "./connection.ts";
import { onOneLine, printJson } from "./print.ts";
import { onStopSignal } from "./stop-signal.ts";
import type { Login } from "./stored-login.ts";

const timeoutUsualSeconds = 30;
const timeoutMaxSeconds = 3600;

export function addDoctorCommand(program: Command): void {
  program
    .command("doctor")
    .description("look from outside whether a registry is well, and say what is wrong and how to mend it")
    .argument("[url]", "the registry, whoever made it; else --registry")
    .option("--repository <name>", "where to push and read; else moorage-doctor/ with a random name", parseRepository)
    .option("--read-only", "push nothing; what --repository has is read")
    .option("--leave", "push also where what is pushed can't be deleted again")
    .option("--large", "try one request of 101 MiB too")
    .option(
      "--timeout <seconds>",
      "how long a request may be without an answer",
      wholeNumber(timeoutMaxSeconds),
      timeoutUsualSeconds,
    )
    .addHelpText(
      "after",
      `
Each check is one line: ok, warning, failed or skipped, what was seen, what was expected, and the mend. With a login that may
push and delete, it pushes up to some 10 MB to a repository, and deletes them again, also after Ctrl-C. Exits 1 where a check
failed.`,
    )
    .action(examineRegistry);
}

function parseRepository(name: string): string {
  if (isRepositoryName(name)) return name;
  throw new InvalidArgumentError("it is no repository's name, such as team-a/app");
}

const optionsSchema = z.object({
  repository: z.string().optional(),
  readOnly: z.boolean().default(false),
  leave: z.boolean().default(false),
  large: z.boolean().default(false),
  timeout: z.number(),
});

async function examineRegistry(argument: string | undefined, given: unknown, command: Command): Promise<void> {
  const options = connectionOptions(command);
  const { repository: named, readOnly, leave, large, timeout } = optionsSchema.parse(given);
  const registry = registryOf(argument, options);
  const login = await loginFor(registry, options);
  const repository = named ?? `moorage-doctor/${randomBytes(6).toString("hex")}`;
  const interrupted = interruption();
  const client = new Client(registry, login, { timeoutMs: timeout * 1000, signal: interrupted });
  const examined = {
    client,
    repository,
    wishes: { readOnly, leave, large, repositoryIsGiven: named !== undefined },
    pushed: new Pushed(repository),
    first: null,
    tokens: null,
    issued: null,
    layer: null,
    config: null,
    manifest: null,
    digestOfPut: null,
  };
  const width = Math.max(...allChecks.map(({ name }) => name.length));
  /** by the check that failed, what was skipped for it */
  const folded = new Map<string, Finding[]>();
  const findings = await examine(allChecks, examined, (finding, failedNeed) => {
    if (failedNeed !== null) folded.set(failedNeed, [...(folded.get(failedNeed) ?? []), finding]);
    else if (!options.json) console.log(lineOf(finding, width));
  });
  if (options.json) printJson({ registry: registry.origin, repository, checks: findings });
  else for (const [need, skipped] of folded) console.log(foldedLine(need, skipped, width));
  summarize(findings);
  if (readOnly && named === undefined && findings.some(isLoggedIn)) {
    report("nothing was there to be read: --repository names what is");
  }
  process.exitCode = interrupted.aborted ? 130 : findings.some(({ outcome }) => outcome === "failed") ? 1 : 0;
}

/** null: nobody; a password does not go over the network for all to read. */
async function loginFor(registry: URL, options: ConnectionOptions): Promise<Login | null> {
  const { login } = await findLogin(registry, options);
  if (login === null || !isPlain(registry) || options.plainHttp) return login;
  report(`${registry.origin} is not sent the login unencrypted; --plain-http does, where nobody listens between`);
  return null;
}

/** At the first Ctrl-C the checks end, and what was pushed is deleted; another one, later, ends that too. */
function interruption(): AbortSignal {
  const controller = new AbortController();
  onStopSignal(["SIGINT", "SIGTERM"], () => {
    report("interrupted: what was pushed is deleted now");
    controller.abort();
  });
  return controller.signal;
}

const outcomeWidth = "warning".length;

function lineOf({ check, outcome, expected, seen, mend }: Finding, width: number): string {
  const told = [
    ...(expected === null ? [seen] : [`expected ${expected}`, `seen: ${seen}`]),
    ...(mend === null ? [] : [`mend: ${mend}`]),
  ].join("; ");
  return onOneLine(`${outcome.padEnd(outcomeWidth)}  ${check.padEnd(width)}  ${told}`);
}

/** What was skipped for one failure, in one line: each alone would say the same. */
function foldedLine(need: string, skipped: readonly Finding[], width: number): string {
  const [only, ...others] = skipped;
  if (only !== undefined && others.length === 0) return lineOf(only, width);
  const count = `${String(skipped.length)} checks`;
  return `${"skipped".padEnd(outcomeWidth)}  ${count.padEnd(width)}  they need ${need}, which failed; --json lists them`;
}

/** Also as nobody: what can be read is up to the registry then. */
function isLoggedIn({ check, outcome }: Finding): boolean {
  return check === "login" && (outcome === "ok" || outcome === "warning");
}

function summarize(findings: readonly Finding[]): void {
  const outcomes: readonly Outcome[] = ["ok", "warning", "failed", "skipped"];
  const counts = outcomes.map(
    (outcome) => `${outcome}: ${String(findings.filter((finding) => finding.outcome === outcome).length)}`,
  );
  report(counts.join(", "));
}
