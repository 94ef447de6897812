import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { EDGE_MEMORY_ITEM_MAX_BYTES } from "../../src/limits.ts";
import { blob, image, push } from "../fixtures/artifacts.ts";
import { bodyOf, MIB, randomBytes } from "../fixtures/content.ts";
import { interceptOperations } from "../fixtures/intercepted-env.ts";
import { freshAddress } from "../fixtures/principals.ts";
import { environmentWith, registryWith } from "../fixtures/registry.ts";
import { begin } from "../fixtures/upload.ts";
import { countOperations, type OperationCounts } from "../support/counted-env.ts";
import type { RegistryClient, RepositoryClient } from "../support/client.ts";

/** What who may only pull gets from the caches, and who may push does not. */

const counted = countOperations({ ...env, ANONYMOUS_PULL: "public/**" });

beforeAll(async () => {
  // The key that signs upload locations is read once in an isolate's life.
  await begin(admin().repository("public/begin"));
});

function admin(environment: Env = counted.env): RegistryClient {
  return registryWith(environment, freshAddress());
}

/** Nobody, who may pull what is public. */
function puller(of: RepositoryClient, environment: Env = counted.env): RepositoryClient {
  return registryWith(environment, freshAddress()).as(null).repository(of.name);
}

function newRepository(): RepositoryClient {
  return admin().repository(`public/${crypto.randomUUID()}`);
}

interface Answer extends OperationCounts {
  readonly status: number;
  readonly body: Uint8Array;
  readonly headers: Headers;
}

async function ask(send: () => Promise<Response>): Promise<Answer> {
  counted.reset();
  const response = await send();
  const body = await bodyOf(response);
  return { status: response.status, headers: response.headers, body, ...counted.counts };
}

/** What an answer says, but for whose it is. */
async function headersOf(send: () => Promise<Response>): Promise<object> {
  const { headers } = await ask(send);
  return Object.fromEntries([...headers].filter(([name]) => name !== "x-request-id"));
}

async function controlOf(send: () => Promise<Response>): Promise<string | null> {
  return (await ask(send)).headers.get("cache-control");
}

const nothing = { d1: 0, r2: 0, durableObjects: 0 };

describe("a manifest by digest", () => {
  it("is asked for once, and then of nobody; GET, HEAD and 304 alike", async () => {
    const repository = newRepository();
    const { descriptor, bytes } = await push(repository, image(), "v1");
    const to = puller(repository);
    expect(await ask(async () => to.getManifest(descriptor.digest))).toMatchObject({ status: 200, d1: 1, r2: 0 });
    const warm = await ask(async () => to.getManifest(descriptor.digest));
    expect(warm).toMatchObject({ status: 200, ...nothing });
    expect(warm.body).toEqual(bytes);
    const head = await ask(async () => to.headManifest(descriptor.digest));
    expect(head).toMatchObject({ status: 200, ...nothing });
    expect(head.headers.get("content-length")).toBe(String(bytes.byteLength));
    expect(head.headers.get("content-type")).toBe(descriptor.mediaType);
    const headers = { "If-None-Match": `"${descriptor.digest}"` };
    expect(await ask(async () => to.getManifest(descriptor.digest, headers))).toMatchObject({
      status: 304,
      ...nothing,
    });
  });

  it("has the same headers warm as cold, and as who may push gets", async () => {
    const repository = newRepository();
    const { descriptor } = await push(repository, image(), "v1");
    const cold = await headersOf(async () => puller(repository).getManifest(descriptor.digest));
    expect(await headersOf(async () => puller(repository).getManifest(descriptor.digest))).toEqual(cold);
    expect(await headersOf(async () => repository.getManifest(descriptor.digest))).toEqual(cold);
  });

  it("that is too large for its row is one D1 query and one R2 read, then nothing", async () => {
    const repository = newRepository();
    const large = image({ fields: { annotations: { filling: "x".repeat(100_000) } } });
    const { descriptor, bytes } = await push(repository, large, "v1");
    const to = puller(repository);
    expect(await ask(async () => to.getManifest(descriptor.digest))).toMatchObject({ d1: 1, r2: 1 });
    const warm = await ask(async () => to.getManifest(descriptor.digest));
    expect(warm).toMatchObject({ status: 200, ...nothing });
    expect(warm.body).toEqual(bytes);
  });

  it("is answered by tag from the primary each time, with one query", async () => {
    const repository = newRepository();
    await push(repository, image(), "v1");
    const to = puller(repository);
    for (const time of [1, 2, 3]) {
      expect({ time, ...(await ask(async () => to.getManifest("v1"))) }).toMatchObject({ status: 200, d1: 1 });
    }
  });

  it("that is not there is asked for twice, each time: it may have come since", async () => {
    const repository = newRepository();
    await push(repository, image(), "v1");
    const missing = image();
    const to = puller(repository);
    expect(await ask(async () => to.getManifest(missing.descriptor.digest))).toMatchObject({ status: 404, d1: 2 });
    await push(repository, missing, "v2");
    expect((await ask(async () => to.getManifest(missing.descriptor.digest))).status).toBe(200);
  });

  it("of one repository is none of another", async () => {
    const [one, other] = [newRepository(), newRepository()];
    const { descriptor } = await push(one, image(), "v1");
    await push(other, image(), "v1");
    await ask(async () => puller(one).getManifest(descriptor.digest));
    expect((await ask(async () => puller(other).getManifest(descriptor.digest))).status).toBe(404);
  });
});

describe("a blob", () => {
  it.each([2048, EDGE_MEMORY_ITEM_MAX_BYTES])("of %i bytes is read once, and then by nobody", async (size) => {
    const repository = newRepository();
    const layer = blob(randomBytes(size));
    await push(repository, image({ layers: [layer] }), "v1");
    const { digest } = layer.descriptor;
    const to = puller(repository);
    expect(await ask(async () => to.headBlob(digest))).toMatchObject({ status: 200, d1: 1, r2: 0 });
    const cold = await ask(async () => to.getBlob(digest));
    expect(cold).toMatchObject({ status: 200, d1: 0, r2: 1 });
    expect(cold.body).toEqual(layer.bytes);
    const warm = await ask(async () => to.getBlob(digest));
    expect(warm).toMatchObject({ status: 200, ...nothing });
    expect(warm.body).toEqual(layer.bytes);
    const head = await ask(async () => to.headBlob(digest));
    expect(head).toMatchObject({ status: 200, ...nothing });
    expect(head.headers.get("content-length")).toBe(String(size));
  });

  it.each([2048, 3 * MIB])("of %i bytes answers ranges from a cached whole", async (size) => {
    const repository = newRepository();
    const layer = blob(randomBytes(size));
    await push(repository, image({ layers: [layer] }), "v1");
    const { digest } = layer.descriptor;
    const to = puller(repository);
    await ask(async () => to.getBlob(digest));
    const range = await ask(async () => to.getBlob(digest, { Range: "bytes=1000-1499" }));
    expect(range).toMatchObject({ status: 206, ...nothing });
    expect(range.headers.get("content-range")).toBe(`bytes 1000-1499/${String(size)}`);
    expect(range.headers.get("content-length")).toBe("500");
    expect(range.body).toEqual(layer.bytes.slice(1000, 1500));
    const suffix = await ask(async () => to.getBlob(digest, { Range: "bytes=-7" }));
    expect(suffix).toMatchObject({ status: 206, ...nothing });
    expect(suffix.body).toEqual(layer.bytes.slice(-7));
    const several = await ask(async () => to.getBlob(digest, { Range: "bytes=0-9,100-109" }));
    expect(several).toMatchObject({ status: 206, ...nothing });
    const text = new TextDecoder("latin1").decode(several.body);
    expect(text).toContain(new TextDecoder("latin1").decode(layer.bytes.slice(100, 110)));
    expect(several.headers.get("content-length")).toBe(String(several.body.byteLength));
    expect((await ask(async () => to.getBlob(digest, { Range: `bytes=${String(size)}-` }))).status).toBe(416);
  });

  it("that is too large for memory is streamed, and kept by the data centre beside that", async () => {
    const repository = newRepository();
    const layer = blob(randomBytes(EDGE_MEMORY_ITEM_MAX_BYTES + 1));
    await push(repository, image({ layers: [layer] }), "v1");
    const { digest } = layer.descriptor;
    const to = puller(repository);
    expect(await ask(async () => to.getBlob(digest))).toMatchObject({ status: 200, d1: 1, r2: 2 });
    const warm = await ask(async () => to.getBlob(digest));
    expect(warm).toMatchObject({ status: 200, ...nothing });
    expect(warm.body).toEqual(layer.bytes);
    expect(warm.headers.get("content-length")).toBe(String(layer.bytes.byteLength));
  });

  it("that is larger than CACHE_BLOB_MAX_BYTES is read of R2 each time", async () => {
    const environment = { ...counted.env, CACHE_BLOB_MAX_BYTES: "1000" };
    const repository = newRepository();
    const layer = blob(randomBytes(1001));
    await push(repository, image({ layers: [layer] }), "v1");
    const to = puller(repository, environment);
    await ask(async () => to.getBlob(layer.descriptor.digest));
    expect(await ask(async () => to.getBlob(layer.descriptor.digest))).toMatchObject({ status: 200, d1: 0, r2: 1 });
  });

  it("is asked for once of several repositories, its bytes once of all", async () => {
    const [one, other] = [newRepository(), newRepository()];
    const layer = blob(randomBytes(100));
    await push(one, image({ layers: [layer] }), "v1");
    await push(other, image({ layers: [layer] }), "v1");
    await ask(async () => puller(one).getBlob(layer.descriptor.digest));
    expect(await ask(async () => puller(other).getBlob(layer.descriptor.digest))).toMatchObject({ d1: 1, r2: 0 });
    const stranger = newRepository();
    await push(stranger, image(), "v1");
    expect((await ask(async () => puller(stranger).getBlob(layer.descriptor.digest))).status).toBe(404);
  });
});

describe("who may push", () => {
  it("asks D1 each time, for manifests and blobs, GET and HEAD", async () => {
    const repository = newRepository();
    const pushed = await push(repository, image(), "v1");
    const blobDigest = pushed.blobs[0]?.descriptor.digest ?? "";
    await ask(async () => puller(repository).getBlob(blobDigest));
    await ask(async () => puller(repository).getManifest(pushed.descriptor.digest));
    expect(await ask(async () => repository.headBlob(blobDigest))).toMatchObject({ d1: 1, r2: 0 });
    expect(await ask(async () => repository.getBlob(blobDigest))).toMatchObject({ d1: 1, r2: 1 });
    expect(await ask(async () => repository.headManifest(pushed.descriptor.digest))).toMatchObject({ d1: 1 });
    expect(await ask(async () => repository.getManifest(pushed.descriptor.digest))).toMatchObject({ d1: 1 });
  });

  it("is told at once that a condemned blob is gone, so that it is sent again", async () => {
    const repository = newRepository();
    const layer = blob(randomBytes(64));
    await repository.pushBlob(layer.bytes);
    const { digest } = layer.descriptor;
    await ask(async () => puller(repository).getBlob(digest));
    await env.DB.prepare(
      `UPDATE repository_blobs SET condemned_at = ?1 WHERE blob_id = (SELECT id FROM blobs WHERE digest = ?2)`,
    )
      .bind(Date.now(), digest)
      .run();
    expect((await repository.headBlob(digest)).status).toBe(404);
    // Who may only pull may still have it for a while: it stands in R2 for the whole grace.
    expect((await ask(async () => puller(repository).getBlob(digest))).status).toBe(200);
  });
});

describe("what is cached", () => {
  it("is gone from the isolate that deletes it, and from its data centre", async () => {
    const repository = newRepository();
    const layer = blob(randomBytes(64));
    const { descriptor } = await push(repository, image({ layers: [layer] }), "v1");
    const to = puller(repository);
    await ask(async () => to.getManifest(descriptor.digest));
    await ask(async () => to.getBlob(layer.descriptor.digest));
    expect((await repository.deleteManifest(descriptor.digest)).status).toBe(202);
    expect((await repository.deleteBlob(layer.descriptor.digest)).status).toBe(202);
    expect((await ask(async () => to.getManifest(descriptor.digest))).status).toBe(404);
    expect((await ask(async () => to.headManifest(descriptor.digest))).status).toBe(404);
    expect((await ask(async () => to.getBlob(layer.descriptor.digest))).status).toBe(404);
    const cache = await caches.open("moorage");
    for (const key of [
      `manifests/${repository.name}/${descriptor.digest}`,
      `blobs/${repository.name}/${layer.descriptor.digest}`,
      `content/${layer.descriptor.digest}`,
    ]) {
      expect(await cache.match(`https://moorage.invalid/${key}`), key).toBeUndefined();
    }
  });

  it("does not come back by a pull that began before the delete", async () => {
    const repository = newRepository();
    const layer = blob(randomBytes(64));
    await push(repository, image({ layers: [layer] }), "v1");
    const { digest } = layer.descriptor;
    let isFirst = true;
    const environment = interceptOperations(environmentWith({ ANONYMOUS_PULL: "public/**" }), {
      // D1 has answered that the blob is there; then it is deleted, and only then R2 reads it.
      before: async ({ binding, method }) => {
        if (binding !== "BLOBS" || method !== "get" || !isFirst) return;
        isFirst = false;
        expect((await repository.deleteBlob(digest)).status).toBe(202);
      },
    });
    await bodyOf(await puller(repository, environment).getBlob(digest));
    expect(isFirst).toBe(false);
    expect((await ask(async () => puller(repository).getBlob(digest))).status).toBe(404);
  });

  it("is found again where another isolate deleted it, and it was pushed again", async () => {
    const repository = newRepository();
    const layer = blob(randomBytes(EDGE_MEMORY_ITEM_MAX_BYTES + 1));
    await repository.pushBlob(layer.bytes);
    const { digest } = layer.descriptor;
    const to = puller(repository, { ...counted.env, CACHE_BLOB_MAX_BYTES: "0" });
    await ask(async () => to.getBlob(digest));
    const row = await env.DB.prepare("SELECT object_key AS objectKey FROM blobs WHERE digest = ?1")
      .bind(digest)
      .first<{ objectKey: string }>();
    const newKey = `blobs/moved-${crypto.randomUUID()}`;
    await env.BLOBS.put(newKey, layer.bytes);
    await env.BLOBS.delete(row?.objectKey ?? "");
    await env.DB.prepare("UPDATE blobs SET object_key = ?2 WHERE digest = ?1").bind(digest, newKey).run();
    const again = await ask(async () => to.getBlob(digest));
    expect(again.status).toBe(200);
    expect(again.body).toEqual(layer.bytes);
  });

  it.each([64, EDGE_MEMORY_ITEM_MAX_BYTES + 1])(
    "of %i bytes that were damaged is not what was pushed again",
    async (size) => {
      const repository = newRepository();
      const layer = blob(randomBytes(size));
      await repository.pushBlob(layer.bytes);
      const { digest } = layer.descriptor;
      const to = puller(repository);
      const keyOf = async (): Promise<string> =>
        (await env.DB.prepare("SELECT object_key AS key FROM blobs WHERE digest = ?1")
          .bind(digest)
          .first<string>("key")) ?? "";
      await env.BLOBS.put(await keyOf(), randomBytes(size));
      expect((await ask(async () => to.getBlob(digest))).body).not.toEqual(layer.bytes);
      await env.DB.prepare("UPDATE blobs SET quarantined_at = ?2 WHERE digest = ?1").bind(digest, Date.now()).run();
      await repository.pushBlob(layer.bytes);
      const startMs = Date.now();
      onTestFinished(() => void vi.restoreAllMocks());
      vi.spyOn(Date, "now").mockReturnValue(startMs + 61_000);
      expect((await ask(async () => to.getBlob(digest))).body).toEqual(layer.bytes);
      expect((await ask(async () => to.getBlob(digest))).body).toEqual(layer.bytes);
    },
  );

  it("is believed for CACHE_TTL and no longer, whatever tier it comes from", async () => {
    const repository = newRepository();
    const { descriptor } = await push(repository, image(), "v1");
    const to = puller(repository);
    await ask(async () => to.getManifest(descriptor.digest));
    const startMs = Date.now();
    onTestFinished(() => void vi.restoreAllMocks());
    const clock = vi.spyOn(Date, "now").mockReturnValue(startMs + 58_000);
    expect(await ask(async () => to.getManifest(descriptor.digest))).toMatchObject({ status: 200, d1: 0 });
    clock.mockReturnValue(startMs + 61_000);
    expect(await ask(async () => to.getManifest(descriptor.digest))).toMatchObject({ status: 200, d1: 1 });
  });

  it.each([{ CACHE_TTL: "0" }, { GC_GRACE_SECONDS: "0" }])("is nothing with %j", async (settings) => {
    const environment = { ...counted.env, ...settings };
    const repository = newRepository();
    const pushed = await push(repository, image(), "v1");
    const to = puller(repository, environment);
    for (const time of [1, 2]) {
      expect({ time, ...(await ask(async () => to.getManifest(pushed.descriptor.digest))) }).toMatchObject({ d1: 1 });
      const { digest } = pushed.blobs[0]?.descriptor ?? { digest: "" };
      expect({ time, ...(await ask(async () => to.getBlob(digest))) }).toMatchObject({ d1: 1, r2: 1 });
    }
  });
});

describe("Cache-Control says", () => {
  it("private, where the repository is", async () => {
    const repository = admin().repository(`private/${crypto.randomUUID()}`);
    const pushed = await push(repository, image(), "v1");
    const answers = [
      await repository.getManifest("v1"),
      await repository.headManifest(pushed.descriptor.digest),
      await repository.getBlob(pushed.blobs[0]?.descriptor.digest ?? ""),
      await repository.getManifest("v1", { "If-None-Match": `"${pushed.descriptor.digest}"` }),
    ];
    for (const answer of answers) {
      expect(answer.headers.get("cache-control")).toBe("private, no-cache, no-transform");
      await bodyOf(answer);
    }
  });

  it("for how long, where everybody may pull by digest; by tag that it is to be asked again", async () => {
    const repository = newRepository();
    const pushed = await push(repository, image(), "v1");
    const to = puller(repository);
    expect(await controlOf(async () => to.getManifest("v1"))).toBe("public, no-cache, no-transform");
    const byDigest = "public, max-age=60, no-transform";
    expect(await controlOf(async () => to.getManifest(pushed.descriptor.digest))).toBe(byDigest);
    expect(await controlOf(async () => to.getBlob(pushed.blobs[0]?.descriptor.digest ?? ""))).toBe(byDigest);
  });

  it("nothing is to be kept of a refusal, or of what is not there", async () => {
    const repository = newRepository();
    await push(repository, image(), "v1");
    expect((await ask(async () => puller(repository).getManifest("v2"))).headers.get("cache-control")).toBe("no-store");
    const hidden = puller(admin().repository("private/hidden"));
    expect((await ask(async () => hidden.getManifest("v1"))).headers.get("cache-control")).toBe("no-store");
  });
});

it("is never asked before the check: what is warm for one is 401 for who may not", async () => {
  const name = `private/${crypto.randomUUID()}`;
  const repository = admin().repository(name);
  const pushed = await push(repository, image(), "v1");
  const open = { ...counted.env, ANONYMOUS_PULL: "private/**" };
  const { digest } = pushed.descriptor;
  await ask(async () => puller(repository, open).getManifest(digest));
  expect(await ask(async () => puller(repository, open).getManifest(digest))).toMatchObject({
    status: 200,
    ...nothing,
  });
  expect((await ask(async () => puller(repository).getManifest(digest))).status).toBe(401);
  expect((await ask(async () => puller(repository).headManifest(digest))).status).toBe(401);
});
