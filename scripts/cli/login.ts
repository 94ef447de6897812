import { createInterface } from "node:readline";
import { Writable } from "node:stream";
import type { Command } from "commander";
import { z } from "zod";
import { report } from "../console.ts";
import { Client } from "../doctor/client.ts";
import { seenIn } from "../doctor/answers.ts";
import { parseChallenges } from "../doctor/challenge.ts";
import { Unanswered } from "../doctor/exchange.ts";
import { UsageError } from "../options.ts";
import { connectionOptions, type ConnectionOptions, registryOf, requireEncrypted } from "./connection.ts";
import { readPassword } from "./password.ts";
import { onOneLine, printJson } from "./print.ts";
import { Refusal } from "./refusal.ts";
import { eraseLogin, storeLogin } from "./stored-login.ts";

const patienceMs = 60_000;

export function addLoginCommands(program: Command): void {
  program
    .command("login")
    .description("check a login, and keep it where docker and its like find it too")
    .argument("[url]", "the registry, such as https://registry.example.com or registry.example.com; else --registry")
    .option("-u, --username <name>", "who logs in; without it, --as, or it is asked for")
    .option("--password-stdin", "the password, or access token, is standard input")
    .addHelpText(
      "after",
      `
It is kept as docker login keeps it, in config.json of DOCKER_CONFIG or of ~/.docker, or by the credential helper that is
named there: docker, crane, cosign, helm and oras find it. Without --password-stdin, --password-file or MOORAGE_PASSWORD the
password is asked for.`,
    )
    .action(logIn);

  program
    .command("logout")
    .description("forget a login, as docker logout does")
    .argument("[url]", "the registry; else --registry")
    .action(logOut);
}

const optionsSchema = z.object({
  username: z.string().optional(),
  passwordStdin: z.boolean().default(false),
});

async function logIn(argument: string | undefined, given: unknown, command: Command): Promise<void> {
  const { username, passwordStdin } = optionsSchema.parse(given);
  const options = connectionOptions(command);
  const registry = requireEncrypted(registryOf(argument, options), options);
  const user = username ?? (options.asIsGiven ? options.as : await ask(`User name for ${registry.host}: `, "shown"));
  if (user === "" || user.includes(":")) throw new UsageError("a user's name is not empty, and has no colon");
  const password = await passwordOf(user, registry, passwordStdin, options);
  await requireLogin(registry, user, password);
  const { place, isPlain } = await storeLogin(registry, user, password);
  if (isPlain) {
    report(
      `the password is unencrypted in ${place}; docs.docker.com/go/credential-store tells how to keep it otherwise`,
    );
  }
  if ((process.env["DOCKER_AUTH_CONFIG"] ?? "") !== "") {
    report("DOCKER_AUTH_CONFIG is set: a login that it has comes before the one that is kept now");
  }
  report(onOneLine(`logged in to ${registry.host} as ${user}; ${place} keeps it`));
  if (options.json) printJson({ registry: registry.origin, user, place });
}

async function passwordOf(
  user: string,
  registry: URL,
  isOnStdin: boolean,
  { passwordFile }: ConnectionOptions,
): Promise<string> {
  if (isOnStdin && passwordFile !== undefined)
    throw new UsageError("--password-stdin and --password-file are one too many");
  if (isOnStdin) return readPassword("password-stdin", "-");
  if (passwordFile !== undefined) return readPassword("password-file", passwordFile);
  const given = process.env["MOORAGE_PASSWORD"] ?? "";
  if (given !== "") return given;
  const password = await ask(`Password, or access token, of ${user} for ${registry.host}: `, "hidden");
  if (password === "") throw new UsageError("the password is empty");
  return password;
}

async function logOut(argument: string | undefined, _given: unknown, command: Command): Promise<void> {
  const options = connectionOptions(command);
  const registry = registryOf(argument, options);
  const erased = await eraseLogin(registry);
  report(
    erased === null
      ? `no login for ${registry.host} is kept`
      : `the login for ${registry.host} is no more in ${erased.place}; the password or token is as good as before`,
  );
  if (options.json) printJson({ registry: registry.origin, place: erased?.place ?? null });
}

/**
 * As a client would log in: by the way that the registry's challenge tells.
 * @throws Refusal
 */
async function requireLogin(registry: URL, user: string, password: string): Promise<void> {
  const client = new Client(registry, { kind: "password", user, password }, { timeoutMs: patienceMs });
  try {
    const first = await client.bare("GET", new URL("/v2/", registry));
    if (first.status === 200) {
      throw new Refusal(
        `${registry.origin} asks nobody for a login, so this one can't be checked: there is none to keep`,
      );
    }
    const schemes = parseChallenges(first.headers["www-authenticate"] ?? "").map(({ scheme }) => scheme);
    if (first.status !== 401 || !schemes.some((scheme) => ["bearer", "basic"].includes(scheme))) {
      throw new Refusal(
        `${registry.origin} does not answer as a registry (GET /v2/: ${seenIn(first)}); npx moorage doctor ${registry.origin} looks why`,
      );
    }
    const answer = await client.send("GET", "/v2/");
    if (answer.status === 200) return;
    if (answer.status !== 401 && answer.status !== 403) {
      throw new Refusal(`${registry.origin} can't check the login now: ${seenIn(answer)}`);
    }
    throw new Refusal(`${registry.origin} does not take this login (${seenIn(answer)}); nothing is kept`);
  } catch (error) {
    if (error instanceof Unanswered) throw new Refusal(`${error.seen}; ${error.mend}`, { cause: error });
    throw error;
  }
}

/**
 * A line that the user types.
 * @throws UsageError where nobody is there to ask
 */
async function ask(question: string, echo: "shown" | "hidden"): Promise<string> {
  if (!process.stdin.isTTY) {
    const option = echo === "shown" ? "--username" : "--password-stdin";
    throw new UsageError(`standard input is no terminal: there is nobody to ask, so give ${option}`);
  }
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({
    input: process.stdin,
    output: echo === "shown" ? process.stderr : nowhere,
    terminal: true,
    historySize: 0,
  });
  // From here on the terminal echoes nothing by itself.
  process.stderr.write(question);
  try {
    return await new Promise((resolve, reject) => {
      lines.once("line", resolve);
      lines.once("SIGINT", () => reject(new Refusal("nobody was logged in")));
      lines.once("close", () => reject(new Refusal("nobody was logged in")));
    });
  } finally {
    lines.close();
    if (echo === "hidden") process.stderr.write("\n");
  }
}
