/** What a Cloudflare account has of that which the registry needs: read by wrangler, changed by nothing here. */
import { z } from "zod";
import { UsageError } from "../options.ts";
import type { Bucket, Resources } from "./resources.ts";
import { parseAnswer, type Wrangler, WranglerFailure } from "./wrangler.ts";

const loginSchema = z.discriminatedUnion("loggedIn", [
  z.object({ loggedIn: z.literal(false) }),
  z.object({
    loggedIn: z.literal(true),
    email: z.string().optional(),
    accounts: z.array(z.object({ id: z.string(), name: z.string() })),
  }),
]);

/**
 * Who deploys, in a few words.
 * @param accountId that was said, by which wrangler can go on where the login may not list accounts
 * @throws UsageError where nobody is logged in
 */
export async function whoDeploys(wrangler: Wrangler, accountId: string | undefined): Promise<string> {
  try {
    const login = await wrangler.read(loginSchema, ["whoami"], ["--json"]);
    if (!login.loggedIn) throw notLoggedIn();
    const account = login.accounts.find(({ id }) => id === accountId);
    const names = account === undefined ? login.accounts.map(({ name }) => name) : [account.name];
    return [login.email, names.join(", ")].filter((text) => text !== undefined && text !== "").join(", account ");
  } catch (error) {
    if (!(error instanceof WranglerFailure)) throw error;
    if (isNotLoggedIn(error)) throw notLoggedIn();
    if (accountId === undefined) throw error;
    return `account ${accountId}`;
  }
}

function isNotLoggedIn({ command, stdout }: WranglerFailure): boolean {
  return stdout.trim() !== "" && !parseAnswer(loginSchema, command, stdout).loggedIn;
}

function notLoggedIn(): UsageError {
  return new UsageError(
    "nobody is logged in to Cloudflare: run npx wrangler login, or set CLOUDFLARE_API_TOKEN and CLOUDFLARE_ACCOUNT_ID",
  );
}

export interface AccountState {
  /** Of those that wrangler.toml names, the ones that the list shows: it may be cut off at some length. */
  readonly buckets: readonly string[];
  readonly databases: readonly AccountDatabase[];
  readonly queues: readonly string[];
  /** null: there is no Worker of that name */
  readonly worker: DeployedWorker | null;
}

export interface AccountDatabase {
  readonly name: string;
  readonly uuid: string;
}

export interface DeployedWorker {
  readonly secrets: readonly string[];
  /** What all requests are answered by; null: nothing was deployed yet. */
  readonly version: DeployedVersion | null;
}

export interface DeployedVersion {
  /** That `wrangler deploy --tag` gave it. */
  readonly tag: string | undefined;
  /** Its MAX_BODY_BYTES. */
  readonly maxBodyBytes: string | undefined;
  /** Ids of the databases that it has, by binding. */
  readonly databases: ReadonlyMap<string, string>;
}

/** @throws WranglerFailure, UsageError */
export async function readAccount(wrangler: Wrangler, resources: Resources): Promise<AccountState> {
  const [buckets, databases, queues, worker] = await Promise.all([
    readBuckets(wrangler, resources.buckets),
    readDatabases(wrangler),
    readQueues(wrangler, resources.queues),
    readWorker(wrangler),
  ]);
  return { buckets, databases, queues, worker };
}

/** All of the account's: wrangler asks for page after page. */
export function readDatabases(wrangler: Wrangler): Promise<AccountDatabase[]> {
  return wrangler.read(databasesSchema, ["d1", "list"], ["--json"]);
}

const databasesSchema = z.array(z.object({ name: z.string(), uuid: z.string() }));

/** The list has no form for programs: `name:  moorage-blobs` is a line of it. A jurisdiction has a list of its own. */
async function readBuckets(wrangler: Wrangler, wanted: readonly Bucket[]): Promise<string[]> {
  const jurisdictions = [...new Set(wanted.map(({ jurisdiction }) => jurisdiction))];
  const lists = await Promise.all(
    jurisdictions.map((jurisdiction) =>
      wrangler.run(["r2", "bucket", "list"], jurisdictionOption(jurisdiction)).then((text) => ({ jurisdiction, text })),
    ),
  );
  return wanted
    .filter(({ name, jurisdiction }) =>
      lists.some((list) => list.jurisdiction === jurisdiction && namesIn(list.text).includes(name)),
    )
    .map(({ name }) => name);
}

export function jurisdictionOption(jurisdiction: string | undefined): string[] {
  return jurisdiction === undefined ? [] : [`--jurisdiction=${jurisdiction}`];
}

function namesIn(list: string): string[] {
  return [...list.matchAll(/^name:\s+(\S+)\s*$/gm)].map((match) => match[1] ?? "");
}

async function readQueues(wrangler: Wrangler, wanted: readonly string[]): Promise<string[]> {
  const found = await Promise.all(wanted.map((name) => hasQueue(wrangler, name)));
  return wanted.filter((_name, index) => found[index]);
}

async function hasQueue(wrangler: Wrangler, name: string): Promise<boolean> {
  try {
    await wrangler.run(["queues", "info", name]);
    return true;
  } catch (error) {
    if (error instanceof WranglerFailure && error.reason.includes("does not exist")) return false;
    throw error;
  }
}

const secretsSchema = z.array(z.object({ name: z.string() }));

async function readWorker(wrangler: Wrangler): Promise<DeployedWorker | null> {
  try {
    const secrets = await wrangler.read(secretsSchema, ["secret", "list"], ["--format=json"]);
    return { secrets: secrets.map(({ name }) => name), version: await readVersion(wrangler) };
  } catch (error) {
    if (error instanceof WranglerFailure && /Worker ".*" not found/.test(error.reason)) return null;
    throw error;
  }
}

const deploymentSchema = z.object({ versions: z.array(z.object({ version_id: z.string() })) });

const versionSchema = z.object({
  annotations: z.object({ "workers/tag": z.string().optional() }).optional(),
  resources: z.object({
    bindings: z
      .array(
        z.object({
          name: z.string(),
          type: z.string(),
          text: z.unknown().optional(),
          id: z.string().optional(),
        }),
      )
      .default([]),
  }),
});

async function readVersion(wrangler: Wrangler): Promise<DeployedVersion | null> {
  const ids = await readVersionIds(wrangler);
  const [id, ...others] = ids;
  if (id === undefined) return null;
  if (others.length > 0) {
    throw new UsageError(
      `requests go to ${String(ids.length)} versions of the Worker: end that first, with npx wrangler versions deploy`,
    );
  }
  const { annotations, resources } = await wrangler.read(versionSchema, ["versions", "view", id], ["--json"]);
  const maxBodyBytes = resources.bindings.find(({ name }) => name === "MAX_BODY_BYTES")?.text;
  const databases = resources.bindings.filter(({ type }) => type === "d1");
  return {
    tag: annotations?.["workers/tag"],
    maxBodyBytes: typeof maxBodyBytes === "string" ? maxBodyBytes : undefined,
    databases: new Map(
      databases.flatMap((binding) => (binding.id === undefined ? [] : [[binding.name, binding.id] as const])),
    ),
  };
}

async function readVersionIds(wrangler: Wrangler): Promise<string[]> {
  try {
    const { versions } = await wrangler.read(deploymentSchema, ["deployments", "status"], ["--json"]);
    return versions.map((version) => version.version_id);
  } catch (error) {
    if (error instanceof WranglerFailure && error.reason.includes("has no deployments")) return [];
    throw error;
  }
}
