import { describe, expect, inject, test } from "vitest";
import {
  type Descriptor,
  digestOf,
  dockerManifest,
  dockerManifestList,
  imageIndex,
  imageManifest,
  utf8,
} from "../../support/client.ts";
import {
  bodyOf,
  bytesOf,
  imageIn,
  imageLayer,
  indexOf,
  randomBytes,
  sparseRepositories,
  unknownDigest,
} from "../content.ts";
import { expectError } from "../error-envelope.ts";
import { rawRequest } from "../raw-http.ts";
import { freshRepository } from "../registry-under-test.ts";

const MANIFEST_MAX_BYTES = 4 * 1024 * 1024;
const LONG_MS = 60_000;

/** A manifest of exactly `length` bytes. */
async function manifestOf(
  repository: ReturnType<typeof freshRepository>,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const image = await imageIn(repository);
  const bare = bytesOf({ ...image, annotations: { filler: "" } }).length;
  return bytesOf({ ...image, annotations: { filler: "a".repeat(length - bare) } });
}

describe("size", () => {
  test.each(["length", "chunked"] as const)(
    "end-7a PUT manifest (%s): 4 MiB are accepted, a byte more is 413",
    { timeout: LONG_MS },
    async (framing) => {
      const repository = freshRepository();
      const request = {
        method: "PUT",
        target: `/v2/${repository.name}/manifests/v1`,
        headers: { "Content-Type": imageManifest },
        framing,
      } as const;
      const largest = await manifestOf(repository, MANIFEST_MAX_BYTES);
      expect((await rawRequest(inject("registryUrl"), { ...request, body: largest })).status).toBe(201);
      expect(await digestOf(await bodyOf(await repository.getManifest("v1")))).toBe(await digestOf(largest));
      const larger = await manifestOf(repository, MANIFEST_MAX_BYTES + 1);
      const refused = await rawRequest(inject("registryUrl"), {
        ...request,
        target: `/v2/${repository.name}/manifests/v2`,
        body: larger,
      });
      await expectError(refused, 413, "MANIFEST_INVALID");
      expect((await repository.headManifest("v2")).status).toBe(404);
    },
  );

  test.each([60_000, 65_536, 70_000, 1_000_000])(
    "end-7a PUT manifest of %i bytes comes back byte for byte",
    async (length) => {
      const repository = freshRepository();
      const bytes = await manifestOf(repository, length);
      const { digest } = await repository.pushManifest(bytes);
      expect(await bodyOf(await repository.getManifest(digest))).toEqual(bytes);
      expect((await repository.headManifest(digest)).headers.get("Content-Length")).toBe(String(length));
    },
  );
});

describe("bytes", () => {
  test("end-7a PUT manifest: a byte order mark, line ends and invalid UTF-8 come back as they were sent, or are refused", async () => {
    const repository = freshRepository();
    const text = JSON.stringify(await imageIn(repository, { annotations: { a: "é\u0000😀" } }));
    const invalid = new Uint8Array([...utf8(text.slice(0, -1)), ...utf8(',"x":"'), 0xff, 0xc0, 0x80, ...utf8('"}')]);
    for (const bytes of [utf8(`\r\n${text}\r\n`), utf8(`${text}\n\n`), invalid]) {
      const digest = await digestOf(bytes);
      const response = await repository.putManifest(digest, bytes);
      expect(response.status).toBe(201);
      expect(await bodyOf(await repository.getManifest(digest))).toEqual(bytes);
    }
  });

  test("end-3 GET manifest: the stored type whatever Accept says", async () => {
    const repository = freshRepository();
    const bytes = bytesOf(await imageIn(repository));
    await repository.pushManifest(bytes, { reference: "v1" });
    for (const accept of ["text/html", dockerManifest, imageIndex, "*/*", ""]) {
      const response = await repository.getManifest("v1", { Accept: accept });
      expect(response.status).toBe(200);
      expect(response.headers.get("Content-Type")).toBe(imageManifest);
      expect(await bodyOf(response)).toEqual(bytes);
    }
  });
});

describe("kinds", () => {
  test("end-7a PUT manifest: Docker schema 2, and a list of it", async () => {
    const repository = freshRepository();
    const config = {
      ...(await repository.pushBlob(utf8('{"os":"linux"}'))),
      mediaType: "application/vnd.docker.container.image.v1+json",
    };
    const layer = {
      ...(await repository.pushBlob(randomBytes(99))),
      mediaType: "application/vnd.docker.image.rootfs.diff.tar.gzip",
    };
    const child = await repository.pushManifest({
      schemaVersion: 2,
      mediaType: dockerManifest,
      config,
      layers: [layer],
    });
    const platform = { architecture: "amd64", os: "linux" };
    await repository.pushManifest(
      { schemaVersion: 2, mediaType: dockerManifestList, manifests: [{ ...child, platform }] },
      { reference: "list" },
    );
    expect((await repository.getManifest("list")).headers.get("Content-Type")).toBe(dockerManifestList);
    expect((await repository.getManifest(child.digest)).headers.get("Content-Type")).toBe(dockerManifest);
  });

  test("end-7a PUT manifest: an index whose descriptors are layers (older build caches)", async () => {
    const repository = freshRepository();
    const layer = { ...(await repository.pushBlob(randomBytes(99))), mediaType: imageLayer };
    const config = { ...(await repository.pushBlob(utf8("{}"))), mediaType: "application/vnd.buildkit.cacheconfig.v0" };
    await repository.pushManifest(indexOf([layer, config]), { reference: "cache" });
    expect((await repository.headManifest("cache")).status).toBe(200);
  });

  test("end-7a PUT manifest: a type that nobody knows is stored, with a Warning", async () => {
    const repository = freshRepository();
    const mediaType = "application/vnd.example.unheard-of+json";
    const response = await repository.putManifest("v1", bytesOf({ mediaType, anything: [1, 2, 3] }), mediaType);
    expect(response.status).toBe(201);
    expect(response.headers.get("Warning")).toMatch(/^299 - "[^"]+"/);
    expect((await repository.getManifest("v1")).headers.get("Content-Type")).toBe(mediaType);
  });

  test("end-7a PUT manifest: what nothing speaks against has no Warning", async () => {
    const repository = freshRepository();
    const response = await repository.putManifest("v1", bytesOf(await imageIn(repository)));
    expect(response.headers.get("Warning")).toBeNull();
  });

  test.each([
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
  ])("end-7a PUT manifest: a layer of type %s need not be there", async (mediaType) => {
    const repository = freshRepository();
    const layer = { mediaType, digest: await unknownDigest(), size: 4711, urls: ["https://example.com/layer"] };
    await repository.pushManifest(await imageIn(repository, { layers: [layer] }));
  });
});

async function absent(mediaType: string): Promise<Descriptor> {
  return { mediaType, digest: await unknownDigest(), size: 32 };
}

describe("missing content", () => {
  test("end-7a PUT manifest: 404 MANIFEST_BLOB_UNKNOWN names every missing digest", async () => {
    const repository = freshRepository();
    const image = await imageIn(repository);
    const missing = [
      await absent(imageLayer),
      await absent(imageLayer),
      { ...(await absent(imageLayer)), urls: ["https://example.com"] },
    ];
    const config = await absent("application/vnd.oci.image.config.v1+json");
    const response = await repository.putManifest(
      "v1",
      bytesOf({ ...image, config, layers: [...image.layers, ...missing] }),
    );
    const errors = JSON.stringify(await expectError(response, 404, "MANIFEST_BLOB_UNKNOWN"));
    for (const { digest } of [config, ...missing]) expect(errors).toContain(digest);
    for (const { digest } of image.layers) expect(errors).not.toContain(digest);
    expect((await repository.headManifest("v1")).status).toBe(404);
  });

  test("end-7a PUT manifest: an index whose child is missing", async () => {
    const repository = freshRepository();
    const child = await absent(imageManifest);
    await repository.pushBlob(randomBytes(3));
    const response = await repository.putManifest("v1", bytesOf(indexOf([child])), imageIndex);
    expect(JSON.stringify(await expectError(response, 404, "MANIFEST_BLOB_UNKNOWN"))).toContain(child.digest);
  });

  test("end-7a PUT manifest: what only another repository has is missing", async () => {
    const [repository, other] = [freshRepository(), freshRepository()];
    const image = await imageIn(other);
    const response = await repository.putManifest("v1", bytesOf(image));
    await expectError(response, 404, "MANIFEST_BLOB_UNKNOWN");
  });

  test("end-7a PUT manifest: bytes that are there under sha256 are missing under sha512", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(77);
    await repository.pushBlob(bytes);
    const layer = { mediaType: imageLayer, digest: await digestOf(bytes, "sha512"), size: 77 };
    await expectError(
      await repository.putManifest("v1", bytesOf(await imageIn(repository, { layers: [layer] }))),
      404,
      "MANIFEST_BLOB_UNKNOWN",
    );
  });

  test("end-7a PUT manifest: a repository of ALLOW_SPARSE takes them, and each comes later", async () => {
    const repository = freshRepository(sparseRepositories);
    const image = await imageIn(repository);
    const layer = randomBytes(40);
    const child = bytesOf({ ...image, layers: [{ mediaType: imageLayer, digest: await digestOf(layer), size: 40 }] });
    const childDescriptor = { mediaType: imageManifest, digest: await digestOf(child), size: child.length };
    const index = await repository.pushManifest(indexOf([childDescriptor]), { reference: "sparse" });
    expect((await repository.getManifest(childDescriptor.digest)).status).toBe(404);
    await repository.pushManifest(child);
    expect((await repository.getBlob(await digestOf(layer))).status).toBe(404);
    await repository.pushBlob(layer);
    expect((await repository.headManifest("sparse")).headers.get("Docker-Content-Digest")).toBe(index.digest);
  });

  test("end-7a PUT manifest: the size of a subject is not looked at", async () => {
    const repository = freshRepository();
    const subject = await repository.pushManifest(await imageIn(repository));
    await repository.pushManifest(await imageIn(repository, { subject: { ...subject, size: subject.size + 7 } }));
  });
});

describe("tag parameters", () => {
  test.each(["sha256", "sha512"] as const)(
    "end-7b PUT manifest by digest (%s): 32 tags at once, each in OCI-Tag",
    async (algorithm) => {
      const repository = freshRepository();
      const bytes = bytesOf(await imageIn(repository));
      const digest = await digestOf(bytes, algorithm);
      const tags = Array.from({ length: 32 }, (_, index) => `t${String(index).padStart(2, "0")}`);
      const response = await repository.putManifest(digest, bytes, imageManifest, tags);
      expect(response.status).toBe(201);
      expect(
        (response.headers.get("OCI-Tag") ?? "")
          .split(",")
          .map((tag) => tag.trim())
          .toSorted(),
      ).toEqual(tags);
      for (const tag of tags)
        expect((await repository.headManifest(tag)).headers.get("Docker-Content-Digest")).toBe(digest);
      expect(await (await repository.listTags()).json()).toEqual({ name: repository.name, tags });
    },
  );

  test("end-7b PUT manifest by digest: 33 tags are 414, and nothing is stored", async () => {
    const repository = freshRepository();
    const bytes = bytesOf(await imageIn(repository));
    const digest = await digestOf(bytes);
    const tags = Array.from({ length: 33 }, (_, index) => `t${index}`);
    const response = await repository.putManifest(digest, bytes, imageManifest, tags);
    await expectError(response, 414, ["UNSUPPORTED", "MANIFEST_INVALID", "SIZE_INVALID"]);
    expect((await repository.headManifest(digest)).status).toBe(404);
  });

  test("end-7b PUT manifest by digest: bytes of another digest move no tag", async () => {
    const repository = freshRepository();
    const kept = await repository.pushManifest(await imageIn(repository), { reference: "a" });
    const response = await repository.putManifest(
      await unknownDigest(),
      bytesOf(await imageIn(repository)),
      imageManifest,
      ["a", "b"],
    );
    await expectError(response, 400, "DIGEST_INVALID");
    expect((await repository.headManifest("a")).headers.get("Docker-Content-Digest")).toBe(kept.digest);
    expect((await repository.headManifest("b")).status).toBe(404);
  });
});

describe("deletion keeps the graph right", () => {
  test("end-9 DELETE by tag: the manifest, and its other tags, stay", async () => {
    const repository = freshRepository();
    const image = await repository.pushManifest(await imageIn(repository), { reference: "a" });
    await repository.putManifest("b", await bodyOf(await repository.getManifest("a")));
    expect((await repository.deleteManifest("a")).status).toBe(202);
    expect((await repository.headManifest("b")).headers.get("Docker-Content-Digest")).toBe(image.digest);
    expect((await repository.deleteManifest("a")).status).toBe(404);
  });

  test("end-10 DELETE blob that a manifest names: 202, the manifest stays, and the blob is 404", async () => {
    const repository = freshRepository();
    const image = await imageIn(repository);
    await repository.pushManifest(image, { reference: "v1" });
    const layer = image.layers[0]?.digest ?? "";
    expect((await repository.deleteBlob(layer)).status).toBe(202);
    expect((await repository.getManifest("v1")).status).toBe(200);
    expect((await repository.getBlob(layer)).status).toBe(404);
  });

  test("end-9 DELETE manifest that an index names: 202, the index stays, and the child is 404", async () => {
    const repository = freshRepository();
    const child = await repository.pushManifest(await imageIn(repository));
    await repository.pushManifest(indexOf([child]), { reference: "index" });
    expect((await repository.deleteManifest(child.digest)).status).toBe(202);
    expect((await repository.getManifest("index")).status).toBe(200);
    expect((await repository.getManifest(child.digest)).status).toBe(404);
  });

  test("end-9 DELETE manifest: it can be pushed again at once, with its tags", async () => {
    const repository = freshRepository();
    const image = await imageIn(repository);
    const first = await repository.pushManifest(image, { reference: "v1" });
    expect((await repository.deleteManifest(first.digest)).status).toBe(202);
    await repository.pushManifest(image, { reference: "v1" });
    expect((await repository.headManifest("v1")).headers.get("Docker-Content-Digest")).toBe(first.digest);
  });
});
