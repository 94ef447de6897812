/** Which registry the commands are for, and who speaks to it: the options that all of them have. */
import { type Command, Option } from "commander";
import { z } from "zod";
import { isLoopback } from "../../src/access/trust-rule.ts";
import { defaultPort, defaultStateDir, parsePath, UsageError } from "../options.ts";
import { keptPassword } from "../secrets.ts";
import { Api } from "./api.ts";
import { readPassword } from "./password.ts";

const administratorName = "admin";

const optionsSchema = z.object({
  registry: z.string(),
  as: z.string(),
  passwordFile: z.string().optional(),
  state: z.string(),
  plainHttp: z.boolean().default(false),
  json: z.boolean().default(false),
});

export type ConnectionOptions = z.infer<typeof optionsSchema>;

export function addConnectionOptions(program: Command): void {
  program
    .addOption(
      new Option("--registry <url>", "the registry")
        .env("MOORAGE_REGISTRY")
        .default(`http://localhost:${String(defaultPort)}`),
    )
    .addOption(new Option("--as <user>", "who logs in").env("MOORAGE_USER").default(administratorName))
    .option(
      "--password-file <file>",
      "the file with the administrator's password, or with that user's access token; - is standard input",
    )
    .addOption(
      new Option("--state <dir>", "the state folder of npm start, where its password is").default(
        defaultStateDir,
        ".moorage beside package.json",
      ),
    )
    .option("--plain-http", "send the password unencrypted to another machine")
    .option("--json", "print the registry's JSON")
    .addHelpText(
      "after",
      `
The administrator's password, or the access token of --as, is in MOORAGE_PASSWORD, or in --password-file; it is never an
argument.
Without either, a registry on this machine gets the one that npm start made for it.`,
    );
}

export interface Connection {
  readonly api: Api;
  /** Whether the API's JSON is wanted in place of a table. */
  readonly json: boolean;
}

/** @throws UsageError */
export async function connect(command: Command): Promise<Connection> {
  const options = connectionOptions(command);
  const registry = requireEncrypted(parseRegistry("--registry", options.registry), options);
  const { password, mend } = await passwordFor(registry, options);
  return { api: new Api(registry, { user: options.as, password }, mend), json: options.json };
}

/** The options that all commands have, as they were given to this one. */
export function connectionOptions(command: Command): ConnectionOptions {
  return optionsSchema.parse(command.optsWithGlobals());
}

/**
 * An address that is told in messages: it can't have a password in it.
 * @param source what gave it, for messages
 * @throws UsageError
 */
function parseRegistry(source: "--registry" | "<url>", text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !["http:", "https:"].includes(url.protocol)) {
    const named = source === "--registry" ? "--registry, or MOORAGE_REGISTRY," : source;
    throw new UsageError(`${named} takes an address such as https://registry.example.com`);
  }
  if (url.username !== "" || url.password !== "") {
    throw new UsageError(`${source} takes no password: use --as, and MOORAGE_PASSWORD or --password-file`);
  }
  if (url.pathname !== "/" || url.search !== "" || url.hash !== "") {
    throw new UsageError(`${source} takes no path: ${url.origin} is all that it needs`);
  }
  return url;
}

/** The registry of a command that may have it as its argument, where it may be a name alone, as docker has it. */
export function registryOf(argument: string | undefined, { registry }: ConnectionOptions): URL {
  if (argument === undefined) return parseRegistry("--registry", registry);
  if (argument.includes("://")) return parseRegistry("<url>", argument);
  const url = parseRegistry("<url>", `https://${argument}`);
  return isLoopback(url.hostname) ? parseRegistry("<url>", `http://${argument}`) : url;
}

/** @throws UsageError where a password would go over the network for all to read */
export function requireEncrypted(url: URL, { plainHttp }: Pick<ConnectionOptions, "plainHttp">): URL {
  if (url.protocol === "https:" || isLoopback(url.hostname) || plainHttp) return url;
  throw new UsageError(
    `${url.origin} would be sent the password unencrypted: use https, or --plain-http where nobody listens between`,
  );
}

interface Password {
  readonly password: string;
  /** What to do where the registry does not take it. */
  readonly mend: string;
}

async function passwordFor(registry: URL, { as, passwordFile, state }: ConnectionOptions): Promise<Password> {
  if (as === "" || as.includes(":")) throw new UsageError("--as, or MOORAGE_USER, takes a user's name");
  if (passwordFile !== undefined) {
    const password = await readPassword("password-file", passwordFile);
    return { password, mend: `look that --password-file has ${credentialOf(as)}` };
  }
  const given = process.env["MOORAGE_PASSWORD"] ?? "";
  if (given !== "") return { password: given, mend: `look that MOORAGE_PASSWORD is ${credentialOf(as)}` };
  const isLocal = isThisMachine(registry) && as === administratorName;
  const kept = isLocal ? keptPassword(parsePath("state", state)) : null;
  if (kept === null) {
    const local = isLocal ? `, or the state folder of npm start by --state: ${state} has none` : "";
    throw new UsageError(
      `there is no password of ${as}: set MOORAGE_PASSWORD, or name a file by --password-file${local}`,
    );
  }
  const mend = `the password in ${kept.file} is not this registry's: set MOORAGE_PASSWORD, or name its folder by --state`;
  return { password: kept.password, mend };
}

/** What the management API takes: a person's password is for /token alone. */
function credentialOf(user: string): string {
  return user === administratorName ? "the administrator's password" : `an access token of ${user}`;
}

/** Whether what is sent there stays on this machine: Node may have been told to send all through a proxy. */
function isThisMachine({ hostname }: URL): boolean {
  const { NODE_USE_ENV_PROXY: proxy = "0", NODE_OPTIONS: options = "" } = process.env;
  const isProxied = proxy !== "0" || [options, ...process.execArgv].some((text) => text.includes("--use-env-proxy"));
  return isLoopback(hostname) && !isProxied;
}
