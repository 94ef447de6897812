import { readdirSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect } from "vitest";
import { addressIn } from "../../scripts/deploy/address.ts";
import { readProject } from "../../scripts/project.ts";
import { basic } from "../support/credentials.ts";
import { RegistryClient } from "../support/client.ts";
import { projectRoot } from "../support/registry.ts";
import { deployTest as it, expectDone, expectRefused, leftBehind } from "./deploy-test.ts";
import { writeConfig } from "./start-test.ts";

const password = "the password of a deployment";
const given = { ADMIN_PASSWORD: password };

const { crons } = readProject(path.join(projectRoot, "wrangler.toml"), {});

const migrations = readdirSync(path.join(projectRoot, "migrations")).filter((name) => name.endsWith(".sql"));

/** What is said again to a Worker that runs already; the same as before. */
const triggers = ["POST /workers/scripts/moorage/subdomain", "PUT /workers/scripts/moorage/schedules"];

describe("npm run deploy", () => {
  it("creates what is missing, and run again leaves all of it as it is; wrangler by hand finds it", async ({
    account,
    deploy,
    folder,
    wrangler,
  }) => {
    const before = await readFile(path.join(projectRoot, "wrangler.toml"), "utf8");
    const options = [`--registry=${account.registry}`, "--location=weur"];
    const first = await deploy([...options, "--plan=business"], given);
    expectDone(first);
    expect(account.buckets).toEqual([{ name: "moorage-blobs", location: "weur" }]);
    expect(account.databases).toMatchObject([{ name: "moorage", location: "weur" }]);
    expect(account.version?.databaseIds).toEqual(account.databases.map(({ uuid }) => uuid));
    expect(account.version?.vars["MAX_BODY_BYTES"]).toBe("200000000");
    expect(account.worker?.crons).toEqual(crons);
    expect(account.worker?.secrets.get("ADMIN_PASSWORD")).toBe(password);
    expect([...(account.worker?.secrets.keys() ?? [])].toSorted()).toEqual([
      "ADMIN_PASSWORD",
      "SIGNING_KEY",
      "TOKEN_KEY",
    ]);
    for (const migration of migrations) expect(first.stdout).toContain(migration);
    expect(first.stdout).not.toContain("Warning");
    expect(first.stdout).toContain("smoke test: pushed, pulled, found as a referrer, and deleted");
    expect(first.stdout).toContain(`docker login -u admin ${new URL(account.registry).host}`);
    for (const secret of account.worker?.secrets.values() ?? []) expect(first.stdout).not.toContain(secret);

    const secrets = new Map(account.worker?.secrets);
    const { version } = account;
    account.changes.length = 0;
    // Neither plan nor password: the one stays, the other is needed for the smoke test alone.
    const second = await deploy(options);
    expectDone(second);
    expect(account.changes).toEqual(triggers);
    expect(account.worker?.versions).toEqual([version]);
    expect(account.worker?.secrets).toEqual(secrets);
    expect(second.stdout).toContain("Worker moorage: this version runs");
    expect(second.stdout).toMatch(/smoke test: skipped, for want of the administrator's password; run it by: ADMIN_/);

    const byHand = await wrangler("deploy");
    expect(byHand).toMatchObject({ code: 0 });
    expect(addressIn(byHand.stdout)?.origin).toBe("https://moorage.harbour.workers.dev");
    expect(addressIn((await wrangler("triggers", "deploy")).stdout)?.origin).toBe(
      "https://moorage.harbour.workers.dev",
    );
    expect(account.databases).toHaveLength(1);
    expect(account.version?.databaseIds).toEqual(version?.databaseIds);
    expect(account.worker?.secrets).toEqual(secrets);

    expect(await leftBehind(folder)).toEqual([]);
    expect(await readFile(path.join(projectRoot, "wrangler.toml"), "utf8")).toBe(before);
  });

  it("makes the password where it may, shows it once, and leaves out of the index what the smoke test pushed", async ({
    account,
    deploy,
  }) => {
    const ran = await deploy([`--registry=${account.registry}`, "--generate-password"]);
    expectDone(ran);
    const made = account.worker?.secrets.get("ADMIN_PASSWORD") ?? "";
    expect(made).toMatch(/^[\w-]{20}$/);
    expect(ran.stdout.split(made)).toHaveLength(2);
    const catalog = await new RegistryClient(account.registry, fetch, basic("admin", made)).request(
      "GET",
      "/v2/_catalog",
    );
    expect(catalog.status).toBe(200);
    expect(await catalog.json()).toEqual({ repositories: [] });
    const database = account.databases[0]?.uuid ?? "";
    const counted = "SELECT (SELECT count(*) FROM manifests) + (SELECT count(*) FROM tags) AS n";
    expect(await account.query(database, counted)).toEqual([[{ n: 0 }]]);
  });

  it("says what was done and what was not, and goes on from there", async ({ account, deploy }) => {
    const options = [`--registry=${account.registry}`];
    account.faults.push({ request: /^POST \/d1\/.*query$/, status: 400, code: 7500, message: "no such luck" });
    const atMigrations = await deploy(options, given);
    expectRefused(atMigrations, /^moorage: migrations of moorage: wrangler d1 migrations apply DB: .*no such luck/s);
    expect(atMigrations.stderr).toMatch(/Done before it: R2 bucket moorage-blobs \(created\); D1 database moorage/);
    expect(atMigrations.stderr).toMatch(/Not done.*: migrations of moorage; Worker moorage; smoke test\./);
    expect(account.worker).toBeNull();

    account.faults.length = 0;
    account.faults.push({ request: /^PUT .*schedules$/, status: 400, code: 10_100, message: "too many crons" });
    account.changes.length = 0;
    const atCrons = await deploy(options, given);
    expectRefused(atCrons, /^moorage: Worker moorage: .*too many crons/s);
    expect(account.changes.filter((change) => change.startsWith("POST /r2") || change.startsWith("POST /d1"))).toEqual(
      [],
    );
    expect(account.worker).not.toBeNull();
    const { version } = account;

    account.faults.length = 0;
    expectDone(await deploy(options, given));
    expect(account.version).toEqual(version);
    expect(account.worker?.crons).toEqual(crons);
  });

  it("sets the one secret that is missing, and leaves the others", async ({ account, deploy }) => {
    const options = [`--registry=${account.registry}`];
    expectDone(await deploy([...options, "--plan=enterprise"], given));
    const before = new Map(account.worker?.secrets);
    account.worker?.secrets.delete("TOKEN_KEY");
    expectDone(await deploy(options, given));
    const after = new Map(account.worker?.secrets);
    expect(after.get("TOKEN_KEY")).toMatch(/^[\w+/]{43}=$/);
    expect(after.get("TOKEN_KEY")).not.toBe(before.get("TOKEN_KEY"));
    expect(after.get("SIGNING_KEY")).toBe(before.get("SIGNING_KEY"));
    // Who said the plan once need not say it again.
    expect(account.version?.vars["MAX_BODY_BYTES"]).toBe("500000000");

    account.isSplit = true;
    account.changes.length = 0;
    expectRefused(await deploy(options, given), /^moorage: requests go to 2 versions.*npx wrangler versions deploy\n$/);
    expect(account.changes).toEqual([]);
  });

  it("deploys anew over a version of others, and over one whose database is gone", async ({
    account,
    deploy,
    folder,
    wrangler,
  }) => {
    const options = [`--registry=${account.registry}`];
    expectDone(await deploy(options, given));
    expect(await wrangler("deploy")).toMatchObject({ code: 0 });
    expect(account.version?.tag).toBeUndefined();

    const [gone] = account.databases.splice(0);
    const over = await deploy(options, given);
    expectDone(over);
    // Told where it is seen, and at the end.
    const warnings = over.stdout.match(
      /Warning: the database moorage is new and empty, but the bucket moorage-blobs was there before it\.[^]*?npx moorage rebuild --registry (\S+)/g,
    );
    expect(warnings).toHaveLength(2);
    expect(over.stdout).toContain(`npx moorage rebuild --registry ${new URL(account.registry).origin}\n`);
    expect(over.stdout).toContain("Worker moorage: deployed");
    expect(account.version?.tag).toMatch(/^moorage-[0-9a-f]{16}$/);
    expect(account.version?.databaseIds).toEqual(account.databases.map(({ uuid }) => uuid));
    expect(account.version?.databaseIds).not.toEqual([gone?.uuid]);
    expect(await leftBehind(folder)).toEqual([]);
    expect((await readdir(projectRoot)).filter((name) => name.startsWith(".wrangler-"))).toEqual([]);
  });

  it("takes what wrangler.toml says: queues, a limit of its own, a bucket beyond the end of the list", async ({
    account,
    deploy,
    folder,
  }) => {
    for (let index = 0; index < 25; index++)
      account.buckets.push({ name: `other-${String(index)}`, location: undefined });
    account.buckets.push({ name: "moorage-blobs", location: "apac" });
    const config = await writeConfig(folder, (toml) =>
      toml
        .replace('MAX_BODY_BYTES = "0"', 'MAX_BODY_BYTES = "50000000"')
        .replace("[vars]", '[[queues.producers]]\nbinding = "EVENTS"\nqueue = "moorage-events"\n\n[vars]'),
    );
    const ran = await deploy([`--registry=${account.registry}`, `--config=${config}`, "--plan=pro"], given);
    expectDone(ran);
    expect(account.queues).toEqual(["moorage-events"]);
    expect(account.version?.vars["MAX_BODY_BYTES"]).toBe("50000000");
    expect(account.buckets).toHaveLength(26);
    expect(ran.stdout).toContain("R2 bucket moorage-blobs: there");
  });
});

describe("npm run deploy changes nothing, and says so in a line, where", () => {
  it("nobody is logged in", async ({ account, deploy }) => {
    const ran = await deploy([], { CLOUDFLARE_API_TOKEN: undefined });
    expectRefused(
      ran,
      /^moorage: nobody is logged in to Cloudflare: run npx wrangler login, or set CLOUDFLARE_API_TOKEN/,
    );
    expect(account.changes).toEqual([]);
  });

  it("there are several accounts, and none is named", async ({ account, deploy }) => {
    account.accounts = [...account.accounts, { id: "fedcba9876543210fedcba9876543210", name: "Quay" }];
    const ran = await deploy([], given);
    expectRefused(ran, /More than one account available.*CLOUDFLARE_ACCOUNT_ID.*`Quay`: `fedcba9876543210/s);
    expect(account.changes).toEqual([]);
  });

  it("all that is missing is the password, with a token that may not list accounts", async ({ account, deploy }) => {
    account.faults.push({ request: /^GET \/(accounts|memberships)/, status: 403, code: 9109, message: "Unauthorized" });
    const id = account.accounts[0]?.id ?? "";
    const ran = await deploy([], { CLOUDFLARE_ACCOUNT_ID: id });
    expectRefused(ran, /^moorage: the administrator's password is not set/);
    expect(ran.stdout).toContain(`login: account ${id}`);
    expect(account.changes).toEqual([]);
  });

  it("the password is missing, and nobody can be asked", async ({ account, deploy }) => {
    const ran = await deploy([`--registry=${account.registry}`]);
    expectRefused(ran, /^moorage: the administrator's password is not set.*ADMIN_PASSWORD.*--generate-password\n$/);
    expect(account.changes).toEqual([]);
  });

  it("wrangler.toml names a database that the account does not have", async ({ account, deploy, folder }) => {
    account.buckets.push({ name: "moorage-blobs", location: undefined });
    const id = "11111111-2222-4333-8444-555555555555";
    const config = await writeConfig(folder, (toml) =>
      toml.replace('database_name = "moorage"', `database_name = "moorage"\ndatabase_id = "${id}"`),
    );
    const ran = await deploy([`--config=${config}`], given);
    expectRefused(ran, new RegExp(`^moorage: the account has no database with the database_id ${id}`));
    expect(account.changes).toEqual([]);
  });

  it("the Worker does not build", async ({ account, deploy, folder }) => {
    const config = await writeConfig(folder, (toml) => toml.replace(/^main = .*$/m, 'main = "broken.ts"'));
    await writeFile(path.join(folder, "broken.ts"), "export default {");
    const ran = await deploy([`--config=${config}`], given);
    expectRefused(ran, /^moorage: build: wrangler deploy: .*found end of file.*nothing was changed/s);
    expect(account.changes).toEqual([]);
  });
});

describe("npm run deploy -- --dry-run", () => {
  it("prints the plan without an account, and asks nobody", async ({ account, deploy, folder }) => {
    const ran = await deploy(["--dry-run", "--location=apac"], { CLOUDFLARE_API_TOKEN: undefined });
    expectDone(ran);
    expect(ran.stdout).toMatch(/R2 bucket moorage-blobs: create it where it is missing, in apac/);
    expect(ran.stdout).toMatch(/D1 database moorage.*migrations of moorage.*Worker moorage.*smoke test/s);
    expect(ran.stdout).toMatch(/build: wrangler bundles it/);
    expect(account.requests).toBe(0);
    expect(await leftBehind(folder)).toEqual([]);
  });
});
