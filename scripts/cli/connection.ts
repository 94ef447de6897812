/** Which registry the commands are for, and who speaks to it: the options that all of them have. */
import { setDefaultResultOrder } from "node:dns";
import { type Command, Option } from "commander";
import { z } from "zod";
import { isLoopback } from "../../src/access/trust-rule.ts";
import { identitySchema } from "../../src/api/identity.ts";
import { report } from "../console.ts";
import { basicOf } from "../doctor/token-service.ts";
import { type ServedAddress, servedAddress } from "../lock.ts";
import { defaultPort, defaultStateDir, parsePath, UsageError } from "../options.ts";
import { keptPassword } from "../secrets.ts";
import { Api } from "./api.ts";
import { bearerOf } from "./identity-token.ts";
import { readPassword } from "./password.ts";
import { onOneLine } from "./print.ts";
import { Refusal } from "./refusal.ts";
import { findStoredLogin, type Login, type PasswordLogin, type StoredLogin, type TokenLogin } from "./stored-login.ts";

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
      new Option("--registry <url>", "the registry, such as https://registry.example.com or localhost:5000")
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
    .option("--json", "print the registry's JSON, and what went wrong as a line of JSON on stderr")
    .addHelpText(
      "after",
      `
The administrator's password, or the access token of --as, is in MOORAGE_PASSWORD, or in --password-file; it is never an
argument.
Without either, the login is used that moorage login, or another of docker's clients, keeps for the registry (a token that
docker login keeps tells who it is, and manages nothing). Where none is kept for it, the registry that npm start runs on this
machine just now, and no other, gets the password that npm start made for it; --as admin takes that where another's is kept.
Exits 1 where the registry refused or failed, 2 for wrong usage; with --json the last line on stderr is then
{"error":{"code":…,"message":…}}.`,
    );
}

export interface Connection {
  readonly api: Api;
  /** Whether the API's JSON is wanted in place of a table. */
  readonly json: boolean;
}

/** @throws UsageError, Refusal */
export async function connect(command: Command): Promise<Connection> {
  const options = connectionOptions(command);
  const registry = requireEncrypted(registryOf(undefined, options), options);
  const { login, place, mend } = await findLogin(registry, options);
  if (login === null) throw noPassword(registry, options);
  const { json } = options;
  if (login.kind === "password") return { api: apiByPassword(registry, login, mend), json };
  return { api: await apiByToken(registry, { login, place }, mend, options), json };
}

function apiByPassword(registry: URL, { user, password }: PasswordLogin, mend: string): Api {
  const denied = "this is the administrator's to do: --as admin";
  return new Api(registry, basicOf(user, password), { unauthorized: mend, denied });
}

/**
 * By what docker login keeps of this registry: it says whose login it is, and is good for what that asks for. The
 * administrator's is the same person as the one of npm start's password, which can do all.
 */
async function apiByToken(
  registry: URL,
  { login, place }: { readonly login: TokenLogin; readonly place: string },
  mend: string,
  options: ConnectionOptions,
): Promise<Api> {
  const own = ownPassword(registry, options);
  const ownApi = (): Api | null => (own === null ? null : apiByPassword(registry, own.login, own.mend));
  let api: Api;
  try {
    const denied = `the login is the token that ${place} keeps, which tells who it is but manages nothing: npx moorage login ${registry.origin}${own === null ? "" : ", or --as admin"}`;
    api = new Api(registry, `Bearer ${await bearerOf(registry, login)}`, { unauthorized: mend, denied });
  } catch (error) {
    const instead = error instanceof Refusal ? ownApi() : null;
    if (!(error instanceof Refusal) || instead === null) throw error;
    report(
      onOneLine(`${error.message}; until then the password of npm start is used, in place of what ${place} keeps`),
    );
    return instead;
  }
  if (own === null) return api;
  const { principal } = (await api.get(["whoami"], identitySchema)).value;
  return principal === administratorName ? (ownApi() ?? api) : api;
}

/** The options that all commands have, as they were given to this one. */
export function connectionOptions(command: Command): ConnectionOptions {
  const asIsGiven = !["default", undefined].includes(command.getOptionValueSourceWithGlobals("as"));
  return optionsSchema.parse({ ...command.optsWithGlobals(), asIsGiven });
}

/**
 * The registry of a command that may have it as its argument; else that of --registry, or MOORAGE_REGISTRY.
 * @throws UsageError
 */
export function registryOf(argument: string | undefined, { registry }: ConnectionOptions): URL {
  return argument === undefined
    ? parseRegistry("--registry, or MOORAGE_REGISTRY,", registry)
    : parseRegistry("<url>", argument);
}

/** As docker has it: a name, or an IP address, with or without a port. */
const hostForm = /^(?:\[[\d.:a-f]+\]|[\p{L}\p{N}._-]+)(?::\d+)?(?:[/?#]|$)/iu;

/**
 * An address that is told in messages: it can't have a password in it. Where it is a name alone, it is one of https; of
 * http on this machine.
 * @param source what gave it, for messages
 * @throws UsageError
 */
function parseRegistry(source: string, text: string): URL {
  const [scheme, rest] = /^([a-z]+):\/\/(.*)$/is.exec(text)?.slice(1) ?? [null, text];
  const whole = `${scheme ?? "https"}://${rest ?? ""}`;
  const url = URL.canParse(whole) ? new URL(whole) : null;
  if (url !== null && (url.username !== "" || url.password !== "")) {
    throw new UsageError(`${source} takes no password: use --as, and MOORAGE_PASSWORD or --password-file`);
  }
  if (url === null || !["http:", "https:"].includes(url.protocol) || !hostForm.test(rest ?? "")) {
    throw new UsageError(
      `${source} takes an address such as https://registry.example.com or localhost:${String(defaultPort)}; what it was given is none`,
    );
  }
  if (scheme === null && isLoopback(url.hostname)) url.protocol = "http:";
  if (url.pathname !== "/" || url.search !== "" || url.hash !== "") {
    throw new UsageError(`${source} takes no path: ${url.origin} is all that it needs`);
  }
  return url;
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
  /** What keeps it, or gave it. */
  readonly place: string;
  /** What to do where the registry does not take it. */
  readonly mend: string;
}

/**
 * What was given comes first, then what docker's clients keep, then what npm start made.
 * @throws UsageError
 */
export async function findLogin(registry: URL, options: ConnectionOptions): Promise<FoundLogin> {
  const { as, passwordFile } = options;
  if (as === "" || as.includes(":")) throw new UsageError("--as, or MOORAGE_USER, takes a user's name");
  if (passwordFile !== undefined) {
    const password = await readPassword("password-file", passwordFile);
    const place = "--password-file";
    return { login: loginAs(as, password), place, mend: `look that ${place} has ${credentialOf(as)}` };
  }
  const given = process.env["MOORAGE_PASSWORD"] ?? "";
  if (given !== "") {
    const place = "MOORAGE_PASSWORD";
    return { login: loginAs(as, given), place, mend: `look that ${place} is ${credentialOf(as)}` };
  }
  const stored = await storedLogin(registry, options);
  if (stored !== null && !(stored instanceof Refusal)) {
    const { login, place } = stored;
    const mend = `the login that ${place} keeps is not good there any more: npx moorage login ${registry.origin}`;
    return { login, place, mend };
  }
  const own = ownPassword(registry, options);
  if (stored instanceof Refusal) {
    // Docker's clients would fail on it too; who does without them need not.
    if (own === null) throw new UsageError(stored.message, { cause: stored });
    report(onOneLine(`${stored.message}; the password of npm start is used`));
  }
  return own ?? { login: null, place: "nobody", mend: "" };
}

function loginAs(user: string, password: string): PasswordLogin {
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

/**
 * The password that npm start made, for the registry that it runs, and while it does: whoever else listens on a port of
 * this machine is not to hear it, and a relay would carry it away.
 * @throws UsageError
 */
function ownPassword(registry: URL, { as, state }: ConnectionOptions) {
  if (as !== administratorName || isProxied()) return null;
  const folder = parsePath("state", state);
  const address = servedAddress(folder);
  if (address === null || !isServedAt(registry, address)) return null;
  const kept = keptPassword(folder);
  if (kept === null) return null;
  // Of the two addresses that localhost may be, the one that npm start always has.
  setDefaultResultOrder("ipv4first");
  return {
    login: loginAs(administratorName, kept.password),
    place: kept.file,
    mend: `the password in ${kept.file} is not this registry's: it was given another; set MOORAGE_PASSWORD to that`,
  };
}

function isServedAt({ protocol, hostname, port }: URL, address: ServedAddress): boolean {
  if (protocol !== "http:" || !isLoopback(hostname)) return false;
  return Number(port === "" ? 80 : port) === address.port && (hostname !== "[::1]" || address.host === "localhost");
}

function noPassword(registry: URL, options: ConnectionOptions): UsageError {
  const { as } = options;
  const ways = `npx moorage login ${registry.origin}, or set MOORAGE_PASSWORD, or name a file by --password-file`;
  return new UsageError(`there is no password of ${as}: ${ways}${whyNotOwn(registry, options)}`);
}

/** Where that of npm start may have been meant. */
function whyNotOwn(registry: URL, { as, state }: ConnectionOptions): string {
  if (as !== administratorName || isProxied() || !isLoopback(registry.hostname)) return "";
  const folder = parsePath("state", state);
  const address = servedAddress(folder);
  return address === null
    ? `; the password of npm start is for the registry that it runs, and none runs on ${folder} (--state names another)`
    : `; the password of npm start is for the registry that it runs, which is at http://localhost:${String(address.port)}`;
}

/** What the management API takes: a person's password is for /token alone. */
function credentialOf(user: string): string {
  return user === administratorName ? "the administrator's password" : `an access token of ${user}`;
}

/** Whether Node may have been told to send all through a proxy: then nothing that is sent stays on this machine. */
function isProxied(): boolean {
  const { NODE_USE_ENV_PROXY: proxy = "0", NODE_OPTIONS: options = "" } = process.env;
  return proxy !== "0" || [options, ...process.execArgv].some((text) => text.includes("--use-env-proxy"));
}
