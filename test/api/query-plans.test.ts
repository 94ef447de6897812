/// <reference types="vite/types/importMeta.d.ts" />
import { createScheduledController } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { forgetTrustRules } from "../../src/access/workload-identity.ts";
import { auditOutcomes } from "../../src/audit/record.ts";
import { findingsSchema } from "../../src/integrity/finding.ts";
import { collect, collectSteps, type CollectOptions } from "../../src/lifecycle/collect.ts";
import { runSchedule } from "../../src/lifecycle/schedule.ts";
import { COUNT_HOUR, EXPORT_MINUTE } from "../../src/limits.ts";
import { parseDigest } from "../../src/oci/digest.ts";
import { parseRepositoryName } from "../../src/oci/repository.ts";
import { anonymous } from "../../src/requester.ts";
import { commitBlob } from "../../src/uploads/commit.ts";
import { blob, image, index, push, referrer } from "../fixtures/artifacts.ts";
import { digest, randomBytes, unknownDigest } from "../fixtures/content.ts";
import { IdIssuer, publish } from "../fixtures/id-tokens.ts";
import { freshAddress, refreshTokenFor } from "../fixtures/principals.ts";
import { parameterCount, recordStatements, writtenSql } from "../fixtures/recorded-database.ts";
import { environmentWith, registryWith } from "../fixtures/registry.ts";
import { emptyRegistry, objectKeyOf, UPLOAD_TTL_SECONDS } from "../fixtures/storage.ts";
import { begin, beginWith } from "../fixtures/upload.ts";
import {
  type DigestAlgorithm,
  expectStatus,
  imageManifest,
  type RegistryClient,
  type RepositoryClient,
} from "../support/client.ts";
import { asAdmin, basic } from "../support/credentials.ts";

/**
 * Every statement that a request or the cron trigger runs finds its rows by an index. Requests of every kind are sent
 * over a database that notes what is prepared, SQLite is asked for the plan of each, and all SQL in the source is
 * searched for what was left out. A plan depends on the schema alone where there are no statistics, which D1 makes for
 * nobody who does not ask: what holds here, on some rows, holds on millions.
 */

/** What a plan may read from one end to the other, or by less than its key; with the reason. */
interface Exception {
  readonly line: RegExp;
  /** of the statements that may */
  readonly of: RegExp;
  readonly because: string;
}

const json = /json_each\(/;
const catalogue = /json_group_array\(name\).* CROSS JOIN repositories/s;
const manyReferrers = /^SELECT slice, /;

const exceptions: readonly Exception[] = [
  { line: /^SCAN CONSTANT ROW$/, of: /^(INSERT|SELECT)/, because: "it is one row, of no table" },
  { line: /^SCAN \w+ VIRTUAL TABLE INDEX 1:$/, of: json, because: "the request brought the list" },
  {
    line: /^SCAN \(subquery-\d+\)$/,
    of: /FROM \(\s*SELECT/,
    because: "what stands inside has found these rows, by lines of its own",
  },
  { line: /^SCAN measured$/, of: /^WITH measured AS MATERIALIZED/, because: "one row of sums" },
  {
    line: /^SEARCH \w+ USING [\w ]+ \((repository_id|blob_id)=\?\)$/,
    of: /^INSERT INTO (repositories|blobs) |^DELETE FROM blobs /,
    because: "a foreign key looks for what refers to a new row, or to one that goes: nothing does",
  },
  {
    line: /^SEARCH manifests EXISTS USING COVERING INDEX manifests_digest \(repository_id=\?\)$/,
    of: catalogue,
    because: "one manifest is enough",
  },
  {
    line: /^SEARCH repository_blobs USING COVERING INDEX repository_blobs_blob \(blob_id=\?\)$/,
    of: /NOT EXISTS \(SELECT 1 FROM repository_blobs/,
    because: "one repository is enough",
  },
  {
    line: /^SEARCH member USING INDEX repository_blobs_blob \(blob_id=\?\)$/,
    of: /LIMIT \?[27]/,
    because: "it ends at its LIMIT",
  },
  { line: /^USE TEMP B-TREE FOR GROUP BY$/, of: manyReferrers, because: "the rows of a page, in five groups" },
  {
    line: /^USE TEMP B-TREE FOR ORDER BY$/,
    of: /FROM trust_rules WHERE issuer = /,
    because: "there are at most TRUST_RULES_MAX",
  },
  {
    line: /^SCAN trust_rules USING COVERING INDEX \w+$/,
    of: /SELECT COUNT\(\*\) FROM trust_rules/,
    because: "there are at most TRUST_RULES_MAX",
  },
  {
    line: /^SCAN audit USING INDEX audit_(created|refused)$/,
    of: /ORDER BY created_at DESC, id DESC LIMIT \?$/,
    because: "it is read from its newest, as far as the page goes",
  },
  {
    line: /^SCAN garbage USING INDEX garbage_waiting$/,
    of: /garbage WHERE deleted_at IS NULL/,
    because: "that index has only what waits to be deleted",
  },
  {
    line: /^SEARCH (member|manifests) USING [\w ]+ \(repository_id=\?\)$|^SCAN content LEFT-JOIN$/,
    of: /^SELECT count\(content\.size\) AS objects/,
    because: "an administrator who verifies a repository is told once how much it is",
  },
  {
    line: /^SCAN (repository_blobs|manifests|users|trust_rules) USING COVERING INDEX \w+$/,
    of: /^SELECT EXISTS \(SELECT 1 FROM repository_blobs\) OR EXISTS/,
    because: "the first row of any is enough",
  },
  {
    line: /^SCAN integrity_findings$/,
    of: /FROM integrity_findings/,
    because: "it has what went bad, which is little",
  },
  { line: /^SCAN export_parts$/, of: /FROM export_parts/, because: "the parts of one copy, which are wanted all" },
  {
    line: /^(SCAN page|USE TEMP B-TREE FOR ORDER BY)$/,
    of: /ORDER BY id LIMIT \?3\)\) AS page/,
    because: "a part of a copy: as many rows as its LIMIT",
  },
  {
    line: /^SCAN (repositories|manifests|tags|blobs)( USING COVERING INDEX \w+)?$/,
    of: /'countedAtMs'/,
    because: "it counts all that there is, once an hour",
  },
];

const run = crypto.randomUUID();
const { db, statements } = recordStatements(env.DB);
const team = `plans-${run}`;
const settings = {
  DB: db,
  ALLOW_SPARSE: `plans-${run}/sparse`,
  AUDIT_PULLS: `plans-${run}/audited`,
  ACCESS_TEAM_DOMAIN: `${team}.cloudflareaccess.com`,
  ACCESS_AUD: "plans",
};
const environment = environmentWith(settings);
const registry = (authorization: string | null = asAdmin, environment_ = environment): RegistryClient =>
  registryWith(environment_, freshAddress()).as(authorization);
const repository = (name: string): RepositoryClient => registry().repository(`plans-${run}/${name}`);

/** Answers are looked at, lest a request that was refused be taken for one that ran. */
async function done(response: Response | Promise<Response>, status: number): Promise<Response> {
  const answer = await expectStatus(await response, status);
  await answer.clone().arrayBuffer();
  return answer;
}

beforeAll(async () => {
  // What other files left in it would be read and copied too.
  await emptyRegistry();
  await pushAndPull();
  await upload();
  await mount();
  await list();
  await logIn();
  await manage();
  await readAudit();
  await remove();
  await collectGarbage();
  await checkIntegrity();
});

afterAll(() => vi.restoreAllMocks());

describe("the statements of all requests", () => {
  it("are all that the source has", () => {
    const left = writtenSql(sources).filter(({ isIn }) => ![...statements].some(isIn));
    expect(left.map(({ file, text }) => `${file}: ${text}`)).toEqual([]);
  });

  it("find their rows by an index, but where few rows are all that there are", async () => {
    const found: { line: string; sql: string }[] = [];
    for (const sql of statements) {
      for (const line of (await planOf(sql)).filter(isSuspicious)) {
        if (!exceptions.some((exception) => exception.line.test(line) && exception.of.test(sql)))
          found.push({ line, sql });
      }
    }
    expect(found).toEqual([]);
  });

  it("need each exception that is made for them", async () => {
    const plans = await Promise.all([...statements].map(async (sql) => ({ sql, lines: await planOf(sql) })));
    const unused = exceptions.filter(
      ({ line, of }) => !plans.some(({ sql, lines }) => of.test(sql) && lines.some((each) => line.test(each))),
    );
    expect(unused).toEqual([]);
  });
});

const sources = import.meta.glob<string>(["../../src/**/*.ts", "!../../src/uploads/session.ts"], {
  query: "?raw",
  import: "default",
  eager: true,
});

/** A table or an index that is read from its end, a key that is used in part, or an index that SQLite makes for the query. */
function isSuspicious(line: string): boolean {
  return /^SCAN |AUTOMATIC|TEMP B-TREE/.test(line) || /\((repository_id|blob_id|subject)=\?\)/.test(line);
}

async function planOf(sql: string): Promise<readonly string[]> {
  const nothing = Array.from({ length: parameterCount(sql) }, () => null);
  const statement = env.DB.prepare(`EXPLAIN QUERY PLAN ${sql}`);
  const { results } = await (nothing.length === 0 ? statement : statement.bind(...nothing)).all();
  return z
    .array(z.object({ detail: z.string() }))
    .parse(results)
    .map(({ detail }) => detail);
}

async function pushAndPull(): Promise<void> {
  const app = repository("app");
  const pushed = await push(app, image(), "v1", "v2");
  await push(app, index([pushed.descriptor]), "all");
  await push(app, index([]));
  await push(app, referrer(pushed.descriptor));
  // Text that is no row's any more.
  await push(app, image({ fields: { annotations: { filling: "x".repeat(100_000) } } }), "large");
  await done(app.putManifest("refused", image().bytes, imageManifest), 404);
  await done(repository("sparse").putManifest("v1", image().bytes, imageManifest), 201);
  // As many as three values of a statement take.
  const layers = Array.from({ length: 25_000 }, () => ({ mediaType: "a/b", digest: unknownDigest(), size: 1 }));
  const wide = image({ layers: [], fields: { layers } });
  await done(repository("sparse").putManifest("wide", wide.bytes, imageManifest), 201);

  // Who may only pull asks by a session of the database.
  for (const client of [registry(), registry(await userWith([`plans-${run}/*:pull`]))]) {
    const pulled = client.repository(app.name);
    for (const reference of ["v1", pushed.descriptor.digest]) {
      await done(pulled.headManifest(reference), 200);
      await done(pulled.getManifest(reference), 200);
    }
    const [config] = pushed.blobs;
    await done(pulled.headBlob(config?.descriptor.digest ?? ""), 200);
    await done(pulled.getBlob(config?.descriptor.digest ?? ""), 200);
  }

  // A batch of pulls waits for more of them.
  vi.spyOn(scheduler, "wait").mockResolvedValue();
  await push(repository("audited"), image(), "v1");
  await done(repository("audited").getManifest("v1"), 200);
}

async function upload(): Promise<void> {
  const app = repository("app");
  const [whole, chunked, small] = [randomBytes(100), randomBytes(100), randomBytes(100)];
  await done(app.startUpload({ digest: digest(whole) }, whole), 201);
  const { last } = await beginWith(app, chunked.slice(0, 50), chunked.slice(50));
  await done(app.uploadStatus(last), 204);
  await done(app.finishUpload(last, digest(chunked)), 201);
  await done(app.finishUpload(last, digest(chunked)), 201);
  const { location } = await begin(app);
  await done(app.uploadStatus(location), 204);
  await done(app.finishUpload(location, digest(small), small), 201);
  await done(app.finishUpload(location, digest(small), small), 201);
  await done(app.cancelUpload((await begin(app)).location), 204);
  // An object that a final PUT has named whose answer was lost; the next one says the other algorithm's digest.
  const twice = randomBytes(100);
  const objectKey = `blobs/plans-${run}`;
  const requester = { principal: anonymous, address: null, requestId: crypto.randomUUID() };
  const newBlob = (algorithm: DigestAlgorithm) => ({
    repository: parseRepositoryName(app.name),
    digest: parseDigest(digest(twice, algorithm)),
    size: 100,
    objectKey,
  });
  await commitBlob(db, newBlob("sha256"), requester);
  await expect(commitBlob(db, newBlob("sha512"), requester)).rejects.toThrow();
}

async function mount(): Promise<void> {
  const bytes = blob(randomBytes(20));
  await repository("source").pushBlob(bytes.bytes);
  const { digest: named } = bytes.descriptor;
  await done(repository("mounted").mountBlob(named, `plans-${run}/source`), 201);
  await done(repository("mounted-too").mountBlob(named), 201);
  await done(repository("mounted").mountBlob(unknownDigest(), `plans-${run}/source`), 202);
}

async function list(): Promise<void> {
  const app = repository("app");
  await done(app.listTags({ n: 1, last: "v1" }), 200);
  await done(registry().listRepositories({ n: 1 }), 200);
  const two = registry(await userWith([`plans-${run}/*:pull`, "elsewhere/*:pull"]));
  await done(two.listRepositories(), 200);

  // More than one value takes.
  const subject = await push(app, image());
  const text = "y".repeat(400_000);
  for (let count = 0; count < 4; count++) {
    await push(app, referrer(subject.descriptor, { annotations: { made: crypto.randomUUID(), text } }));
  }
  await done(app.listReferrers(subject.descriptor.digest), 200);
  await done(app.listReferrers(subject.descriptor.digest, { artifactType: "application/vnd.example.note.v1" }), 200);
}

/** A user of the registry under test, made by its API. @returns the header of an access token */
async function userWith(grants: readonly string[], fields: object = {}): Promise<string> {
  const name = `user-${crypto.randomUUID()}`;
  await manageWith("POST", "users", 201, { name, grants, ...fields });
  const made = await manageWith("POST", `users/${name}/tokens`, 201, { name: "of a test" });
  return basic(name, z.object({ token: z.string() }).parse(await made.json()).token);
}

async function manageWith(method: string, path: string, status: number, value?: object): Promise<Response> {
  const body =
    value === undefined ? {} : { body: JSON.stringify(value), headers: { "Content-Type": "application/json" } };
  return done(registry().request(method, `/api/v1/${path}`, body), status);
}

async function logIn(): Promise<void> {
  const [name, password] = [`person-${run}`, "a password of a person"];
  const email = `${name}@example.com`;
  await manageWith("POST", "users", 201, { name, grants: [`plans-${run}/*:pull`], email, password });
  const person = basic(name, password);
  const token = await userWith([`plans-${run}/*:pull`]);
  for (const authorization of [person, token]) {
    const refresh_token = await refreshTokenFor(registry(), authorization);
    const body = new URLSearchParams({
      grant_type: "refresh_token",
      refresh_token,
      service: "localhost",
      client_id: "x",
    });
    const headers = { "Content-Type": "application/x-www-form-urlencoded" };
    await done(registry(null).request("POST", "/token", { headers, body: body.toString() }), 200);
  }

  const issuer = await IdIssuer.at(`issuer-${run}.test`);
  const access = await IdIssuer.at(`${team}.cloudflareaccess.com`);
  publish(issuer, access);
  const conditions = { sub: ["a job"] };
  const rule = {
    name: `job-${run}`,
    issuer: issuer.url,
    audience: "plans",
    conditions,
    grants: [`plans-${run}/*:pull`],
  };
  await manageWith("POST", "trust-rules", 201, rule);
  forgetTrustRules();
  await done(registry(basic("ci", await issuer.sign({ aud: "plans" }))).ping(), 200);
  const assertion = { "Cf-Access-Jwt-Assertion": await access.sign({ aud: ["plans"], email }) };
  await done(
    registryWith(environment, { ...freshAddress(), ...assertion })
      .as(null)
      .ping(),
    200,
  );
  // Who may not is noted.
  await done(registry(token).repository(`elsewhere-${run}`).listTags(), 403);
}

async function manage(): Promise<void> {
  const name = `managed-${run}`;
  const user = `users/${name}`;
  await manageWith("POST", "users", 201, { name, grants: [] });
  await manageWith("GET", "users?n=1&after=a", 200);
  await manageWith("GET", user, 200);
  for (const change of [{ grants: [] }, { email: null }, { password: null }, { disabled: true }, { disabled: false }]) {
    await manageWith("PATCH", user, 200, change);
  }
  await manageWith("PATCH", user, 200, { grants: [], email: `${name}@example.com`, disabled: true });
  const made = await manageWith("POST", `${user}/tokens`, 201, { name: "of a test" });
  const { id } = z.object({ id: z.string() }).parse(await made.json());
  await manageWith("GET", `${user}/tokens?n=1&after=${id}`, 200);
  await manageWith("DELETE", `${user}/tokens/${id}`, 204);
  await manageWith("DELETE", user, 204);

  const rule = `trust-rules/rule-${run}`;
  const issuer = "https://token.example.com";
  const written = { issuer, audience: "plans", conditions: { sub: ["x"] }, grants: [] };
  await manageWith("POST", "trust-rules", 201, { name: `rule-${run}`, ...written });
  await manageWith("GET", "trust-rules?n=1&after=a", 200);
  await manageWith("GET", rule, 200);
  await manageWith("PATCH", rule, 200, { grants: [] });
  await manageWith("DELETE", rule, 204);
}

/** Each filter, and each set of them: what narrows by two may be read by the index of either. */
async function readAudit(): Promise<void> {
  const filters = [
    ["principal=admin"],
    ["action=manifest.push"],
    [`repository=plans-${run}/app`],
    auditOutcomes.map((outcome) => `outcome=${outcome}`),
    ["since=2026-01-01"],
    ["until=2100-01-01"],
    ["before=100"],
  ];
  const sets = filters.reduce<readonly string[]>(
    (sets_, choices) => sets_.flatMap((set) => [set, ...choices.map((choice) => `${set}&${choice}`)]),
    ["n=1"],
  );
  for (const set of sets) await manageWith("GET", `audit?${set}`, 200);
}

async function remove(): Promise<void> {
  const app = repository("removed");
  const pushed = await push(app, image({ fields: { annotations: { filling: "x".repeat(100_000) } } }), "v1", "v2");
  await done(app.deleteManifest("v1"), 202);
  await done(app.deleteManifest(pushed.descriptor.digest), 202);
  await done(app.deleteBlob(pushed.blobs[0]?.descriptor.digest ?? ""), 202);
}

/** Passes of the collector that find something in each of its steps. */
async function collectGarbage(): Promise<void> {
  await repository("unnamed").pushBlob(randomBytes(30));
  const nowMs = Date.now();
  const options: CollectOptions = {
    graceSeconds: 0,
    uploadTtlSeconds: UPLOAD_TTL_SECONDS,
    auditRetentionSeconds: 86_400,
    nowMs,
    sweep: true,
  };
  for (const step of collectSteps(environment, options)) await step();
  await collect(environment, { ...options, sweep: false });
  // Later, when uploads are too old to be still on their way, so that the sweep has something to judge.
  const later = { ...options, nowMs: nowMs + 2 * UPLOAD_TTL_SECONDS * 1000, graceSeconds: 30 * 86_400 };
  for (const step of collectSteps(environment, later)) await step();
}

/** Content that went bad: found by who verifies and by the scrub, kept, released, deleted; the index copied and put back. */
async function checkIntegrity(): Promise<void> {
  const damaged = repository("damaged");
  const layers = [blob(randomBytes(100)), blob(randomBytes(100))];
  const pushed = await push(damaged, image({ layers }), "v1");
  const large = await push(damaged, image({ layers, fields: { annotations: { filling: "x".repeat(100_000) } } }));
  const spoil = async ({ descriptor }: (typeof layers)[number]): Promise<unknown> =>
    env.BLOBS.put((await objectKeyOf(descriptor.digest)) ?? "", randomBytes(100));
  await Promise.all(layers.map(spoil));
  await env.DB.prepare("UPDATE manifests SET body = body || ' ' WHERE digest = ?1")
    .bind(pushed.descriptor.digest)
    .run();

  const answer = z.looseObject({ next: z.string().nullable() });
  for (let cursor: string | null = ""; cursor !== null;) {
    const verify: object = { repository: damaged.name, ...(cursor === "" ? {} : { cursor }) };
    cursor = answer.parse(await (await manageWith("POST", "integrity/verify", 200, verify)).json()).next;
  }
  await done(damaged.getBlob(layers[0]?.descriptor.digest ?? ""), 404);
  const { findings } = findingsSchema.parse(await (await manageWith("GET", "integrity/findings", 200)).json());
  for (const { id, kind } of findings) {
    if (kind === "manifest") await manageWith("POST", `integrity/findings/${String(id)}/release`, 200);
    else await manageWith("DELETE", `integrity/findings/${String(id)}/object`, 204);
  }
  await manageWith("GET", "integrity", 200);

  vi.spyOn(console, "error").mockReturnValue();
  const hour = Date.UTC(2026, 0, 1, COUNT_HOUR);
  for (const minute of [0, EXPORT_MINUTE]) {
    const scheduledTime = new Date(hour + minute * 60_000);
    await runSchedule(createScheduledController({ scheduledTime, cron: "* * * * *" }), environment);
  }
  // What waits to be deleted is copied too.
  await done(damaged.deleteManifest(large.descriptor.digest), 202);
  await untilEnded(async () => manageWith("POST", "index/exports", 200));
  await manageWith("GET", "index/exports", 200);
  await manageWith("POST", "index/rebuild", 409, {});
  await env.BLOBS.delete((await objectKeyOf(large.blobs[0]?.descriptor.digest ?? "")) ?? "");
  // Users are put back beside others where the copy is older than the database alone.
  await env.DB.prepare("UPDATE registry_values SET value = ?1 WHERE name = 'created-at'")
    .bind(String(Date.now() + 1000))
    .run();
  await untilEnded(async () => manageWith("POST", "index/rebuild", 200, { force: true }));
}

async function untilEnded(step: () => Promise<Response>): Promise<void> {
  const answer = z.looseObject({ ended: z.boolean() });
  while (!answer.parse(await (await step()).json()).ended);
}
