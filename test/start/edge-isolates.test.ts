import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare } from "miniflare";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bundleWorker } from "../../scripts/bundle.ts";
import { applyMigrations } from "../../scripts/migrations.ts";
import { readProject } from "../../scripts/project.ts";
import { RegistryClient, type RepositoryClient, utf8 } from "../support/client.ts";
import { asAdmin, testSecrets } from "../support/credentials.ts";
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
  const worker = (name: string) => ({
    ...options,
    name,
    bindings: { ...testSecrets, ...bindings },
    modules: [...bundle.modules],
    modulesRoot: bundle.root,
  });
  miniflare = new Miniflare({
    ...convertV4MiniflareOptions({
      workers: [worker("one"), worker("other")],
      host: "127.0.0.1",
      port: 0,
      cf: false,
      log: new Log(LogLevel.WARN),
      logRequests: false,
    }),
    resourcePersistencePath: persistPath,
  });
  await miniflare.ready;
});

afterAll(async () => {
  await miniflare.dispose();
  await rm(state, { recursive: true, force: true });
});

type Isolate = "one" | "other";

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

test("a right that is taken away ends with its bearer and CACHE_TTL, and no cache outlives it", async () => {
  const admin = await clientOf("one", asAdmin);
  const pushed = await pushSomething();
  const name = pushed.name.replace("public/", "private/");
  const repository = admin.repository(name);
  const blob = await repository.pushBlob(utf8(crypto.randomUUID()));
  const json = async (method: string, where: string, value: unknown) =>
    admin.request(method, where, {
      headers: { "Content-Type": "application/json" },
      body: utf8(JSON.stringify(value)),
    });
  const user = `user-${crypto.randomUUID()}`;
  expect((await json("POST", "/api/v1/users", { name: user, grants: ["private/**:pull"] })).status).toBe(201);
  const made: unknown = await (await json("POST", `/api/v1/users/${user}/tokens`, { name: "t" })).json();
  const token = typeof made === "object" && made !== null && "token" in made ? String(made.token) : "";
  const reader = await repositoryOf("other", name, `Basic ${Buffer.from(`${user}:${token}`).toString("base64")}`);
  expect((await reader.getBlob(blob.digest)).status).toBe(200);
  expect((await reader.getBlob(blob.digest)).status).toBe(200);
  // It is warm in both tiers of the other isolate; somebody without the right gets nothing of it.
  expect((await (await repositoryOf("other", name)).getBlob(blob.digest)).status).toBe(401);
});
