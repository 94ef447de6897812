import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { RANGES_MAX } from "../../src/limits.ts";
import { emptyBlob, image, index, push, referrer } from "../fixtures/artifacts.ts";
import { bodyOf, digest, MIB, randomBytes } from "../fixtures/content.ts";
import { freshRepository, registryWith } from "../fixtures/registry.ts";
import { begin, beginWith } from "../fixtures/upload.ts";
import { countOperations, type OperationCounts } from "../support/counted-env.ts";
import { imageManifest, locationOf, type RepositoryClient } from "../support/client.ts";

/** What each kind of request may do outside of the isolate's memory. It holds on any machine. */

const counted = countOperations(env);

beforeAll(async () => {
  // The key that signs upload locations is read once in an isolate's life.
  await begin(freshRepository(registryWith(counted.env)));
});

/** The operations of one request; its answer must have the status that is given. */
async function operationsOf(
  status: number,
  name: string,
  send: (repository: RepositoryClient) => Promise<Response>,
): Promise<OperationCounts> {
  counted.reset();
  const response = await send(registryWith(counted.env).repository(name));
  expect(response.status).toBe(status);
  // Ranges are read as the body is.
  await bodyOf(response);
  return { ...counted.counts };
}

const operations = (d1: number, r2 = 0, durableObjects = 0): OperationCounts => ({ d1, r2, durableObjects });

describe("end-3 a manifest's pull", () => {
  it.each(["by tag", "by digest"])("%s is 1 D1 query, GET and HEAD, 304 too", async (by) => {
    const repository = freshRepository();
    const { descriptor } = await push(repository, image(), "v1");
    const reference = by === "by tag" ? "v1" : descriptor.digest;
    expect(await operationsOf(200, repository.name, async (to) => to.getManifest(reference))).toEqual(operations(1));
    expect(await operationsOf(200, repository.name, async (to) => to.headManifest(reference))).toEqual(operations(1));
    const headers = { "If-None-Match": `"${descriptor.digest}"` };
    expect(await operationsOf(304, repository.name, async (to) => to.getManifest(reference, headers))).toEqual(
      operations(1),
    );
    expect(await operationsOf(404, repository.name, async (to) => to.getManifest("nothing"))).toEqual(operations(1));
  });

  it("of a large one is 1 D1 query and 1 R2 read; its HEAD reads no R2", async () => {
    const repository = freshRepository();
    await push(repository, image({ fields: { annotations: { filling: "x".repeat(100_000) } } }), "v1");
    expect(await operationsOf(200, repository.name, async (to) => to.getManifest("v1"))).toEqual(operations(1, 1));
    expect(await operationsOf(200, repository.name, async (to) => to.headManifest("v1"))).toEqual(operations(1));
  });
});

describe("end-2 a blob's pull", () => {
  it("is 1 D1 query, and 1 R2 read for a GET alone", async () => {
    const repository = freshRepository();
    const { digest: named } = await repository.pushBlob(randomBytes(2000));
    expect(await operationsOf(200, repository.name, async (to) => to.getBlob(named))).toEqual(operations(1, 1));
    expect(await operationsOf(200, repository.name, async (to) => to.headBlob(named))).toEqual(operations(1));
    expect(await operationsOf(304, repository.name, async (to) => to.getBlob(named, { "If-None-Match": "*" }))).toEqual(
      operations(1),
    );
    expect(await operationsOf(416, repository.name, async (to) => to.getBlob(named, { Range: "bytes=5000-" }))).toEqual(
      operations(1),
    );
  });

  it.each([1, 2, RANGES_MAX])("with %i ranges is 1 D1 query and as many R2 reads", async (number) => {
    const repository = freshRepository();
    const { digest: named } = await repository.pushBlob(randomBytes(2000));
    const Range = `bytes=${Array.from({ length: number }, (_, at) => `${String(at * 10)}-${String(at * 10 + 4)}`).join(",")}`;
    expect(await operationsOf(206, repository.name, async (to) => to.getBlob(named, { Range }))).toEqual(
      operations(1, number),
    );
  });

  it("with more ranges than that is 1 D1 query and 1 R2 read: the whole blob", async () => {
    const repository = freshRepository();
    const { digest: named } = await repository.pushBlob(randomBytes(2000));
    const Range = `bytes=${Array.from({ length: RANGES_MAX + 1 }, (_, at) => `${String(at * 10)}-${String(at * 10 + 4)}`).join(",")}`;
    expect(await operationsOf(200, repository.name, async (to) => to.getBlob(named, { Range }))).toEqual(
      operations(1, 1),
    );
  });
});

describe("a small blob's push", () => {
  it("by POST and PUT is 1 R2 write and at most 2 D1 round trips, and touches no Durable Object", async () => {
    const { name } = freshRepository();
    const bytes = randomBytes(2000);
    expect(await operationsOf(202, name, async (to) => to.startUpload())).toEqual(operations(0));
    const { location } = await begin(freshRepository().registry.repository(name));
    const { d1, r2, durableObjects } = await operationsOf(201, name, async (to) =>
      to.finishUpload(location, digest(bytes), bytes),
    );
    expect({ r2, durableObjects }).toEqual({ r2: 1, durableObjects: 0 });
    expect(d1).toBeLessThanOrEqual(2);
  });

  it("by one POST is 1 R2 write and 1 D1 round trip", async () => {
    const bytes = randomBytes(2000);
    expect(
      await operationsOf(201, freshRepository().name, async (to) => to.startUpload({ digest: digest(bytes) }, bytes)),
    ).toEqual(operations(1, 1));
  });

  it("by one PATCH is 1 R2 write in all; its final PUT moves no bytes", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(2000);
    const { location } = await begin(repository);
    const patched = await operationsOf(202, repository.name, async (to) => to.appendChunk(location, bytes));
    expect(patched).toMatchObject({ r2: 1, durableObjects: 1 });
    expect(patched.d1).toBeLessThanOrEqual(1);
    const { last } = await beginWith(repository, bytes);
    expect(await operationsOf(201, repository.name, async (to) => to.finishUpload(last, digest(bytes)))).toEqual(
      operations(1, 0, 1),
    );
  });

  it("that is cancelled before any byte makes no Durable Object", async () => {
    const repository = freshRepository();
    const { location } = await begin(repository);
    const cancelled = await operationsOf(204, repository.name, async (to) => to.cancelUpload(location));
    expect(cancelled).toMatchObject({ r2: 0, durableObjects: 0 });
    expect(cancelled.d1).toBeLessThanOrEqual(1);
  });

  it.each(["with from", "without from"])(
    "by a mount %s is at most 2 D1 round trips, and nothing else",
    async (which) => {
      const [source, into] = [freshRepository(), freshRepository()];
      const { digest: named } = await source.pushBlob(randomBytes(10));
      const from = which === "with from" ? source.name : undefined;
      const mounted = await operationsOf(201, into.name, async (to) => to.mountBlob(named, from));
      expect(mounted).toEqual(operations(which === "with from" ? 1 : 2));
    },
  );
});

describe("end-6 the commit of a large blob", () => {
  it("that came in one PATCH is as many operations as that of a small one: nothing is copied or read back", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(17 * MIB);
    const { last } = await beginWith(repository, bytes);
    const committed = await operationsOf(201, repository.name, async (to) => to.finishUpload(last, digest(bytes)));
    expect(committed).toEqual(operations(1, 0, 1));
  });

  it("that came in chunks is one R2 operation more, which makes its parts one object", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(17 * MIB);
    const { location } = await begin(repository);
    await repository.appendChunk(location, bytes.slice(0, 10 * MIB), 0);
    const last = locationOf(await repository.appendChunk(location, bytes.slice(10 * MIB), 10 * MIB));
    const committed = await operationsOf(201, repository.name, async (to) => to.finishUpload(last, digest(bytes)));
    expect(committed).toEqual(operations(1, 1, 1));
  });
});

describe("end-7 a manifest's push", () => {
  it.each([0, 1, 60, 2000])("with %i layers is at most 2 D1 round trips, and nothing else", async (number) => {
    const repository = freshRepository();
    const layer = await repository.pushBlob(randomBytes(10));
    const foreign = Array.from({ length: Math.max(0, number - 1) }, (_, at) => ({
      mediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar",
      digest: `sha256:${at.toString(16).padStart(64, "0")}`,
      size: 1,
    }));
    const pushed = image({ fields: { config: layer, layers: number === 0 ? [] : [layer, ...foreign] } });
    const taken = await operationsOf(201, repository.name, async (to) => to.putManifest("v1", pushed.bytes));
    expect(taken).toMatchObject({ r2: pushed.bytes.byteLength > 65_536 ? 1 : 0, durableObjects: 0 });
    expect(taken.d1).toBeLessThanOrEqual(2);
  });

  it("with 32 tags and a subject is at most 2 D1 round trips", async () => {
    const repository = freshRepository();
    await repository.pushBlob(emptyBlob.bytes);
    const { bytes, descriptor } = referrer(image().descriptor);
    const tags = Array.from({ length: 32 }, (_, at) => `t${String(at)}`);
    const taken = await operationsOf(201, repository.name, async (to) =>
      to.putManifest(descriptor.digest, bytes, imageManifest, tags),
    );
    expect(taken.d1).toBeLessThanOrEqual(2);
  });

  it("that is refused is at most 2 D1 round trips too", async () => {
    const refused = await operationsOf(404, freshRepository().name, async (to) => to.putManifest("v1", image().bytes));
    expect(refused).toMatchObject({ r2: 0, durableObjects: 0 });
    expect(refused.d1).toBeLessThanOrEqual(2);
  });
});

describe("a list, and a deletion,", () => {
  it("is 1 D1 round trip", async () => {
    const repository = freshRepository();
    const { descriptor, blobs } = await push(repository, image(), "a", "b");
    await push(repository, index([descriptor]));
    await push(repository, referrer(descriptor));
    const requests: readonly (readonly [status: number, send: (to: RepositoryClient) => Promise<Response>])[] = [
      [200, async (to) => to.registry.ping()],
      [200, async (to) => to.registry.listRepositories()],
      [200, async (to) => to.listTags()],
      [200, async (to) => to.listReferrers(descriptor.digest)],
      [202, async (to) => to.deleteManifest("a")],
      [202, async (to) => to.deleteManifest(descriptor.digest)],
      [202, async (to) => to.deleteBlob(blobs[0]?.descriptor.digest ?? "")],
    ];
    const done: OperationCounts[] = [];
    for (const [status, send] of requests) done.push(await operationsOf(status, repository.name, send));
    expect(done).toEqual([operations(0), ...Array.from({ length: 6 }, () => operations(1))]);
  });
});
