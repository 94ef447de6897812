import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare } from "miniflare";
import { expect, test as base } from "vitest";
import { bundleWorker } from "../../scripts/bundle.ts";
import { applyMigrations } from "../../scripts/migrations.ts";
import { readProject } from "../../scripts/project.ts";
import { RegistryClient, utf8 } from "../support/client.ts";
import { asAdmin, testSecrets } from "../support/credentials.ts";
import { freePort } from "../support/free-port.ts";
import { projectRoot } from "../support/registry.ts";

/** Large blobs that are pulled from R2 itself, by its S3 API, which Miniflare has too and checks signatures as R2 does. */

const MIN_BYTES = 1000;
const credentials = { accessKeyId: "an access key id", secretAccessKey: "a secret access key" };

const test = base
  .extend("minBytes", { scope: "file" }, () => MIN_BYTES)
  .extend("server", { scope: "file" }, async ({ minBytes }, { onCleanup }) => {
    const state = await mkdtemp(path.join(tmpdir(), "moorage-redirect-"));
    const port = await freePort();
    const project = readProject(path.join(projectRoot, "wrangler.toml"), {
      ANONYMOUS_PULL: "public/**",
      LOG_REQUESTS: "none",
      REDIRECT_MIN_BYTES: String(minBytes),
      R2_S3_URL: `http://127.0.0.1:${String(port)}/cdn-cgi/local/r2/s3/moorage-blobs`,
    });
    const persistPath = path.join(state, "v3");
    const bundle = await bundleWorker(project.main, project.define, project.exports);
    await applyMigrations(project, persistPath);
    const { bindings, r2Buckets: _buckets, ...options } = project.workerOptions;
    const { accessKeyId: R2_ACCESS_KEY_ID, secretAccessKey: R2_SECRET_ACCESS_KEY } = credentials;
    const miniflare = new Miniflare({
      ...convertV4MiniflareOptions({
        ...options,
        name: project.name,
        bindings: { ...testSecrets, R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY, ...bindings },
        r2Buckets: { BLOBS: { id: "moorage-blobs", s3Credentials: credentials } },
        modules: [...bundle.modules],
        modulesRoot: bundle.root,
        host: "127.0.0.1",
        port,
        cf: false,
        log: new Log(LogLevel.WARN),
        logRequests: false,
      }),
      resourcePersistencePath: persistPath,
    });
    await miniflare.ready;
    onCleanup(async () => {
      await miniflare.dispose();
      await rm(state, { recursive: true, force: true });
    });
    const registry = new RegistryClient(`http://127.0.0.1:${String(port)}`, fetchThere, asAdmin);
    /** As another isolate's delete does, of which this one knows nothing. */
    const forgetRow = async (digest: string): Promise<void> => {
      const database = await miniflare.getD1Database("DB");
      const sql = "DELETE FROM repository_blobs WHERE blob_id = (SELECT id FROM blobs WHERE digest = ?1)";
      expect((await database.prepare(sql).bind(digest).run()).meta.changes).toBeGreaterThan(0);
    };
    return { registry, forgetRow };
  })
  .extend("registry", { scope: "file" }, ({ server }) => server.registry)
  .extend("forgetRow", { scope: "file" }, ({ server }) => server.forgetRow);

/** Redirects are what is looked at here. */
async function fetchThere(url: string, init: RequestInit = {}): Promise<Response> {
  return fetch(url, { ...init, redirect: "manual" });
}

async function locationOf(response: Response): Promise<string> {
  expect(response.status).toBe(307);
  return response.headers.get("location") ?? "";
}

test("a large blob's GET is sent to R2, which gives out its very bytes", async ({ registry }) => {
  const bytes = new Uint8Array(randomBytes(MIN_BYTES));
  const repository = registry.repository("public/large");
  const { digest } = await repository.pushBlob(bytes);
  for (const as of [repository, registry.as(null).repository("public/large")]) {
    const answer = await as.getBlob(digest);
    expect(answer.headers.get("docker-content-digest")).toBe(digest);
    expect(answer.headers.get("cache-control")).toBe("no-store");
    const pulled = await fetch(await locationOf(answer));
    expect(pulled.status).toBe(200);
    const body = new Uint8Array(await pulled.arrayBuffer());
    expect(`sha256:${createHash("sha256").update(body).digest("hex")}`).toBe(digest);
  }
});

test("a range is R2's to answer", async ({ registry }) => {
  const bytes = new Uint8Array(randomBytes(5000));
  const repository = registry.repository("public/ranges");
  const { digest } = await repository.pushBlob(bytes);
  const location = await locationOf(await repository.getBlob(digest, { Range: "bytes=10-19" }));
  const pulled = await fetch(location, { headers: { Range: "bytes=10-19" } });
  expect(pulled.status).toBe(206);
  expect(new Uint8Array(await pulled.arrayBuffer())).toEqual(bytes.slice(10, 20));
});

test("what is signed is this object, for a while, and nothing else", async ({ registry }) => {
  const repository = registry.repository("public/signed");
  const { digest } = await repository.pushBlob(new Uint8Array(randomBytes(2000)));
  const other = await repository.pushBlob(new Uint8Array(randomBytes(2000)));
  const url = new URL(await locationOf(await repository.getBlob(digest)));
  const otherUrl = new URL(await locationOf(await repository.getBlob(other.digest)));
  expect(Number(url.searchParams.get("X-Amz-Expires"))).toBeLessThanOrEqual(300);
  const spoilt = new URL(url);
  spoilt.pathname = otherUrl.pathname;
  expect((await fetch(spoilt)).status).toBe(403);
  expect((await fetch(url, { method: "DELETE" })).status).toBe(403);
  expect(url.href).not.toContain(encodeURIComponent(credentials.secretAccessKey));
});

test("HEAD, smaller blobs and manifests are answered here", async ({ registry }) => {
  const repository = registry.repository("public/small");
  const large = await repository.pushBlob(new Uint8Array(randomBytes(MIN_BYTES)));
  const small = await repository.pushBlob(new Uint8Array(randomBytes(MIN_BYTES - 1)));
  expect((await repository.headBlob(large.digest)).status).toBe(200);
  expect((await repository.getBlob(small.digest)).status).toBe(200);
  const config = await repository.pushBlob(utf8("{}"), { mediaType: "application/vnd.test" });
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const annotations = { padding: "x".repeat(200_000) };
  const { digest } = await repository.pushManifest(
    { schemaVersion: 2, mediaType, config, layers: [], annotations },
    { reference: "v1" },
  );
  expect((await repository.getManifest("v1")).status).toBe(200);
  expect((await registry.as(null).repository("public/small").getManifest(digest)).status).toBe(200);
});

test("what another isolate has deleted is 404 here, not a way to where it was", async ({ registry, forgetRow }) => {
  const repository = registry.repository("public/gone");
  const { digest } = await repository.pushBlob(new Uint8Array(randomBytes(2000)));
  const nobody = registry.as(null).repository("public/gone");
  expect((await nobody.getBlob(digest)).status).toBe(307);
  expect((await nobody.getBlob(digest)).status).toBe(307);
  await forgetRow(digest);
  expect((await nobody.getBlob(digest)).status).toBe(404);
});

test("who may not pull is told nothing of where it is", async ({ registry }) => {
  const { digest } = await registry.repository("private/large").pushBlob(new Uint8Array(randomBytes(2000)));
  const refused = await registry.as(null).repository("private/large").getBlob(digest);
  expect(refused.status).toBe(401);
  expect(refused.headers.get("location")).toBeNull();
});
