/** The steps of a deployment in their order: the schema before the code that needs it, for migrations only ever add. */
import { UsageError } from "../options.ts";
import {
  type AccountDatabase,
  type AccountState,
  jurisdictionOption,
  readAccount,
  readDatabases,
  whoDeploys,
} from "./account.ts";
import { addressIn } from "./address.ts";
import { type BodyLimit, bodyLimitOf } from "./body-limit.ts";
import { type Build, build, tagOf } from "./bundle-tag.ts";
import { type MissingSecrets, missingSecrets } from "./missing-secrets.ts";
import type { DeployOptions } from "./options.ts";
import { withPinnedDatabases } from "./pinned-config.ts";
import { type Outcome, Progress } from "./progress.ts";
import type { Ask } from "./question.ts";
import type { Bucket, Database, Resources } from "./resources.ts";
import { withSecretsFile } from "./secrets-file.ts";
import { smokeTest } from "./smoke-test.ts";
import { Wrangler, WranglerFailure } from "./wrangler.ts";

export type Say = (line: string) => void;

export interface Surroundings {
  readonly say: Say;
  /** null: there is nobody to ask */
  readonly ask: Ask | null;
  /** The administrator's password, from the environment; undefined: not set */
  readonly password: string | undefined;
}

const titles = {
  build: "build",
  login: "login",
  account: "account",
  secrets: "secrets",
  bucket: ({ name }: Bucket) => `R2 bucket ${name}`,
  database: ({ name }: Database) => `D1 database ${name}`,
  queue: (name: string) => `queue ${name}`,
  migrations: ({ name }: Database) => `migrations of ${name}`,
  worker: ({ worker }: Resources) => `Worker ${worker}`,
  smokeTest: "smoke test",
} as const;

/** What each step would do, by the title under which it is done. */
function stepsOf(resources: Resources, options: DeployOptions): readonly (readonly [title: string, plan: string])[] {
  const near = options.location === undefined ? "" : `, in ${options.location}`;
  const limit = bodyLimitOf({ declared: resources.maxBodyBytes, plan: options.plan, deployed: undefined });
  return [
    [titles.build, "bundle the Worker and check wrangler.toml, before anything is changed"],
    [titles.login, "ask wrangler who is logged in"],
    [titles.account, "look at what is there"],
    [titles.secrets, `have a value for each that is missing of ${resources.secrets.join(", ")}`],
    ...resources.buckets.map((bucket) => [titles.bucket(bucket), `create it where it is missing${near}`] as const),
    ...resources.databases.map((base) => [titles.database(base), `create it where it is missing${near}`] as const),
    ...resources.queues.map((queue) => [titles.queue(queue), "create it where it is missing"] as const),
    ...resources.databases.map((base) => [titles.migrations(base), "apply those that it lacks"] as const),
    [titles.worker(resources), `deploy it where another one, or none, runs; MAX_BODY_BYTES: ${limit.reason}`],
    [titles.smokeTest, "push, pull, referrers, delete, and print the line that logs in"],
  ];
}

/**
 * Prints what `deploy` would do, and lets wrangler build and check it.
 * @throws WranglerFailure where it does not build
 */
export async function planOf(resources: Resources, options: DeployOptions, say: Say): Promise<void> {
  const steps = stepsOf(resources, options);
  say("What npm run deploy does (this run asks nothing of Cloudflare, and changes nothing):");
  for (const [index, [title, plan]] of steps.entries()) say(`  ${String(index + 1)}. ${title}: ${plan}`);
  await new Progress([titles.build], say).step(titles.build, () => built(new Wrangler(options.configPath), options));
}

/** @throws StepFailure, or UsageError where nothing was changed yet */
export async function deploy(resources: Resources, options: DeployOptions, surroundings: Surroundings): Promise<void> {
  const { say, ask, password } = surroundings;
  const accountId = resources.accountId ?? process.env["CLOUDFLARE_ACCOUNT_ID"];
  const wrangler = new Wrangler(options.configPath, accountId);
  const titlesInOrder = stepsOf(resources, options).map(([title]) => title);
  const progress = new Progress(titlesInOrder, say);

  const bundle = await progress.step(titles.build, () => built(wrangler, options));
  await progress.step(titles.login, async () => unchanged(await whoDeploys(wrangler, accountId), null));
  const account = await progress.step(titles.account, () => lookedAt(wrangler, resources));
  const secrets = await progress.step(titles.secrets, async () => {
    const sources = { ask, given: password, generate: options.generatePassword };
    const missing = await missingSecrets(resources.secrets, account.worker?.secrets ?? [], sources);
    const names = Object.keys(missing.values);
    return unchanged(names.length === 0 ? "all set" : `${names.join(", ")} to be set with the Worker`, missing);
  });

  const oldBuckets: string[] = [];
  for (const bucket of resources.buckets) {
    const made = await progress.step(titles.bucket(bucket), () =>
      bucketMade(wrangler, bucket, account, options.location),
    );
    if (!made.isNew) oldBuckets.push(bucket.name);
  }
  const databaseIds = new Map<string, string>();
  const newDatabases: string[] = [];
  for (const database of resources.databases) {
    const { uuid, isNew } = await progress.step(titles.database(database), () =>
      databaseMade(wrangler, database, account.databases, options.location),
    );
    databaseIds.set(database.binding, uuid);
    if (isNew) newDatabases.push(database.name);
  }
  const isIndexNew = oldBuckets.length > 0 && newDatabases.length > 0;
  // Once where it is seen, for a later step may fail, and once at the end, where it is read.
  if (isIndexNew) sayIndexNew(say, newDatabases, oldBuckets, options.registry);
  for (const queue of resources.queues) {
    await progress.step(titles.queue(queue), () => queueMade(wrangler, queue, account.queues));
  }
  for (const database of resources.databases) {
    await progress.step(titles.migrations(database), () => migrated(wrangler, database));
  }

  if (secrets.isPasswordMade) sayPassword(say, secrets);
  const deployed = await progress.step(titles.worker(resources), () => {
    const limit = bodyLimitOf({
      declared: resources.maxBodyBytes,
      plan: options.plan,
      deployed: account.worker?.version?.maxBodyBytes,
    });
    const tag = tagOf(bundle, [limit.bytes, ...databaseIds.values()]);
    const version = account.worker?.version;
    if (version?.tag === tag && Object.keys(secrets.values).length === 0) return triggersDeployed(wrangler);
    const asDeployed = (configPath: string) => workerDeployed(new Wrangler(configPath, accountId), tag, limit, secrets);
    const isOther = [...databaseIds].some(([binding, id]) => id !== (version?.databases.get(binding) ?? id));
    return isOther ? withPinnedDatabases(options.configPath, databaseIds, asDeployed) : asDeployed(options.configPath);
  });

  const registry = options.registry ?? addressIn(deployed);
  if (registry === null) {
    say("  smoke test: skipped, for wrangler.toml has no route that is a whole host; --registry URL names the address");
    if (isIndexNew) sayIndexNew(say, newDatabases, oldBuckets, undefined);
    return;
  }
  await progress.step(titles.smokeTest, async () => {
    const known = secrets.values["ADMIN_PASSWORD"] ?? password ?? (await askPassword(ask));
    if (known === undefined) {
      const how = "ADMIN_PASSWORD=... npm run deploy (the password is in the Worker alone)";
      return unchanged(`skipped, for want of the administrator's password; run it by: ${how}`, null);
    }
    await smokeTest({ registry, password: known });
    return unchanged("pushed, pulled, found as a referrer, and deleted", null);
  });
  say(`\nThe registry is on ${registry.origin}. Log in:\n  docker login -u admin ${registry.host}`);
  if (isIndexNew) sayIndexNew(say, newDatabases, oldBuckets, registry);
}

/** A bucket that was in use, and an index that knows nothing of it: the database was lost, most likely. */
function sayIndexNew(
  say: Say,
  databases: readonly string[],
  buckets: readonly string[],
  registry: URL | undefined,
): void {
  const address = registry === undefined ? "https://<registry>" : registry.origin;
  say(
    [
      "",
      `  Warning: the database ${databases.join(", ")} is new and empty, but the bucket ${buckets.join(", ")} was there before it.`,
      "  If the index of a registry was lost, put its last copy back before anybody pushes:",
      `    npx moorage rebuild --registry ${address}`,
      "  If the bucket is to begin anew, and has such copies: npx moorage export create --force",
      "",
    ].join("\n"),
  );
}

function unchanged<T>(said: string, value: T): Outcome<T> {
  return { said, changed: false, value };
}

function changed<T>(said: string, value: T): Outcome<T> {
  return { said, changed: true, value };
}

async function built(wrangler: Wrangler, { configPath }: DeployOptions): Promise<Outcome<Build>> {
  return unchanged("wrangler bundles it, and takes wrangler.toml", await build(wrangler, configPath));
}

async function lookedAt(wrangler: Wrangler, resources: Resources): Promise<Outcome<AccountState>> {
  const account = await readAccount(wrangler, resources);
  return unchanged(account.worker === null ? `has no Worker ${resources.worker}` : "has the Worker", account);
}

interface Made {
  /** Whether this run has created it. */
  readonly isNew: boolean;
}

async function bucketMade(
  wrangler: Wrangler,
  { name, jurisdiction }: Bucket,
  { buckets }: AccountState,
  location: string | undefined,
): Promise<Outcome<Made>> {
  if (buckets.includes(name)) return unchanged("there", { isNew: false });
  // wrangler takes one of the two.
  const where = jurisdiction === undefined ? locationOption(location) : jurisdictionOption(jurisdiction);
  try {
    await wrangler.run(["r2", "bucket", "create", name], where);
    return changed(`created${told(jurisdiction ?? location)}`, { isNew: true });
  } catch (error) {
    // The list ends somewhere, in an account with many. 10004: The bucket you tried to create already exists.
    if (error instanceof WranglerFailure && /\b10004\b|already exists/.test(error.reason)) {
      return unchanged("there", { isNew: false });
    }
    throw error;
  }
}

async function databaseMade(
  wrangler: Wrangler,
  { name, id }: Database,
  databases: readonly AccountDatabase[],
  location: string | undefined,
): Promise<Outcome<AccountDatabase & Made>> {
  const there = databases.find((database) => (id === undefined ? database.name === name : database.uuid === id));
  if (there !== undefined) return unchanged("there", { ...there, isNew: false });
  if (id !== undefined) {
    throw new UsageError(
      `the account has no database with the database_id ${id} of wrangler.toml; without that line it is found, or made, by its name`,
    );
  }
  await wrangler.run(["d1", "create", name], locationOption(location));
  const made = (await readDatabases(wrangler)).find((database) => database.name === name);
  if (made === undefined) throw new Error(`wrangler d1 list does not show ${name}, which was just created`);
  return changed(`created${told(location)}`, { ...made, isNew: true });
}

async function queueMade(wrangler: Wrangler, name: string, queues: readonly string[]): Promise<Outcome<null>> {
  if (queues.includes(name)) return unchanged("there", null);
  await wrangler.run(["queues", "create", name]);
  return changed("created", null);
}

function locationOption(location: string | undefined): string[] {
  return location === undefined ? [] : [`--location=${location}`];
}

function told(place: string | undefined): string {
  return place === undefined ? "" : ` in ${place}`;
}

async function migrated(wrangler: Wrangler, { binding }: Database): Promise<Outcome<null>> {
  const output = await wrangler.run(["d1", "migrations", "apply", binding], ["--remote"]);
  const applied = new Set([...output.matchAll(/│ (\S+\.sql)\s+│ ✅/g)].map((match) => match[1] ?? ""));
  return applied.size === 0 ? unchanged("none to apply", null) : changed(`applied ${[...applied].join(", ")}`, null);
}

/** Before the Worker has it: whatever happens then, who runs this has seen it. */
function sayPassword(say: Say, { values }: MissingSecrets): void {
  say(
    "\n  The password of the user admin, made now and shown this once (where the Worker does not get it, the next run",
  );
  say(`  makes another):\n    ${values["ADMIN_PASSWORD"] ?? ""}\n`);
}

/** @returns what wrangler printed */
async function workerDeployed(
  wrangler: Wrangler,
  tag: string,
  { bytes, reason }: BodyLimit,
  { values }: MissingSecrets,
): Promise<Outcome<string>> {
  const options = [`--tag=${tag}`, ...(bytes === null ? [] : [`--var=MAX_BODY_BYTES:${bytes}`])];
  const output =
    Object.keys(values).length === 0
      ? await wrangler.run(["deploy"], options)
      : // Secrets that are not in the file stay as they are.
        await withSecretsFile(values, (file) => wrangler.run(["deploy"], [...options, `--secrets-file=${file}`]));
  return changed(`deployed; MAX_BODY_BYTES: ${reason}`, output);
}

/**
 * Where this very version runs: its addresses and crons are set again, for an earlier run may have ended before that.
 * @returns what wrangler printed
 */
async function triggersDeployed(wrangler: Wrangler): Promise<Outcome<string>> {
  return unchanged("this version runs", await wrangler.run(["triggers", "deploy"]));
}

async function askPassword(ask: Ask | null): Promise<string | undefined> {
  if (ask === null) return undefined;
  const typed = await ask("Password of the user admin, for the smoke test (empty: skip it): ");
  return typed === "" ? undefined : typed;
}
