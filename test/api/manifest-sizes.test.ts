import { describe, expect, it } from "vitest";
import { expectError } from "../conformance/error-envelope.ts";
import { type Artifact, artifact, image, imageLayer, index, push } from "../fixtures/artifacts.ts";
import { randomBytes, unknownDigest } from "../fixtures/content.ts";
import { environmentWith, freshRepository, registryWith } from "../fixtures/registry.ts";
import { imageIndex, imageManifest, type RepositoryClient } from "../support/client.ts";

/** Sizes are looked at wherever the content is there, also where it need not be; where it is not, nobody can tell. */

const nonDistributable = [
  "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
  "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

const sparse = (): RepositoryClient => {
  const { name } = freshRepository();
  return registryWith(environmentWith({ ALLOW_SPARSE: name })).repository(name);
};

async function put(repository: RepositoryClient, { bytes, descriptor }: Artifact): Promise<Response> {
  return repository.putManifest("v1", bytes, descriptor.mediaType);
}

describe("a layer that need not be there", () => {
  it.each(nonDistributable)("of type %s, but is, must have its size", async (mediaType) => {
    const repository = freshRepository();
    const { blobs } = await push(repository, image());
    const [config, layer] = blobs.map(({ descriptor }) => descriptor);
    if (layer === undefined) throw new Error("an image without a layer");
    for (const [size, status] of [
      [layer.size + 1, 400],
      [layer.size, 201],
    ] as const) {
      const response = await put(
        repository,
        artifact(imageManifest, { config, layers: [{ ...layer, mediaType, size }] }),
      );
      if (status === 201) expect(response.status).toBe(201);
      else await expectError(response, 400, "SIZE_INVALID");
    }
  });
});

describe("a repository that takes sparse manifests", () => {
  it("looks at the sizes of what is there: config, layer, and child", async () => {
    const repository = sparse();
    const pushed = await push(repository, image());
    const [config, layer] = pushed.blobs.map(({ descriptor }) => descriptor);
    if (config === undefined || layer === undefined) throw new Error("an image without config and layer");
    for (const wrong of [
      artifact(imageManifest, { config: { ...config, size: config.size - 1 }, layers: [] }),
      artifact(imageManifest, { config, layers: [{ ...layer, size: layer.size + 1 }] }),
      index([{ ...pushed.descriptor, size: pushed.descriptor.size + 1 }]),
      index([{ ...layer, size: layer.size + 1 }]),
    ]) {
      await expectError(await put(repository, wrong), 400, "SIZE_INVALID");
      expect((await repository.headManifest("v1")).status).toBe(404);
    }
  });

  it("takes any size for what is not there, and for a subject", async () => {
    const repository = sparse();
    const pushed = await push(repository, image());
    const absent = { mediaType: imageLayer, digest: unknownDigest(), size: 12_345 };
    const subject = { ...pushed.descriptor, size: 1 };
    for (const taken of [
      artifact(imageManifest, { config: absent, layers: [], subject }),
      artifact(imageIndex, { manifests: [{ ...absent, mediaType: imageManifest, digest: unknownDigest() }] }),
    ]) {
      expect((await put(repository, taken)).status).toBe(201);
    }
  });

  it("takes what a manifest named later, whatever size was said of it", async () => {
    const repository = sparse();
    const bytes = randomBytes(100);
    const { digest } = await freshRepository().pushBlob(bytes);
    const early = artifact(imageManifest, { config: { mediaType: imageLayer, digest, size: 7 }, layers: [] });
    expect((await put(repository, early)).status).toBe(201);
    await repository.pushBlob(bytes);
    expect((await repository.headBlob(digest)).headers.get("Content-Length")).toBe("100");
    expect((await repository.headManifest("v1")).status).toBe(200);
  });
});
