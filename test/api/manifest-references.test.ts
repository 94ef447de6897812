import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { MANIFEST_MAX_BYTES } from "../../src/limits.ts";
import { type Artifact, artifact, blob, type Fields, image, imageLayer, index, push } from "../fixtures/artifacts.ts";
import { randomBytes, unknownDigest } from "../fixtures/content.ts";
import { environmentWith, freshRepository, registryWith } from "../fixtures/registry.ts";
import { count, objectsMadeBy } from "../fixtures/storage.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { type Descriptor, imageIndex, imageManifest, type RepositoryClient } from "../support/client.ts";

const missingDetail = z.looseObject({ missing: z.array(z.string()) });
const sizesDetail = z.looseObject({
  sizes: z.array(z.strictObject({ digest: z.string(), descriptor: z.number(), stored: z.number() })),
});

const put = async (repository: RepositoryClient, { bytes, descriptor }: Artifact): Promise<Response> =>
  repository.putManifest(descriptor.digest, bytes, descriptor.mediaType);

async function expectMissing(response: Response, digests: readonly string[]): Promise<void> {
  const [error] = await expectError(response, 404, "MANIFEST_BLOB_UNKNOWN");
  expect(missingDetail.parse(error?.detail).missing.toSorted()).toEqual(digests.toSorted());
}

const descriptor = (fields: Partial<Descriptor> = {}): Descriptor => ({
  mediaType: imageLayer,
  digest: unknownDigest(),
  size: 10,
  ...fields,
});

/** As many layers as a manifest has room for, of content that nobody has. */
function manyDescriptors(number: number): Descriptor[] {
  return Array.from({ length: number }, (_, at) => ({
    mediaType: "a/b",
    digest: `sha256:${at.toString(16).padStart(64, "0")}`,
    size: 1,
  }));
}

describe("a manifest that names what is not in the repository", () => {
  it("is refused, and every missing digest is named: config, layers, children", async () => {
    const repository = freshRepository();
    const there = await repository.pushBlob(randomBytes(10));
    const missing = [descriptor(), descriptor({ digest: unknownDigest("sha512") }), descriptor()];
    const [config, ...layers] = missing;
    await expectMissing(
      await put(repository, artifact(imageManifest, { config, layers: [...layers, there, ...layers] })),
      missing.map(({ digest }) => digest),
    );
    const child = (await push(repository, image())).descriptor;
    await expectMissing(
      await put(repository, index([child, ...missing])),
      missing.map(({ digest }) => digest),
    );
  });

  it("is refused in a repository that nobody has made, and makes none", async () => {
    const repository = freshRepository();
    const config = descriptor();
    await expectMissing(await put(repository, artifact(imageManifest, { config, layers: [] })), [config.digest]);
    expect(await count("SELECT count(*) AS count FROM repositories WHERE name = ?1", repository.name)).toBe(0);
  });

  it("is refused though another repository has it, and though it is there under another algorithm", async () => {
    const [one, other] = [freshRepository(), freshRepository()];
    const pushed = await push(one, image());
    await expectMissing(
      await put(other, pushed),
      pushed.blobs.map((each) => each.descriptor.digest),
    );
    const layer = blob(randomBytes(10));
    const twin = blob(layer.bytes, imageLayer, "sha512");
    await one.pushBlob(layer.bytes);
    const named = artifact(imageManifest, { config: pushed.blobs[0]?.descriptor, layers: [twin.descriptor] });
    await expectMissing(await put(one, named), [twin.descriptor.digest]);
  });

  it("leaves nothing behind: no row, no tag, no event, no object, and what it named is no younger", async () => {
    const repository = freshRepository();
    const there = await repository.pushBlob(randomBytes(10));
    const large = { annotations: { filling: "x".repeat(100_000) } };
    const refused = artifact(imageManifest, { config: there, layers: [descriptor()], ...large });
    const made = await objectsMadeBy(async () => {
      await expectError(await repository.putManifest("latest", refused.bytes), 404, "MANIFEST_BLOB_UNKNOWN");
      await env.DB.prepare("SELECT 1").run();
    });
    const inRepository = "WHERE repository_id = (SELECT id FROM repositories WHERE name = ?1)";
    for (const table of ["manifests", "manifest_references", "tags", "tag_history"]) {
      expect(await count(`SELECT count(*) AS count FROM ${table} ${inRepository}`, repository.name)).toBe(0);
    }
    expect(await count("SELECT count(*) AS count FROM events WHERE repository = ?1", repository.name)).toBe(0);
    // Its bytes went to R2 before the check; they are put down for deletion in the batch that refused them.
    const garbage = await env.DB.prepare("SELECT object_key AS key FROM garbage").all<{ key: string }>();
    for (const key of made) expect(garbage.results.map((row) => row.key)).toContain(key);
  });

  it("is taken where its subject alone is not there", async () => {
    const repository = freshRepository();
    const pushed = image({ fields: { subject: descriptor() } });
    expect((await push(repository, pushed)).descriptor.digest).toBe(pushed.descriptor.digest);
  });

  it.each([
    ["application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", true],
    ["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true],
    ["application/vnd.oci.image.layer.v1.tar", false],
    ["application/vnd.example.foreign.layer", false],
  ])("as a layer of type %s: taken is %j", async (mediaType, taken) => {
    const repository = freshRepository();
    const pushed = image({ layers: [] });
    for (const { bytes } of pushed.blobs) await repository.pushBlob(bytes);
    const layer = descriptor({ mediaType });
    const named = artifact(imageManifest, { config: pushed.blobs[0]?.descriptor, layers: [layer] });
    const response = await put(repository, named);
    if (taken) expect(response.status).toBe(201);
    else await expectMissing(response, [layer.digest]);
  });
});

describe("an index", () => {
  it("may name blobs of the repository as its children, whatever their media type", async () => {
    const repository = freshRepository();
    const layers = [await repository.pushBlob(randomBytes(10)), await repository.pushBlob(randomBytes(20))];
    const named = layers.map((layer) => ({ ...layer, mediaType: imageManifest }));
    expect((await put(repository, index([...layers, ...named]))).status).toBe(201);
  });

  it("may name no children, and one child twice", async () => {
    const repository = freshRepository();
    const { descriptor: child } = await push(repository, image());
    for (const children of [[], [child, child]]) expect((await put(repository, index(children))).status).toBe(201);
  });
});

describe("a manifest with a size that is not that of the stored content", () => {
  it.each<[what: string, wrong: (parts: { config: Descriptor; layer: Descriptor; child: Descriptor }) => Artifact]>([
    [
      "config",
      ({ config, layer }) => artifact(imageManifest, { config: { ...config, size: config.size + 1 }, layers: [layer] }),
    ],
    ["layer", ({ config, layer }) => artifact(imageManifest, { config, layers: [{ ...layer, size: 0 }] })],
    ["child", ({ child }) => index([{ ...child, size: child.size - 1 }])],
    ["child that is a blob", ({ layer }) => index([{ ...layer, size: layer.size + 1 }])],
    [
      "foreign layer that is there",
      ({ config, layer }) =>
        artifact(imageManifest, {
          config,
          layers: [{ ...layer, mediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", size: 1 }],
        }),
    ],
  ])("of its %s is refused, with both sizes", async (_what, wrong) => {
    const repository = freshRepository();
    const { descriptor: child, blobs } = await push(repository, image());
    const [config, layer] = blobs.map((each) => each.descriptor);
    if (config === undefined || layer === undefined) throw new Error("an image has a config and a layer");
    const [error] = await expectError(await put(repository, wrong({ config, layer, child })), 400, "SIZE_INVALID");
    expect(sizesDetail.parse(error?.detail).sizes).toHaveLength(1);
  });

  it("of its subject is taken: the subject may be anything", async () => {
    const repository = freshRepository();
    const { descriptor: subject } = await push(repository, image());
    expect(
      (
        await put(
          repository,
          await push(repository, image({ fields: { subject: { ...subject, size: subject.size + 1 } } })),
        )
      ).status,
    ).toBe(201);
  });
});

describe("a manifest with as many references as fit in 4 MiB", () => {
  const layers = manyDescriptors(37_000);
  const fields = (config: Descriptor): Fields => ({ config, layers });

  it("of content that is not there is refused, and every one is named", async () => {
    const repository = freshRepository();
    const config = await repository.pushBlob(randomBytes(10));
    const pushed = artifact(imageManifest, fields(config));
    expect(pushed.bytes.byteLength).toBeLessThanOrEqual(MANIFEST_MAX_BYTES);
    await expectMissing(
      await put(repository, pushed),
      layers.map(({ digest }) => digest),
    );
  });

  it("is taken where they may be missing, and keeps an edge for each; deleted, it takes them with it", async () => {
    const { name } = freshRepository();
    const repository = registryWith(environmentWith({ ALLOW_SPARSE: "test/*" })).repository(name);
    const pushed = artifact(imageManifest, fields(await repository.pushBlob(randomBytes(10))));
    expect((await put(repository, pushed)).status).toBe(201);
    const edges =
      "SELECT count(*) AS count FROM manifest_references JOIN repositories ON repositories.id = repository_id WHERE name = ?1";
    expect(await count(edges, name)).toBe(layers.length + 1);
    expect((await repository.deleteManifest(pushed.descriptor.digest)).status).toBe(202);
    expect(await count(edges, name)).toBe(0);
  });
});

describe("ALLOW_SPARSE", () => {
  const sparse = registryWith(environmentWith({ ALLOW_SPARSE: "sparse/**, mirror/*" }));

  it.each([
    ["sparse/a/b", true],
    ["mirror/a", true],
    ["mirror/a/b", false],
    ["other", false],
  ])("lets manifests and indexes into %s before what they name: %j", async (name, taken) => {
    const repository = sparse.repository(`${name}-${crypto.randomUUID()}`);
    const [early, list] = [image(), index([descriptor({ mediaType: imageManifest })])];
    for (const pushed of [early, list]) {
      const response = await put(repository, pushed);
      expect(response.status).toBe(taken ? 201 : 404);
      expect((await repository.headManifest(pushed.descriptor.digest)).status).toBe(taken ? 200 : 404);
    }
    // What comes later is linked as ever; sizes that are known must be right here too.
    for (const { bytes } of early.blobs) await repository.pushBlob(bytes);
    const [config] = early.blobs.map((each) => each.descriptor);
    if (config === undefined) throw new Error("an image has a config");
    const wrong = artifact(imageManifest, { config: { ...config, size: 1 }, layers: [] });
    await expectError(await put(repository, wrong), 400, "SIZE_INVALID");
  });

  it("is empty unless it is set", async () => {
    await expectError(
      await put(freshRepository(), artifact(imageIndex, { manifests: [descriptor()] })),
      404,
      "MANIFEST_BLOB_UNKNOWN",
    );
  });
});
