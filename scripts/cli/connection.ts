/** Which registry the commands are for, and who speaks to it: the options that all of them have. */
import { type Command, Option } from "commander";
import { z } from "zod";
import { isLoopback } from "../../src/access/trust-rule.ts";
import { defaultPort, defaultStateDir, parsePath, UsageError } from "../options.ts";
import { keptPassword } from "../secrets.ts";
import { Api } from "./api.ts";
import { readPassword } from "./password.ts";
import { Refusal } from "./refusal.ts";
import { findStoredLogin, type Login, type StoredLogin } from "./stored-login.ts";

const administratorName = "admin";

const optionsSchema = z.object({
  registry: z.string(),
  as: z.string(),
  /** The user was named, and is not who it is where nobody is. */
  asIsGiven: z.boolean(),
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
Without either, the login is used that moorage login, or another of docker's clients, keeps for the registry; without that,
a registry on this machine gets the password that npm start made for it.`,
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
  const { login, mend } = await findLogin(registry, options);
  if (login?.kind !== "password") throw noPassword(registry, options, login !== null);
  return { api: new Api(registry, login, mend), json: options.json };
}

/** The options that all commands have, as they were given to this one. */
export function connectionOptions(command: Command): ConnectionOptions {
  const asIsGiven = !["default", undefined].includes(command.getOptionValueSourceWithGlobals("as"));
  return optionsSchema.parse({ ...command.optsWithGlobals(), asIsGiven });
}

/**
 * An address that is told in messages: it can't have a password in it.
 * @param source what gave it, for messages
 * @throws UsageError
 */
export function parseRegistry(source: "--registry" | "<url>", text: string): URL {
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
  if (!isPlain(url) || plainHttp) return url;
  throw new UsageError(
    `${url.origin} would be sent the password unencrypted: use https, or --plain-http where nobody listens between`,
  );
}

/** Whether others could read what is sent there. */
export function isPlain({ protocol, hostname }: URL): boolean {
  return protocol === "http:" && !isLoopback(hostname);
}

interface FoundLogin {
  readonly login: Login | null;
  /** What to do where the registry does not take it. */
  readonly mend: string;
}

/**
 * What was given comes first, then what docker's clients keep, then what npm start made.
 * @throws UsageError
 */
export async function findLogin(registry: URL, options: ConnectionOptions): Promise<FoundLogin> {
  const { as, passwordFile, state } = options;
  if (as === "" || as.includes(":")) throw new UsageError("--as, or MOORAGE_USER, takes a user's name");
  if (passwordFile !== undefined) {
    const password = await readPassword("password-file", passwordFile);
    return { login: loginAs(as, password), mend: `look that --password-file has ${credentialOf(as)}` };
  }
  const given = process.env["MOORAGE_PASSWORD"] ?? "";
  if (given !== "") return { login: loginAs(as, given), mend: `look that MOORAGE_PASSWORD is ${credentialOf(as)}` };
  const stored = await storedLogin(registry, options);
  if (stored instanceof Refusal || stored?.login.kind !== "password") {
    const kept = isOwn(registry, options) ? keptPassword(parsePath("state", state)) : null;
    if (kept !== null) {
      const mend = `the password in ${kept.file} is not this registry's: set MOORAGE_PASSWORD, or name its folder by --state`;
      return { login: loginAs(administratorName, kept.password), mend };
    }
  }
  // Docker's clients would fail on it too; who does without them need not.
  if (stored instanceof Refusal) throw new UsageError(stored.message, { cause: stored });
  const mend = `the login that ${stored?.place ?? "nobody"} keeps is not good there any more: npx moorage login ${registry.origin}`;
  return { login: stored?.login ?? null, mend };
}

function loginAs(user: string, password: string): Login {
  return { kind: "password", user, password };
}

/** Another's than who is named is none. */
async function storedLogin(registry: URL, { as, asIsGiven }: ConnectionOptions): Promise<StoredLogin | Refusal | null> {
  const stored = await findStoredLogin(registry).catch((error: unknown) => {
    if (error instanceof Refusal) return error;
    throw error;
  });
  if (stored === null || stored instanceof Refusal || !asIsGiven) return stored;
  return stored.login.kind === "password" && stored.login.user === as ? stored : null;
}

/** Whether it may be the one that npm start runs here, and whose password is meant. */
function isOwn(registry: URL, { as }: ConnectionOptions): boolean {
  return isThisMachine(registry) && as === administratorName;
}

function noPassword(registry: URL, options: ConnectionOptions, hasToken: boolean): UsageError {
  const { as, state } = options;
  const local = isOwn(registry, options) ? `, or the state folder of npm start by --state: ${state} has none` : "";
  const why = hasToken
    ? `no password of ${registry.host} is kept, but a token of docker login`
    : `there is no password of ${as}`;
  return new UsageError(
    `${why}: npx moorage login ${registry.origin}, or set MOORAGE_PASSWORD, or name a file by --password-file${local}`,
  );
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
