import { env } from "cloudflare:workers";
import { z } from "zod";
import { beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { memoryInUse, readContent } from "../../src/edge/edge.ts";
import { namespaceOf } from "../../src/edge/namespace.ts";
import { EDGE_MEMORY_ITEM_MAX_BYTES, EDGE_READING_BYTES } from "../../src/limits.ts";
import { parseDigest } from "../../src/oci/digest.ts";
import { parseRepositoryName } from "../../src/oci/repository.ts";
import { blob, image, push } from "../fixtures/artifacts.ts";
import { bodyOf, digest as digestOf, MIB, randomBytes } from "../fixtures/content.ts";
import { keyOf, keyOfManifest } from "../fixtures/integrity.ts";
import { interceptOperations } from "../fixtures/intercepted-env.ts";
import { bearerFor, freshAddress, makeRobot } from "../fixtures/principals.ts";
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

function freezeClock(nowMs = Date.now()) {
  onTestFinished(() => void vi.restoreAllMocks());
  return vi.spyOn(Date, "now").mockReturnValue(nowMs);
}

/** The URL under which the data centre's cache has it. */
function inCache(key: string): string {
  return `https://moorage.invalid/${namespaceOf(env)}/${key}`;
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
    freezeClock();
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

  it("does so with a token for pulls alone too: regctl looks with one whether it has to send a blob", async () => {
    const name = `private/${crypto.randomUUID()}`;
    const repository = admin().repository(name);
    const pushed = await push(repository, image(), "v1");
    const blobDigest = pushed.blobs[0]?.descriptor.digest ?? "";
    const scope = `repository:${name}:pull`;
    const asked = async (grant: string): Promise<number> => {
      const { token } = await makeRobot([`private/**:${grant}`]);
      const registry = admin();
      const as = registry.as(await bearerFor(registry, token.authorization, scope)).repository(name);
      await ask(async () => as.headBlob(blobDigest));
      await ask(async () => as.headManifest(pushed.descriptor.digest));
      const { d1: blobs } = await ask(async () => as.headBlob(blobDigest));
      const { d1: manifests } = await ask(async () => as.headManifest(pushed.descriptor.digest));
      return blobs + manifests;
    };
    expect(await asked("pull")).toBe(0);
    expect(await asked("pull,push")).toBe(2);
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
      expect(await cache.match(inCache(key)), key).toBeUndefined();
    }
    // And that is where they would have been.
    const other = newRepository();
    const kept = await push(other, image(), "v1");
    await ask(async () => puller(other).getManifest(kept.descriptor.digest));
    expect(await cache.match(inCache(`manifests/${other.name}/${kept.descriptor.digest}`))).toBeDefined();
  });

  it("is not believed of the data centre where this isolate has changed it: another one may have put back what it knew", async () => {
    const repository = newRepository();
    const pushed = await push(repository, image(), "v1");
    const { digest } = pushed.descriptor;
    const to = puller(repository);
    await ask(async () => to.getManifest(digest));
    const cache = await caches.open("moorage");
    const url = inCache(`manifests/${repository.name}/${digest}`);
    const stale = await cache.match(url);
    expect((await repository.deleteManifest(digest)).status).toBe(202);
    if (stale !== undefined) await cache.put(url, stale);
    expect(await cache.match(url)).toBeDefined();
    expect((await ask(async () => to.getManifest(digest))).status).toBe(404);
  });

  it("is told no more where the answer of D1 to a delete was lost", async () => {
    const repository = newRepository();
    const layer = blob(randomBytes(64));
    const { descriptor } = await push(repository, image({ layers: [layer] }), "v1");
    const to = puller(repository);
    await ask(async () => to.getManifest(descriptor.digest));
    await ask(async () => to.getBlob(layer.descriptor.digest));
    const environment = interceptOperations(environmentWith({ ANONYMOUS_PULL: "public/**" }), {
      after: async ({ binding }) => {
        if (binding === "DB") throw new Error("the answer was lost");
      },
    });
    const losing = admin(environment).repository(repository.name);
    expect((await losing.deleteManifest(descriptor.digest)).status).toBe(500);
    expect((await losing.deleteBlob(layer.descriptor.digest)).status).toBe(500);
    expect((await ask(async () => to.getManifest(descriptor.digest))).status).toBe(404);
    expect((await ask(async () => to.getBlob(layer.descriptor.digest))).status).toBe(404);
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
    const oldKey = await keyOf(digest);
    const newKey = `blobs/moved-${crypto.randomUUID()}`;
    await env.BLOBS.put(newKey, layer.bytes);
    await env.BLOBS.delete(oldKey);
    await env.DB.prepare("UPDATE blobs SET object_key = ?2 WHERE digest = ?1").bind(digest, newKey).run();
    const again = await ask(async () => to.getBlob(digest));
    expect(again.status).toBe(200);
    expect(again.body).toEqual(layer.bytes);
  });

  it("is found again where another isolate deleted a large manifest, and it was pushed again", async () => {
    const repository = newRepository();
    const pushed = await push(repository, image({ fields: { annotations: { filling: "x".repeat(100_000) } } }), "v1");
    const { digest } = pushed.descriptor;
    const to = puller(repository);
    expect((await ask(async () => to.headManifest(digest))).status).toBe(200);
    const oldKey = await keyOfManifest(digest);
    const newKey = `manifests/moved-${crypto.randomUUID()}`;
    await env.BLOBS.put(newKey, pushed.bytes);
    await env.BLOBS.delete(oldKey);
    await env.DB.prepare("UPDATE manifests SET object_key = ?2 WHERE digest = ?1").bind(digest, newKey).run();
    const again = await ask(async () => to.getManifest(digest));
    expect(again.status).toBe(200);
    expect(again.body).toEqual(pushed.bytes);
  });

  it.each([64, EDGE_MEMORY_ITEM_MAX_BYTES + 1])(
    "of %i bytes that were damaged is not what was pushed again",
    async (size) => {
      const repository = newRepository();
      const layer = blob(randomBytes(size));
      await repository.pushBlob(layer.bytes);
      const { digest } = layer.descriptor;
      const to = puller(repository);
      await env.BLOBS.put(await keyOf(digest), randomBytes(size));
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

  it("is believed for half of the collector's grace at most, and so are its bytes", async () => {
    const environment = { ...counted.env, GC_GRACE_SECONDS: "40" };
    const repository = newRepository();
    const layer = blob(randomBytes(64));
    await push(repository, image({ layers: [layer] }), "v1");
    const { digest } = layer.descriptor;
    const to = puller(repository, environment);
    const startMs = Date.now();
    const clock = freezeClock(startMs);
    await ask(async () => to.getBlob(digest));
    clock.mockReturnValue(startMs + 19_000);
    expect(await ask(async () => to.getBlob(digest))).toMatchObject({ status: 200, ...nothing });
    clock.mockReturnValue(startMs + 21_000);
    expect(await ask(async () => to.headBlob(digest))).toMatchObject({ status: 200, d1: 1 });
  });

  it("is never bytes of another digest: what was damaged in R2 and mended there is as it was", async () => {
    const repository = newRepository();
    const layer = blob(randomBytes(5000));
    await repository.pushBlob(layer.bytes);
    const { digest } = layer.descriptor;
    const key = await keyOf(digest);
    vi.spyOn(console, "error").mockImplementation(() => undefined);
    onTestFinished(() => void vi.restoreAllMocks());
    for (const bad of [randomBytes(5000), layer.bytes.slice(0, 2500)]) {
      await env.BLOBS.put(key, bad);
      // A connection that ends before the length that was told is how its reader sees it.
      await ask(async () => puller(repository).getBlob(digest)).catch(() => null);
    }
    await env.BLOBS.put(key, layer.bytes);
    expect(await ask(async () => puller(repository).getBlob(digest))).toMatchObject({ r2: 1, body: layer.bytes });
    expect(await ask(async () => puller(repository).getBlob(digest))).toMatchObject({ r2: 0, body: layer.bytes });
  });

  it("is filled beside the answer: a cache that takes nothing keeps no pull waiting, nor fills forever", async () => {
    const repository = newRepository();
    const large = blob(randomBytes(EDGE_MEMORY_ITEM_MAX_BYTES + 1));
    await repository.pushBlob(large.bytes);
    const stuck = Promise.withResolvers<undefined>();
    const put = vi.spyOn(Cache.prototype, "put").mockImplementation(async () => stuck.promise);
    onTestFinished(() => void vi.restoreAllMocks());
    // The whole answer comes while the cache has not taken a byte.
    const environment = { ...counted.env };
    counted.reset();
    const late: Promise<unknown>[] = [];
    const context = { waitUntil: (promise: Promise<unknown>): void => void late.push(promise) };
    const request = { env: environment, context, repository: parseRepositoryName(repository.name) };
    const objectKey = await keyOf(large.descriptor.digest);
    const held = { mediaType: "", body: null, objectKey, size: large.descriptor.size };
    const read = async (): Promise<Uint8Array> => {
      const content = await readContent(request, parseDigest(large.descriptor.digest), held, null);
      return new Response(content?.body ?? null).bytes();
    };
    expect(await read()).toEqual(large.bytes);
    expect(put).toHaveBeenCalledTimes(1);
    // It holds a stream of R2, not bytes.
    const answer = z.instanceof(Response).parse(put.mock.calls[0]?.[1]);
    expect(answer.body).toBeInstanceOf(ReadableStream);
    expect(await read()).toEqual(large.bytes);
    expect(put).toHaveBeenCalledTimes(1);
    await answer.body?.cancel();
    stuck.resolve(undefined);
    await Promise.all(late);
    expect(await read()).toEqual(large.bytes);
    expect(put).toHaveBeenCalledTimes(1);
  });

  it.each(["R2", "the data centre"])(
    "is read into memory within a bound, whatever many pull at once: of %s",
    async (source) => {
      const repository = newRepository();
      const layers = Array.from({ length: EDGE_READING_BYTES / MIB + 4 }, () => blob(randomBytes(MIB)));
      for (const layer of layers) await repository.pushBlob(layer.bytes);
      const to = puller(repository);
      const forgetAll = async (): Promise<void> => {
        const small = blob(randomBytes(64));
        await repository.pushBlob(small.bytes);
        await ask(async () =>
          puller(repository, { ...counted.env, CACHE_MEMORY_BYTES: "65536" }).getBlob(small.descriptor.digest),
        );
      };
      if (source === "the data centre")
        for (const { descriptor } of layers) await ask(async () => to.getBlob(descriptor.digest));
      await forgetAll();
      // None has read its bytes before all have begun to.
      const all = Promise.withResolvers<undefined>();
      let begun = 0;
      const beginning = async (): Promise<void> => {
        if (++begun === layers.length) all.resolve(undefined);
        await all.promise;
      };
      vi.spyOn(Response.prototype, "bytes").mockImplementation(async function bytes(this: Response) {
        await beginning();
        return new Uint8Array(await this.arrayBuffer());
      });
      onTestFinished(() => void vi.restoreAllMocks());
      const environment =
        source === "R2"
          ? interceptOperations(environmentWith({ ANONYMOUS_PULL: "public/**" }), {
              before: async ({ binding, method }) =>
                binding === "BLOBS" && method === "get" ? beginning() : undefined,
            })
          : counted.env;
      const answers = layers.map(async ({ descriptor }) => puller(repository, environment).getBlob(descriptor.digest));
      const streamed = layers.length - EDGE_READING_BYTES / MIB;
      if (source !== "R2") for (let each = 0; each < streamed; each++) void beginning();
      const bodies = await Promise.all(answers.map(async (answer) => new Response((await answer).body).arrayBuffer()));
      expect(bodies.map((body) => digestOf(new Uint8Array(body)))).toEqual(
        layers.map(({ descriptor }) => descriptor.digest),
      );
      const kept = memoryInUse().bytes;
      expect(kept).toBeGreaterThan(EDGE_READING_BYTES / 2);
      expect(kept).toBeLessThan(EDGE_READING_BYTES + MIB / 2);
    },
  );

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
    const startMs = Date.now();
    const clock = freezeClock(startMs);
    const byDigest = "public, max-age=60, no-transform";
    expect(await controlOf(async () => to.getManifest(pushed.descriptor.digest))).toBe(byDigest);
    expect(await controlOf(async () => to.getBlob(pushed.blobs[0]?.descriptor.digest ?? ""))).toBe(byDigest);
    // Of what is remembered only what is left of it: else it would be believed for twice as long.
    clock.mockReturnValue(startMs + 48_000);
    const left = "public, max-age=12, no-transform";
    expect(await controlOf(async () => to.getManifest(pushed.descriptor.digest))).toBe(left);
    expect(await controlOf(async () => to.headManifest(pushed.descriptor.digest))).toBe(left);
    expect(await controlOf(async () => to.getBlob(pushed.blobs[0]?.descriptor.digest ?? ""))).toBe(left);
  });

  it("no longer than half of the collector's grace, to who may push too", async () => {
    const environment = { ...counted.env, GC_GRACE_SECONDS: "20" };
    const repository = newRepository();
    const { descriptor } = await push(repository, image(), "v1");
    freezeClock();
    const byDigest = "public, max-age=10, no-transform";
    const pusher = admin(environment).repository(repository.name);
    expect(await controlOf(async () => pusher.getManifest(descriptor.digest))).toBe(byDigest);
    expect(await controlOf(async () => puller(repository, environment).getManifest(descriptor.digest))).toBe(byDigest);
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
