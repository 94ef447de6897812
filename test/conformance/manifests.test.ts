import { describe, expect, test } from "vitest";
import { digestOf, imageIndex, imageManifest, locationOf, utf8 } from "../support/client.ts";
import { bodyOf, bytesOf, emptyJson, imageIn, indexOf, randomBytes, unknownDigest } from "./content.ts";
import { expectDigestHeader } from "./digest-header.ts";
import { errorsOf, expectSpecError } from "./error-envelope.ts";
import { freshRepository } from "./registry-under-test.ts";

const LONG_MS = 60_000;

describe("push and pull", () => {
  test.each(["sha256", "sha512"] as const)(
    "end-7a PUT manifest by digest (%s): 201, and the same bytes come back",
    async (algorithm) => {
      const repository = freshRepository();
      const bytes = bytesOf(await imageIn(repository, {}, algorithm));
      const digest = await digestOf(bytes, algorithm);
      const put = await repository.putManifest(digest, bytes);
      expect(put.status).toBe(201);
      expect(put.headers.get("Docker-Content-Digest") ?? digest).toBe(digest);
      for (const target of [locationOf(put), `/v2/${repository.name}/manifests/${digest}`]) {
        const pulled = await repository.registry.request("GET", target, { headers: { Accept: imageManifest } });
        expect(pulled.status).toBe(200);
        expect(pulled.headers.get("Content-Type")).toBe(imageManifest);
        await expectDigestHeader(pulled, bytes);
        expect(await bodyOf(pulled)).toEqual(bytes);
      }
      const head = await repository.headManifest(digest);
      expect(head.status).toBe(200);
      expect(head.headers.get("Content-Type")).toBe(imageManifest);
      await expectDigestHeader(head, bytes);
      expect(head.headers.get("Content-Length")).toBe(String(bytes.length));
      expect(await bodyOf(head)).toHaveLength(0);
    },
  );

  test("end-7a PUT manifest by tag: GET and HEAD by the tag and by the digest answer the same", async () => {
    const repository = freshRepository();
    const bytes = bytesOf(await imageIn(repository));
    const digest = await digestOf(bytes);
    expect((await repository.putManifest("v1", bytes)).status).toBe(201);
    for (const reference of ["v1", digest]) {
      const pulled = await repository.getManifest(reference, { Accept: imageManifest });
      expect(pulled.status).toBe(200);
      await expectDigestHeader(pulled, bytes);
      expect(await bodyOf(pulled)).toEqual(bytes);
      const head = await repository.headManifest(reference);
      expect(head.status).toBe(200);
      expect(head.headers.get("Content-Length")).toBe(String(bytes.length));
    }
  });

  test("end-7a PUT manifest: stored byte for byte, odd spacing, key order and unknown fields too", async () => {
    const repository = freshRepository();
    const { config, layers } = await imageIn(repository);
    const text = `\n{ "x-custom" : [1.0, 1e3, "\\u00e9", "é"],\t"layers": ${JSON.stringify(layers)},
      "config": ${JSON.stringify(config)}, "mediaType": "${imageManifest}", "schemaVersion": 2 }\r\n`;
    const { digest } = await repository.pushManifest(utf8(text), { mediaType: imageManifest });
    expect(new TextDecoder().decode(await bodyOf(await repository.getManifest(digest)))).toBe(text);
  });

  test("end-7a PUT manifest: parameters of Content-Type are ignored, and none come back", async () => {
    const repository = freshRepository();
    const bytes = bytesOf(await imageIn(repository));
    expect((await repository.putManifest("v1", bytes, `${imageManifest}; charset=utf-8`)).status).toBe(201);
    expect((await repository.getManifest("v1", { Accept: imageManifest })).headers.get("Content-Type")).toBe(
      imageManifest,
    );
  });

  test("end-7a PUT manifest by tag: a tag moves, the earlier manifest stays under its digest", async () => {
    const repository = freshRepository();
    const first = await repository.pushManifest(await imageIn(repository), { reference: "latest" });
    const second = await repository.pushManifest(await imageIn(repository), { reference: "latest" });
    expect((await repository.headManifest("latest")).headers.get("Docker-Content-Digest")).toBe(second.digest);
    expect((await repository.headManifest(first.digest)).status).toBe(200);
  });

  test("end-3 GET manifest: 404 for an unknown tag, digest and repository", async () => {
    const repository = freshRepository();
    await repository.pushManifest(await imageIn(repository), { reference: "v1" });
    for (const reference of ["v2", await unknownDigest(), await unknownDigest("sha512")]) {
      await expectSpecError(await repository.getManifest(reference), [404], ["MANIFEST_UNKNOWN"]);
      expect((await repository.headManifest(reference)).status).toBe(404);
    }
    await expectSpecError(await freshRepository().getManifest("v1"), [404], ["MANIFEST_UNKNOWN", "NAME_UNKNOWN"]);
  });

  test("end-3 GET manifest: one of another repository is not in this one", async () => {
    const repository = freshRepository();
    const { digest } = await repository.pushManifest(await imageIn(repository));
    expect((await freshRepository().getManifest(digest)).status).toBe(404);
  });

  test("end-7a PUT manifest by digest: bytes of another digest are 400", async () => {
    const repository = freshRepository();
    const digest = await unknownDigest();
    const response = await repository.putManifest(digest, bytesOf(await imageIn(repository)));
    await expectSpecError(response, [400], ["DIGEST_INVALID"]);
    expect((await repository.headManifest(digest)).status).toBe(404);
  });

  test("end-7a PUT manifest: 4 MB are accepted («Pushing Manifests»)", { timeout: LONG_MS }, async () => {
    const repository = freshRepository();
    const empty = await imageIn(repository, { annotations: { filler: "" } });
    const bytes = bytesOf({ ...empty, annotations: { filler: "a".repeat(4_000_000 - bytesOf(empty).length) } });
    expect(bytes).toHaveLength(4_000_000);
    const { digest } = await repository.pushManifest(bytes, { mediaType: imageManifest });
    expect(await digestOf(await bodyOf(await repository.getManifest(digest)))).toBe(digest);
  });

  test("end-7a PUT manifest: what is refused for missing content is MANIFEST_BLOB_UNKNOWN", async (context) => {
    const repository = freshRepository();
    const image = await imageIn(repository);
    const digest = await unknownDigest();
    const layers = [...image.layers, { mediaType: emptyJson, digest, size: 32 }];
    const response = await repository.putManifest("v1", bytesOf({ ...image, layers }));
    context.skip(response.status === 201, "this registry accepts sparse manifests, as the spec lets it");
    expect(response.status).toBeGreaterThanOrEqual(400);
    expect((await errorsOf(response)).map((error) => error.code)).toContain("MANIFEST_BLOB_UNKNOWN");
  });
});

describe("tag parameters (main)", () => {
  test("end-7b PUT manifest by digest with ten tags: each one that OCI-Tag names is there", async (context) => {
    const repository = freshRepository();
    const bytes = bytesOf(await imageIn(repository));
    const digest = await digestOf(bytes);
    const tags = Array.from({ length: 10 }, (_, index) => `1.${index}`);
    const response = await repository.putManifest(digest, bytes, imageManifest, tags);
    expect(response.status).toBe(201);
    const accepted = (response.headers.get("OCI-Tag") ?? "").split(",").map((tag) => tag.trim());
    context.skip(accepted[0] === "", "this registry has no tag parameters, as the spec lets it");
    expect(accepted.toSorted()).toEqual(tags);
    for (const tag of tags) {
      expect((await repository.headManifest(tag)).headers.get("Docker-Content-Digest")).toBe(digest);
    }
  });
});

describe("kinds of manifests", () => {
  test("end-7a PUT manifest: an index of images, and an index of indexes", async () => {
    const repository = freshRepository();
    const platform = { os: "linux", architecture: "arm64" };
    const children = [
      await repository.pushManifest(await imageIn(repository)),
      await repository.pushManifest(await imageIn(repository)),
    ];
    const inner = await repository.pushManifest(indexOf(children.map((child) => ({ ...child, platform }))));
    const outer = await repository.pushManifest(indexOf([inner]), { reference: "multi" });
    const pulled = await repository.getManifest("multi", { Accept: imageIndex });
    expect(pulled.headers.get("Content-Type")).toBe(imageIndex);
    expect(pulled.headers.get("Docker-Content-Digest")).toBe(outer.digest);
  });

  test("end-7a PUT manifest: an empty index and an image without layers", async () => {
    const repository = freshRepository();
    await repository.pushManifest(indexOf([]));
    await repository.pushManifest(await imageIn(repository, { layers: [] }));
  });

  test("end-7a PUT manifest: an artifact, whose config is the empty JSON", async () => {
    const repository = freshRepository();
    const config = await repository.pushBlob(utf8("{}"), { mediaType: emptyJson });
    const layer = await repository.pushBlob(randomBytes(33), { mediaType: "application/vnd.example.thing" });
    const artifact = { config, layers: [layer], artifactType: "application/vnd.example.artifact" };
    await repository.pushManifest(await imageIn(repository, artifact), { reference: "artifact" });
    expect((await repository.headManifest("artifact")).status).toBe(200);
  });

  test("end-7a PUT manifest: descriptors with data, layers that are not distributed", async () => {
    const repository = freshRepository();
    const content = utf8("{}");
    const config = { ...(await repository.pushBlob(content)), mediaType: emptyJson, data: "e30=" };
    const foreign = {
      mediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
      digest: await unknownDigest(),
      size: 123_456,
      urls: ["https://example.com/layer"],
    };
    await repository.pushManifest(await imageIn(repository, { config, layers: [foreign] }));
  });
});

describe("deletion", () => {
  test("end-9 DELETE manifest by tag: 202, the tag is gone, the manifest stays", async (context) => {
    const repository = freshRepository();
    const { digest } = await repository.pushManifest(await imageIn(repository), { reference: "v1" });
    const response = await repository.deleteManifest("v1");
    context.skip(response.status === 405 || response.status === 400, "deletion of tags is disabled in this registry");
    expect(response.status).toBe(202);
    expect((await repository.getManifest("v1")).status).toBe(404);
    expect((await repository.headManifest(digest)).status).toBe(200);
  });

  test.each(["sha256", "sha512"] as const)(
    "end-9 DELETE manifest by digest (%s): 202, and its tags are gone with it",
    async (algorithm) => {
      const repository = freshRepository();
      const bytes = bytesOf(await imageIn(repository));
      const digest = await digestOf(bytes, algorithm);
      expect((await repository.putManifest(digest, bytes, imageManifest, ["a", "b"])).status).toBe(201);
      expect((await repository.deleteManifest(digest)).status).toBe(202);
      for (const reference of [digest, "a", "b"]) {
        expect((await repository.getManifest(reference)).status).toBe(404);
        expect((await repository.headManifest(reference)).status).toBe(404);
      }
    },
  );

  test("end-9 DELETE manifest: 404 for an unknown one, and in an unknown repository", async () => {
    const repository = freshRepository();
    await repository.pushManifest(await imageIn(repository));
    await expectSpecError(await repository.deleteManifest(await unknownDigest()), [404], ["MANIFEST_UNKNOWN"]);
    const elsewhere = await freshRepository().deleteManifest(await unknownDigest());
    await expectSpecError(elsewhere, [404], ["MANIFEST_UNKNOWN", "NAME_UNKNOWN"]);
  });
});
