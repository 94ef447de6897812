import { createExecutionContext, createScheduledController, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { LOGIN_NOTED_SECONDS, PULLS_BATCH_MAX } from "../../src/limits.ts";
import { runSchedule } from "../../src/lifecycle/schedule.ts";
import type { AuditAction } from "../../src/audit/record.ts";
import { insertAudit } from "../../src/audit/store.ts";
import { registry as served } from "../../src/registry.ts";
import { type Artifact, image, push } from "../fixtures/artifacts.ts";
import { digest, MIB, randomBytes } from "../fixtures/content.ts";
import { createToken, createUser, freshName } from "../fixtures/management.ts";
import { bearerFor, freshAddress, makeAccessToken, makeRobot, makeUser } from "../fixtures/principals.ts";
import { environmentWith, registryWith } from "../fixtures/registry.ts";
import { count } from "../fixtures/storage.ts";
import { append, begin } from "../fixtures/upload.ts";
import { imageManifest, type RegistryClient, type RepositoryClient } from "../support/client.ts";
import { countOperations } from "../support/counted-env.ts";
import { asAdmin, basic } from "../support/credentials.ts";

/** Each change with its row of the audit: both are there, or neither is. */

const rowSchema = z.object({
  action: z.string(),
  principal: z.string(),
  tokenId: z.string().nullable(),
  address: z.string().nullable(),
  repository: z.string().nullable(),
  reference: z.string().nullable(),
  digest: z.string().nullable(),
  outcome: z.string(),
  createdAt: z.number(),
});

/** What one request noted. */
async function notedBy(response: Response): Promise<readonly z.infer<typeof rowSchema>[]> {
  const { results } = await env.DB.prepare(
    `SELECT action, principal, token_id AS tokenId, address, repository, reference, digest, outcome,
       created_at AS createdAt FROM audit WHERE request_id = ?1`,
  )
    .bind(response.headers.get("X-Request-Id"))
    .all();
  return z.array(rowSchema).parse(results);
}

/** One change of content, or of rights. */
interface Change {
  readonly what: string;
  readonly action: AuditAction;
  readonly status: number;
  /** the statement without which there is no change */
  readonly statement: `${"INSERT" | "UPDATE" | "DELETE"} ${string}`;
  /** prepares all but the change itself, as the administrator */
  readonly prepare: () => Promise<Prepared>;
}

interface Prepared {
  /** the change, by whoever the registry is spoken to as */
  readonly change: (as: RegistryClient) => Promise<Response>;
  /** what its row says of what was changed */
  readonly row: Readonly<Record<string, unknown>>;
  /** of a mount */
  readonly source?: string;
}

const administrator = (): RegistryClient => registryWith(env, freshAddress());
const run = crypto.randomUUID();
const freshIn = (as: RegistryClient): RepositoryClient => as.repository(`${run}/${crypto.randomUUID()}`);

/** A pushed image with one tag, by its repository. */
async function pushed(options: Parameters<typeof image>[0] = {}): Promise<{ name: string; artifact: Artifact }> {
  const repository = freshIn(administrator());
  return { name: repository.name, artifact: await push(repository, image(options), "v1") };
}

const pushedBlob = (name: string, named: string): Prepared["row"] => ({
  repository: name,
  digest: named,
  reference: null,
});

const contentChanges: readonly Change[] = [
  {
    what: "a blob by POST and PUT",
    action: "blob.push",
    status: 201,
    statement: "INSERT repository_blobs",
    prepare: async () => {
      const { name } = freshIn(administrator());
      const bytes = randomBytes(10);
      const change = async (as: RegistryClient): Promise<Response> => {
        const { location } = await begin(as.repository(name));
        return as.repository(name).finishUpload(location, digest(bytes), bytes);
      };
      return { change, row: pushedBlob(name, digest(bytes)) };
    },
  },
  {
    what: "a blob by one POST",
    action: "blob.push",
    status: 201,
    statement: "INSERT repository_blobs",
    prepare: async () => {
      const { name } = freshIn(administrator());
      const bytes = randomBytes(10);
      const change = async (as: RegistryClient): Promise<Response> =>
        as.repository(name).startUpload({ digest: digest(bytes) }, bytes);
      return { change, row: pushedBlob(name, digest(bytes)) };
    },
  },
  {
    what: "a blob in chunks",
    action: "blob.push",
    status: 201,
    statement: "INSERT repository_blobs",
    prepare: async () => {
      const { name } = freshIn(administrator());
      const bytes = randomBytes(20);
      const change = async (as: RegistryClient): Promise<Response> => {
        const { location } = await begin(as.repository(name));
        const last = await append(as.repository(name), location, bytes.slice(0, 10), bytes.slice(10));
        return as.repository(name).finishUpload(last, digest(bytes));
      };
      return { change, row: pushedBlob(name, digest(bytes)) };
    },
  },
  {
    what: "a mount",
    action: "blob.mount",
    status: 201,
    statement: "INSERT repository_blobs",
    prepare: async () => {
      const { name, artifact } = await pushed();
      const into = freshIn(administrator()).name;
      const named = artifact.blobs[0]?.descriptor.digest ?? "";
      return {
        change: async (as) => as.repository(into).mountBlob(named, name),
        source: name,
        row: { repository: into, digest: named, reference: null },
      };
    },
  },
  {
    what: "a blob's deletion",
    action: "blob.delete",
    status: 202,
    statement: "DELETE repository_blobs",
    prepare: async () => {
      const { name, artifact } = await pushed();
      const named = artifact.blobs[0]?.descriptor.digest ?? "";
      return { change: async (as) => as.repository(name).deleteBlob(named), row: pushedBlob(name, named) };
    },
  },
  {
    what: "a manifest by tag",
    action: "manifest.push",
    status: 201,
    statement: "INSERT manifests",
    prepare: async () => {
      const { name, artifact } = await pushed();
      const next = image({ layers: artifact.blobs.slice(1), fields: { annotations: { made: run } } });
      await administrator()
        .repository(name)
        .pushBlob(next.blobs[0]?.bytes ?? randomBytes(1));
      return {
        change: async (as) => as.repository(name).putManifest("v2", next.bytes),
        row: { repository: name, reference: "v2", digest: next.descriptor.digest },
      };
    },
  },
  {
    what: "a large manifest by digest, with two tags",
    action: "manifest.push",
    status: 201,
    statement: "INSERT manifests",
    prepare: async () => {
      const { name } = freshIn(administrator());
      const large = image({ fields: { annotations: { filling: "x".repeat(MIB) } } });
      for (const { bytes } of large.blobs) await administrator().repository(name).pushBlob(bytes);
      const named = large.descriptor.digest;
      return {
        change: async (as) => as.repository(name).putManifest(named, large.bytes, imageManifest, ["v1", "v2"]),
        row: { repository: name, reference: "v1 v2", digest: named },
      };
    },
  },
  {
    what: "a tag's deletion",
    action: "tag.delete",
    status: 202,
    statement: "DELETE tags",
    prepare: async () => {
      const { name } = await pushed();
      return {
        change: async (as) => as.repository(name).deleteManifest("v1"),
        row: { repository: name, reference: "v1" },
      };
    },
  },
  {
    what: "a manifest's deletion",
    action: "manifest.delete",
    status: 202,
    statement: "DELETE manifests",
    prepare: async () => {
      const { name, artifact } = await pushed();
      const named = artifact.descriptor.digest;
      return { change: async (as) => as.repository(name).deleteManifest(named), row: pushedBlob(name, named) };
    },
  },
];

async function sendJson(as: RegistryClient, method: string, path: string, value?: unknown): Promise<Response> {
  const headers = { "Content-Type": "application/json" };
  return as.request(method, `/api/v1/${path}`, value === undefined ? {} : { headers, body: JSON.stringify(value) });
}

const onName = (name: string): Prepared["row"] => ({ repository: null, reference: name, digest: null });

async function freshRule(): Promise<string> {
  const name = `rule-${crypto.randomUUID()}`;
  expect((await sendJson(administrator(), "POST", "trust-rules", ruleOf(name))).status).toBe(201);
  return name;
}

const ruleOf = (name: string): object => ({
  name,
  issuer: "https://issuer.test",
  audience: "x",
  conditions: { sub: "a job" },
  grants: ["a:pull"],
});

const rightsChanges: readonly Change[] = [
  {
    what: "a new user",
    action: "user.create",
    status: 201,
    statement: "INSERT users",
    prepare: async () => {
      const name = freshName();
      return { change: async (as) => sendJson(as, "POST", "users", { name, grants: ["a:pull"] }), row: onName(name) };
    },
  },
  {
    what: "a change of a user's grants",
    action: "user.change",
    status: 200,
    statement: "UPDATE users",
    prepare: async () => {
      const { name } = await createUser();
      return {
        change: async (as) => sendJson(as, "PATCH", `users/${name}`, { grants: ["a:pull"] }),
        row: onName(name),
      };
    },
  },
  {
    what: "a user's deletion",
    action: "user.delete",
    status: 204,
    statement: "DELETE users",
    prepare: async () => {
      const { name } = await createUser();
      return { change: async (as) => sendJson(as, "DELETE", `users/${name}`), row: onName(name) };
    },
  },
  {
    what: "a new access token",
    action: "token.create",
    status: 201,
    statement: "INSERT access_tokens",
    prepare: async () => {
      const { name } = await createUser();
      return { change: async (as) => sendJson(as, "POST", `users/${name}/tokens`, { name: "a token" }), row: {} };
    },
  },
  {
    what: "an access token's revocation",
    action: "token.revoke",
    status: 204,
    statement: "UPDATE access_tokens",
    prepare: async () => {
      const { name } = await createUser();
      const { id } = await createToken(name);
      return { change: async (as) => sendJson(as, "DELETE", `users/${name}/tokens/${id}`), row: onName(id) };
    },
  },
  {
    what: "a new trust rule",
    action: "rule.create",
    status: 201,
    statement: "INSERT trust_rules",
    prepare: async () => {
      const name = `rule-${crypto.randomUUID()}`;
      return { change: async (as) => sendJson(as, "POST", "trust-rules", ruleOf(name)), row: onName(name) };
    },
  },
  {
    what: "a trust rule's change",
    action: "rule.change",
    status: 200,
    statement: "UPDATE trust_rules",
    prepare: async () => {
      const name = await freshRule();
      return { change: async (as) => sendJson(as, "PATCH", `trust-rules/${name}`, { grants: [] }), row: onName(name) };
    },
  },
  {
    what: "a trust rule's deletion",
    action: "rule.delete",
    status: 204,
    statement: "DELETE trust_rules",
    prepare: async () => {
      const name = await freshRule();
      return { change: async (as) => sendJson(as, "DELETE", `trust-rules/${name}`), row: onName(name) };
    },
  },
];

const changes = [...contentChanges, ...rightsChanges];

/** What the registry says of itself: the audit and the collector's own lists are not of it. */
async function snapshot(): Promise<string> {
  const { results: tables } = await env.DB.prepare(
    `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB '_cf_*' AND name NOT GLOB 'sqlite_*'
       AND name NOT IN ('audit', 'garbage', 'upload_states', 'registry_values', 'd1_migrations') ORDER BY name`,
  ).all<{ name: string }>();
  const rows: unknown[] = [];
  for (const { name } of tables)
    rows.push([name, (await env.DB.prepare(`SELECT * FROM ${name} ORDER BY 1, 2`).all()).results]);
  return JSON.stringify(rows);
}

/** While `work` is done every such statement fails, and with it its batch. */
async function failing(statement: string, work: () => Promise<void>): Promise<void> {
  const [verb = "", table = ""] = statement.split(" ");
  await env.DB.prepare(
    `CREATE TRIGGER failing BEFORE ${verb} ON ${table} BEGIN SELECT RAISE(ABORT, 'it is to fail'); END`,
  ).run();
  try {
    await work();
  } finally {
    await env.DB.prepare("DROP TRIGGER failing").run();
  }
}

beforeAll(async () => {
  // What an isolate writes once.
  await begin(freshIn(administrator()));
});
afterEach(() => vi.restoreAllMocks());

describe.each(changes)("$what", ({ action, status, statement, prepare }) => {
  it("is noted once, with who did it, from where, what and when", async () => {
    const { change, row } = await prepare();
    const address = freshAddress();
    const before = Date.now();
    const response = await change(registryWith(env, address));
    expect(response.status).toBe(status);
    const noted = await notedBy(response);
    expect(noted).toEqual([
      expect.objectContaining({
        action,
        principal: "admin",
        tokenId: null,
        address: address["CF-Connecting-IP"],
        outcome: "ok",
        ...row,
      }),
    ]);
    expect(noted[0]?.createdAt).toBeGreaterThanOrEqual(before);
    expect(noted[0]?.createdAt).toBeLessThanOrEqual(Date.now());
  });

  it("is not made where its row can't be", async () => {
    vi.spyOn(console, "error").mockImplementation(() => undefined);
    const { change } = await prepare();
    const before = await snapshot();
    await failing("INSERT audit", async () => {
      expect((await change(administrator())).status).toBe(500);
    });
    expect(await snapshot()).toBe(before);
    expect((await change(administrator())).status).toBe(status);
  });

  it("is not noted where it is not made", async () => {
    vi.spyOn(console, "error").mockImplementation(() => undefined);
    const { change } = await prepare();
    await failing(statement, async () => {
      const response = await change(administrator());
      expect(response.status).toBe(500);
      expect(await notedBy(response)).toEqual([]);
    });
  });
});

describe.each(contentChanges)("$what by an access token", ({ action, status, prepare }) => {
  it.each(["Basic", "a bearer"])("as %s is noted with its user and its id", async (proof) => {
    const { change, row, source } = await prepare();
    const { user, token } = await makeRobot([`${run}/*:pull,push,delete`]);
    const registry = administrator();
    const scopes = [row["repository"], source].map((name) => `repository:${String(name)}:pull,push,delete`);
    const authorization =
      proof === "Basic" ? token.authorization : await bearerFor(registry, token.authorization, ...scopes);
    const response = await change(registry.as(authorization));
    expect(response.status).toBe(status);
    expect(await notedBy(response)).toMatchObject([{ action, principal: `user:${user.name}`, tokenId: token.id }]);
  });
});

describe("what changes nothing", () => {
  it("is not noted: what is not there, what is refused, what is read", async () => {
    const { name, artifact } = await pushed();
    const repository = administrator().repository(name);
    const absent = `sha256:${"0".repeat(64)}`;
    for (const response of [
      await repository.deleteManifest("none"),
      await repository.deleteManifest(absent),
      await repository.deleteBlob(absent),
      await repository.mountBlob(absent, `${run}/none`),
      await repository.mountBlob(absent),
      await repository.putManifest("v2", image().bytes),
      await repository.startUpload(),
      await repository.getManifest("v1"),
      await repository.getBlob(artifact.blobs[0]?.descriptor.digest ?? ""),
      await repository.listTags(),
      await sendJson(administrator(), "PATCH", `users/${freshName()}`, { disabled: true }),
    ]) {
      expect(await notedBy(response)).toEqual([]);
    }
  });
});

const askForToken = async (authorization: string | null, address = freshAddress()): Promise<Response> =>
  registryWith(env, address).as(authorization).request("GET", "/token");

describe("logins and refusals", () => {
  it("a login at /token is noted, in both of its forms; an anonymous one is none", async () => {
    const { user, token: made } = await makeRobot([]);
    const body = new URLSearchParams({ grant_type: "password", username: user.name, password: made.secret }).toString();
    const [one, other] = [freshAddress(), freshAddress()];
    for (const [address, response] of [
      [one, await askForToken(made.authorization, one)],
      [other, await registryWith(env, other).as(null).request("POST", "/token", { body })],
    ] as const) {
      expect(await notedBy(response)).toMatchObject([
        {
          action: "login",
          principal: `user:${user.name}`,
          tokenId: made.id,
          outcome: "ok",
          address: address["CF-Connecting-IP"],
        },
      ]);
    }
    expect(await notedBy(await askForToken(null))).toEqual([]);
  });

  it("of the same token at the same address one login in some minutes is noted; of another one each", async () => {
    const user = await makeUser([]);
    const [made, another] = [await makeAccessToken(user), await makeAccessToken(user)];
    const address = freshAddress();
    const nowMs = Date.now();
    const clock = vi.spyOn(Date, "now");
    const noted = async (authorization: string, seconds: number, from = address): Promise<number> => {
      clock.mockReturnValue(nowMs + seconds * 1000);
      const response = await askForToken(authorization, from);
      expect(response.status).toBe(200);
      return (await notedBy(response)).length;
    };
    expect(await noted(made.authorization, 0)).toBe(1);
    expect(await noted(made.authorization, 1)).toBe(0);
    expect(await noted(another.authorization, 1)).toBe(1);
    expect(await noted(made.authorization, 1, freshAddress())).toBe(1);
    expect(await noted(made.authorization, LOGIN_NOTED_SECONDS - 1)).toBe(0);
    expect(await noted(made.authorization, LOGIN_NOTED_SECONDS + 1)).toBe(1);
  });

  it("a login that could not be noted does not keep the next one from it", async () => {
    const { token: made } = await makeRobot([]);
    const address = freshAddress();
    const registry = registryWith(env, address).as(made.authorization);
    await env.DB.prepare(
      "CREATE TRIGGER no_logins BEFORE INSERT ON audit WHEN NEW.action = 'login' BEGIN SELECT RAISE(FAIL, 'full'); END",
    ).run();
    const failed = await registry.request("GET", "/token").catch(() => null);
    await env.DB.prepare("DROP TRIGGER no_logins").run();
    expect(failed === null ? [] : await notedBy(failed)).toEqual([]);
    expect(await notedBy(await askForToken(made.authorization, address))).toHaveLength(1);
  });

  it("a failed login is noted, at /token and anywhere", async () => {
    for (const response of [
      await askForToken(basic("admin", "guess")),
      await registryWith(env, freshAddress()).as(basic("admin", "guess")).ping(),
      await registryWith(env, freshAddress())
        .as(null)
        .request("POST", "/token", { body: "grant_type=refresh_token&refresh_token=x" }),
    ]) {
      expect(response.status).toBe(401);
      expect(await notedBy(response)).toMatchObject([{ action: "login", principal: "anonymous", outcome: "refused" }]);
    }
  });

  it("a refusal is noted with what was asked, once in a while for the same thing", async () => {
    const { user, token: made } = await makeRobot([]);
    const name = `${run}/refused`;
    const as = registryWith(env, freshAddress()).as(made.authorization).repository(name);
    const expected = { action: "access", principal: `user:${user.name}`, tokenId: made.id, repository: name };
    expect(await notedBy(await as.getManifest("v1"))).toMatchObject([{ ...expected, outcome: "refused" }]);
    expect(await notedBy(await as.getManifest("v2"))).toEqual([]);
    expect(await notedBy(await as.startUpload())).toMatchObject([{ ...expected, outcome: "refused" }]);
  });
});

/** The cron trigger of a minute: that of a whole hour sweeps and prunes too. */
function minuteOf(minute: number): ScheduledController {
  return createScheduledController({ scheduledTime: new Date(Date.UTC(2026, 0, 1, 5, minute)), cron: "* * * * *" });
}

describe("the retention", () => {
  it("is kept by the collector: what is older than AUDIT_RETENTION_DAYS goes, the rest stays", async () => {
    const principal = `user:${freshName()}`;
    const by = { principal: { name: principal, tokenId: null }, address: null, requestId: "r" };
    const dayMs = 86_400_000;
    const nowMs = Date.now();
    for (const days of [0, 6, 7.01, 8, 400]) {
      await insertAudit(env.DB, by, { action: "login", outcome: "ok" }, nowMs - days * dayMs).run();
    }
    const left = async (): Promise<number> =>
      count("SELECT count(*) AS count FROM audit WHERE principal = ?1", principal);
    const hour = minuteOf(0);
    await runSchedule(hour, environmentWith({ AUDIT_RETENTION_DAYS: "9999" }));
    expect(await left()).toBe(5);
    await runSchedule(hour, environmentWith({ AUDIT_RETENTION_DAYS: "7" }));
    expect(await left()).toBe(2);
  });
});

describe("a backlog of the retention", () => {
  it("is worked off between the hours too: more may be noted in one than its pass removes", async () => {
    const principal = `user:${freshName()}`;
    const longAgoMs = Date.now() - 30 * 86_400_000;
    await env.DB.prepare(
      `WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 3000)
       INSERT INTO audit (created_at, principal, request_id, action, outcome) SELECT ?1 + n, ?2, 'r', 'login', 'ok' FROM number`,
    )
      .bind(longAgoMs, principal)
      .run();
    const left = async (): Promise<number> =>
      count("SELECT count(*) AS count FROM audit WHERE principal = ?1", principal);
    const settings = environmentWith({ AUDIT_RETENTION_DAYS: "7" });
    await runSchedule(minuteOf(0), settings);
    expect(await left()).toBeGreaterThan(0);
    await runSchedule(minuteOf(1), settings);
    expect(await left()).toBe(0);
  });
});

/** Pulls wait for their batch until this is called. */
function holdBatches(): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  vi.spyOn(scheduler, "wait").mockReturnValue(promise);
  return resolve;
}

interface DataPoint {
  readonly indexes?: unknown;
  readonly blobs?: readonly unknown[];
  readonly doubles?: unknown;
}

/** Pulls of a repository in the audit. */
const rowsOf = async (name: string): Promise<number> =>
  count("SELECT count(*) AS count FROM audit WHERE action = 'manifest.pull' AND repository = ?1", name);

describe("pulls", () => {
  const points: DataPoint[] = [];
  const PULLS = { writeDataPoint: (point: DataPoint = {}): void => void points.push(point) };
  const counted = countOperations(environmentOf({ AUDIT_PULLS: `${run}/*`, PULLS }));
  const pulling = (authorization: string = asAdmin): RegistryClient =>
    registryWith(counted.env, freshAddress()).as(authorization);

  it("go to the audit where AUDIT_PULLS asks it, many in one query", async () => {
    const release = holdBatches();
    const { name, artifact } = await pushed();
    const { user, token } = await makeRobot([`${run}/*:pull`]);
    const pull = async (reference = "v1"): Promise<Response> =>
      pulling(token.authorization).repository(name).getManifest(reference);
    await pulling(token.authorization).repository(name).headManifest("v1");
    counted.reset();
    const noted = Promise.withResolvers<void>();
    vi.spyOn(PULLS, "writeDataPoint").mockImplementationOnce(() => noted.resolve());
    const first = pull();
    await noted.promise;
    const others = [pull(artifact.descriptor.digest), ...Array.from({ length: 8 }, async () => pull())];
    for (const response of await Promise.all(others)) expect(response.status).toBe(200);
    expect(await rowsOf(name)).toBe(0);
    release();
    expect((await first).status).toBe(200);
    expect(counted.counts.d1).toBe(10 + 1);
    const { results } = await env.DB.prepare(
      "SELECT principal, token_id, reference, digest, outcome FROM audit WHERE repository = ?1 AND action = 'manifest.pull'",
    )
      .bind(name)
      .all();
    expect(results).toHaveLength(10);
    const expected = { principal: `user:${user.name}`, token_id: token.id, digest: artifact.descriptor.digest };
    for (const row of results) expect(row).toMatchObject({ ...expected, outcome: "ok" });
    expect(results.filter(({ reference }) => reference === null)).toHaveLength(1);
  });

  it("make a batch as soon as there are enough of them, whatever else waits", async () => {
    const release = holdBatches();
    const { name } = await pushed();
    const noted = Promise.withResolvers<void>();
    vi.spyOn(PULLS, "writeDataPoint").mockImplementationOnce(() => noted.resolve());
    const first = pulling().repository(name).getManifest("v1");
    await noted.promise;
    for (let pulls = 1; pulls < PULLS_BATCH_MAX; pulls++) await pulling().repository(name).getManifest("v1");
    expect(await rowsOf(name)).toBe(PULLS_BATCH_MAX);
    release();
    await first;
    expect(await rowsOf(name)).toBe(PULLS_BATCH_MAX);
  });

  it("are no row for a HEAD, a 304, a blob, a 404, nor in a repository that AUDIT_PULLS does not name", async () => {
    holdBatches()();
    const { name, artifact } = await pushed();
    const repository = pulling().repository(name);
    await repository.headManifest("v1");
    await repository.getManifest("v1", { "If-None-Match": `"${artifact.descriptor.digest}"` });
    await repository.getBlob(artifact.blobs[0]?.descriptor.digest ?? "");
    await repository.getManifest("none");
    expect(await rowsOf(name)).toBe(0);
    const other = pulling().repository(`other-${run}/app`);
    await push(other, image({ layers: [] }), "v1");
    expect((await other.getManifest("v1")).status).toBe(200);
    expect(await rowsOf(other.name)).toBe(0);
  });

  it("go to Analytics Engine, manifests and blobs, each with who and what", async () => {
    holdBatches()();
    const { name, artifact } = await pushed();
    const [config] = artifact.blobs;
    const { user, token } = await makeRobot([`${run}/*:pull`]);
    const repository = pulling(token.authorization).repository(name);
    points.length = 0;
    await repository.getManifest("v1", { "User-Agent": "a client" });
    await repository.getBlob(config?.descriptor.digest ?? "", { "User-Agent": "a client" });
    const address: unknown = expect.stringMatching(/^10\./);
    const who: readonly unknown[] = [`user:${user.name}`, token.id, address, "a client"];
    expect(points).toEqual([
      {
        indexes: [name],
        blobs: ["manifest", name, "v1", artifact.descriptor.digest, ...who, "bypass"],
        doubles: [artifact.bytes.length, 0],
      },
      {
        indexes: [name],
        blobs: ["blob", name, null, config?.descriptor.digest, ...who, "miss"],
        doubles: [config?.bytes.length, 0],
      },
    ]);
  });

  it("go to Analytics Engine as cache hits where they are, also by the way of the warm ones", async () => {
    holdBatches()();
    const { name, artifact } = await pushed();
    const open = environmentOf({
      ANONYMOUS_PULL: "**",
      PULLS: { writeDataPoint: (point: DataPoint = {}): void => void points.push(point) },
    });
    const nobody = registryWith(open, freshAddress()).as(null).repository(name);
    const [config] = artifact.blobs;
    for (let time = 0; time < 2; time++) {
      await (await nobody.getManifest(artifact.descriptor.digest)).arrayBuffer();
      await (await nobody.getBlob(config?.descriptor.digest ?? "")).arrayBuffer();
    }
    points.length = 0;
    await nobody.getManifest(artifact.descriptor.digest);
    await nobody.getBlob(config?.descriptor.digest ?? "");
    const context = createExecutionContext();
    const url = `http://localhost/v2/${name}/blobs/${config?.descriptor.digest ?? ""}`;
    await served.fetch(new Request(url, { headers: freshAddress() }), open, context);
    await waitOnExecutionContext(context);
    expect(points.map(({ blobs, doubles }) => [blobs?.[0], blobs?.at(-1), doubles])).toEqual([
      ["manifest", "memory", [artifact.bytes.length, 1]],
      ["blob", "memory", [config?.bytes.length, 1]],
      ["blob", "memory", [config?.bytes.length, 1]],
    ]);
  });
});

describe("pushes", () => {
  it("go to Analytics Engine: each blob that was committed, and the manifest", async () => {
    const seen: DataPoint[] = [];
    const environment = environmentOf({
      PULLS: { writeDataPoint: (point: DataPoint = {}): void => void seen.push(point) },
    });
    const name = `${run}/points`;
    const artifact = await push(
      registryWith(environment, freshAddress()).repository(name),
      image({ layers: [] }),
      "v1",
    );
    const [config] = artifact.blobs;
    expect(seen.map(({ blobs, doubles }) => [...(blobs ?? []).slice(0, 5), doubles])).toEqual([
      ["blob.push", name, null, config?.descriptor.digest, "admin", [config?.bytes.length, 0]],
      ["manifest.push", name, "v1", artifact.descriptor.digest, "admin", [artifact.bytes.length, 0]],
    ]);
  });
});

/** With the values themselves, for who copies them. */
function environmentOf(replaced: Partial<Env>): Env {
  return { ...env, ...replaced };
}
