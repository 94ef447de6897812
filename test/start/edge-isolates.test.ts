import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare } from "miniflare";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { bundleWorker } from "../../scripts/bundle.ts";
import { applyMigrations } from "../../scripts/migrations.ts";
import { readProject } from "../../scripts/project.ts";
import { RegistryClient, type RepositoryClient, utf8 } from "../support/client.ts";
import { asAdmin, basic, testSecrets } from "../support/credentials.ts";
import { projectRoot } from "../support/registry.ts";

/**
 * Two Workers of the same code on the same D1 and R2: what one isolate does, and what another one still knows. Their
 * caches live for two seconds here.
 */

const CACHE_TTL_SECONDS = 2;

let state = "";
let miniflare: Miniflare;

beforeAll(async () => {
  state = await mkdtemp(path.join(tmpdir(), "moorage-isolates-"));
  const project = readProject(path.join(projectRoot, "wrangler.toml"), {
    ANONYMOUS_PULL: "public/**",
    CACHE_TTL: String(CACHE_TTL_SECONDS),
    LOG_REQUESTS: "none",
  });
  const persistPath = path.join(state, "v3");
  const bundle = await bundleWorker(project.main, project.define, project.exports);
  await applyMigrations(project, persistPath);
  const { bindings, ...options } = project.workerOptions;
  const worker = (name: string, others: Readonly<Record<string, string>> = {}) => ({
    ...options,
    name,
    bindings: { ...testSecrets, ...bindings, ...others },
    modules: [...bundle.modules],
    modulesRoot: bundle.root,
  });
  miniflare = new Miniflare({
    ...convertV4MiniflareOptions({
      workers: [
        worker("one"),
        worker("other"),
        // Of another registry, by all that makes one; its content is what matters here.
        {
          ...worker("stranger", {
            TOKEN_KEY: Buffer.alloc(32, 9).toString("base64"),
            SIGNING_KEY: Buffer.alloc(32, 8).toString("base64"),
          }),
          d1Databases: { DB: "of-a-stranger" },
          r2Buckets: { BLOBS: "of-a-stranger" },
        },
      ],
      host: "127.0.0.1",
      port: 0,
      cf: false,
      log: new Log(LogLevel.WARN),
      logRequests: false,
    }),
    resourcePersistencePath: persistPath,
  });
  await miniflare.ready;
  await applySql(await miniflare.getD1Database("DB", "stranger"));
});

async function applySql(database: Awaited<ReturnType<Miniflare["getD1Database"]>>): Promise<void> {
  const folder = path.join(projectRoot, "migrations");
  for (const name of readdirSync(folder)
    .filter((file) => file.endsWith(".sql"))
    .toSorted()) {
    const source = readFileSync(path.join(folder, name), "utf8").replaceAll(/^\s*--.*$/gm, "");
    await database.exec(source.replaceAll(/--.*$/gm, "").replaceAll(/\s+/g, " ").trim());
  }
}

afterAll(async () => {
  await miniflare.dispose();
  await rm(state, { recursive: true, force: true });
});

type Isolate = "one" | "other" | "stranger";

/** @param authorization null: nobody's, who may pull what is public */
async function clientOf(isolate: Isolate, authorization: string | null = null): Promise<RegistryClient> {
  const worker = await miniflare.getWorker(isolate);
  const send = async (url: string, init: RequestInit = {}): Promise<Response> => {
    const { method = "GET", body } = init;
    const headers = Object.fromEntries(new Headers(init.headers));
    const sent = body instanceof Uint8Array ? { body: Buffer.from(body) } : {};
    const answer = await worker.fetch(url, { method, headers, ...sent });
    return new Response(await answer.arrayBuffer().then((bytes) => (bytes.byteLength === 0 ? null : bytes)), {
      status: answer.status,
      headers: Object.fromEntries(answer.headers),
    });
  };
  return new RegistryClient("http://localhost", send, authorization);
}

async function repositoryOf(isolate: Isolate, name: string, as: string | null = null): Promise<RepositoryClient> {
  return (await clientOf(isolate, as)).repository(name);
}

interface Pushed {
  readonly name: string;
  readonly blob: string;
  readonly manifest: string;
}

/** Through the first isolate. */
async function pushSomething(): Promise<Pushed> {
  const name = `public/${crypto.randomUUID()}`;
  const repository = await repositoryOf("one", name, asAdmin);
  const config = await repository.pushBlob(utf8(crypto.randomUUID()), { mediaType: "application/vnd.test" });
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const manifest = { schemaVersion: 2, mediaType, config, layers: [] };
  const { digest } = await repository.pushManifest(manifest, { reference: "v1" });
  return { name, blob: config.digest, manifest: digest };
}

const kinds = {
  "a manifest": {
    pull: async (of: RepositoryClient, { manifest }: Pushed) => of.getManifest(manifest),
    remove: async (of: RepositoryClient, { manifest }: Pushed) => of.deleteManifest(manifest),
  },
  "a blob": {
    pull: async (of: RepositoryClient, { blob }: Pushed) => of.getBlob(blob),
    remove: async (of: RepositoryClient, { blob }: Pushed) => of.deleteBlob(blob),
  },
} as const;

describe.each(Object.entries(kinds))("%s that one isolate deletes", (_, { pull, remove }) => {
  test("is gone there at once, and of the other within CACHE_TTL", async () => {
    const pushed = await pushSomething();
    const one = await repositoryOf("one", pushed.name);
    const other = await repositoryOf("other", pushed.name);
    expect((await pull(one, pushed)).status).toBe(200);
    expect((await pull(other, pushed)).status).toBe(200);
    const removed = await remove(await repositoryOf("one", pushed.name, asAdmin), pushed);
    const deletedMs = performance.now();
    expect(removed.status).toBe(202);
    expect((await pull(one, pushed)).status).toBe(404);
    // Whoever may push is never told of what the other isolate still knows.
    expect((await pull(await repositoryOf("other", pushed.name, asAdmin), pushed)).status).toBe(404);
    await expect.poll(async () => (await pull(other, pushed)).status, { timeout: 20_000 }).toBe(404);
    // It is a bound, not a speed: what is asked for after it is never answered from a cache.
    await expect.poll(() => performance.now() - deletedMs, { timeout: 20_000 }).toBeGreaterThan(2000);
    expect((await pull(other, pushed)).status).toBe(404);
  });

  test("and that is pushed again, is there for the other one", async () => {
    const pushed = await pushSomething();
    const other = await repositoryOf("other", pushed.name);
    expect((await pull(other, pushed)).status).toBe(200);
    const admin = await repositoryOf("one", pushed.name, asAdmin);
    expect((await remove(admin, pushed)).status).toBe(202);
    await expect.poll(async () => (await pull(other, pushed)).status, { timeout: 20_000 }).toBe(404);
    const config = await admin.pushBlob(utf8("again"), { mediaType: "application/vnd.test" });
    expect((await other.getBlob(config.digest)).status).toBe(200);
  });
});

const answerSchema = z.object({ token: z.string() });

test("a right that is taken away ends in the other isolate within CACHE_TTL, however warm the content is", async () => {
  const admin = await clientOf("one", asAdmin);
  const name = `private/${crypto.randomUUID()}`;
  const blob = await admin.repository(name).pushBlob(utf8(crypto.randomUUID()));
  const headers = { "Content-Type": "application/json" };
  const send = async (method: string, where: string, value: unknown): Promise<Response> =>
    admin.request(method, where, { headers, body: utf8(JSON.stringify(value)) });
  const user = `user-${crypto.randomUUID()}`;
  expect((await send("POST", "/api/v1/users", { name: user, grants: ["private/**:pull"] })).status).toBe(201);
  const made = await send("POST", `/api/v1/users/${user}/tokens`, { name: "t" });
  const { token } = answerSchema.parse(await made.json());
  const reader = await repositoryOf("other", name, basic(user, token));
  const answer = await (
    await clientOf("other", basic(user, token))
  ).request("GET", "/token", {
    query: { scope: `repository:${name}:pull` },
  });
  const bearer = `Bearer ${answerSchema.parse(await answer.json()).token}`;
  const bearerReader = await repositoryOf("other", name, bearer);
  expect((await reader.getBlob(blob.digest)).status).toBe(200);
  expect((await bearerReader.getBlob(blob.digest)).status).toBe(200);
  // It is warm in both tiers of that isolate; somebody without the right gets nothing of it.
  expect((await (await repositoryOf("other", name)).getBlob(blob.digest)).status).toBe(401);
  expect((await send("PATCH", `/api/v1/users/${user}`, { grants: ["elsewhere/**:pull"] })).status).toBe(200);
  expect((await (await repositoryOf("one", name, basic(user, token))).getBlob(blob.digest)).status).toBe(403);
  await expect.poll(async () => (await reader.getBlob(blob.digest)).status, { timeout: 20_000 }).toBe(403);
  // Of a bearer its scope is gone: with the next one it would be told no.
  await expect.poll(async () => (await bearerReader.getBlob(blob.digest)).status, { timeout: 20_000 }).toBe(401);
});

test.each(Object.entries(kinds))(
  "%s of one registry is none of another's that shares the cache",
  async (_, { pull }) => {
    const pushed = await pushSomething();
    const [one, stranger] = [await repositoryOf("one", pushed.name), await repositoryOf("stranger", pushed.name)];
    expect((await pull(stranger, pushed)).status).toBe(404);
    expect((await pull(one, pushed)).status).toBe(200);
    expect((await pull(stranger, pushed)).status).toBe(404);
    // It is in the cache that they share: the other isolate of the same registry has it of there.
    expect((await pull(await repositoryOf("other", pushed.name), pushed)).status).toBe(200);
  },
);
