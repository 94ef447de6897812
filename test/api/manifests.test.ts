import { describe, expect, it } from "vitest";
import { MANIFEST_INLINE_MAX_BYTES, MANIFEST_MAX_BYTES, TAGS_PER_PUT_MAX } from "../../src/limits.ts";
import { type Artifact, artifact, image, index, push, referrer } from "../fixtures/artifacts.ts";
import { bodyOf, digest, randomBytes, sameBytes, streamOf, unknownDigest } from "../fixtures/content.ts";
import { freshRepository, serve, streamed } from "../fixtures/registry.ts";
import { count, objectsMadeBy } from "../fixtures/storage.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { type Bytes, dockerManifest, dockerManifestList, imageIndex, imageManifest, utf8 } from "../support/client.ts";

/** An index without children that is as long as is wanted. */
function manifestOf(length: number): Bytes {
  const empty = JSON.stringify({
    schemaVersion: 2,
    mediaType: imageIndex,
    manifests: [],
    annotations: { made: crypto.randomUUID(), filling: "" },
  });
  return utf8(`${empty.slice(0, -3)}${"x".repeat(length - empty.length)}"}}`);
}

async function expectPulled(
  response: Response,
  { bytes, descriptor }: Pick<Artifact, "bytes" | "descriptor">,
): Promise<void> {
  expect(response.status).toBe(200);
  expect(Object.fromEntries(response.headers)).toMatchObject({
    "content-type": descriptor.mediaType,
    "content-length": String(bytes.byteLength),
    "docker-content-digest": descriptor.digest,
    etag: `"${descriptor.digest}"`,
  });
  const body = await bodyOf(response);
  expect(sameBytes(body, bytes)).toBe(true);
}

describe("end-7 PUT, end-3 GET and HEAD manifest", () => {
  it.each(["sha256", "sha512"] as const)(
    "by %s digest: bytes and media type come back, whatever Accept says",
    async (algorithm) => {
      const repository = freshRepository();
      const pushed = await push(repository, image({ algorithm }));
      for (const accept of ["*/*", imageIndex, "text/html", "application/vnd.oci.image.manifest.v1+json;q=0", ""]) {
        await expectPulled(await repository.getManifest(pushed.descriptor.digest, { Accept: accept }), pushed);
      }
      const other = digest(pushed.bytes, algorithm === "sha256" ? "sha512" : "sha256");
      expect((await repository.headManifest(other)).status).toBe(404);
    },
  );

  it("by tag: it is there by tag and by its sha256 digest", async () => {
    const repository = freshRepository();
    const pushed = image();
    for (const { bytes } of pushed.blobs) await repository.pushBlob(bytes);
    const response = await repository.putManifest("v1.0", pushed.bytes);
    expect(response.status).toBe(201);
    expect(response.headers.get("Location")).toBe(`/v2/${repository.name}/manifests/${pushed.descriptor.digest}`);
    expect(response.headers.get("Docker-Content-Digest")).toBe(pushed.descriptor.digest);
    for (const reference of ["v1.0", pushed.descriptor.digest])
      await expectPulled(await repository.getManifest(reference), pushed);
  });

  it.each(["v1.0", "the digest"])("HEAD by %s says what GET does, without a body", async (reference) => {
    const repository = freshRepository();
    const pushed = await push(repository, image(), "v1.0");
    const named = reference === "v1.0" ? reference : pushed.descriptor.digest;
    const [head, get] = [await repository.headManifest(named), await repository.getManifest(named)];
    expect(head.status).toBe(200);
    expect((await head.arrayBuffer()).byteLength).toBe(0);
    for (const name of ["Content-Type", "Content-Length", "Docker-Content-Digest", "ETag"])
      expect(head.headers.get(name)).toBe(get.headers.get(name));
  });

  it.each([imageManifest, imageIndex, dockerManifest, dockerManifestList, "application/vnd.example.custom+json"])(
    "%s is stored as it is",
    async (mediaType) => {
      const repository = freshRepository();
      const { blobs, descriptor } = await push(repository, image());
      const isIndex = mediaType === imageIndex || mediaType === dockerManifestList;
      const fields = isIndex
        ? { manifests: [descriptor] }
        : { config: blobs[0]?.descriptor, layers: [blobs[1]?.descriptor] };
      const pushed = artifact(mediaType, { ...fields, "x.custom": [{ any: null }] });
      await expectPulled(await repository.getManifest((await push(repository, pushed)).descriptor.digest), pushed);
    },
  );

  it("index inside index inside index, artifacts without layers, with data fields", async () => {
    const repository = freshRepository();
    const inner = await push(repository, image({ layers: [], fields: { artifactType: "application/vnd.example.a" } }));
    const middle = await push(repository, index([inner.descriptor]));
    const outer = await push(repository, index([middle.descriptor, inner.descriptor]), "outer");
    await expectPulled(await repository.getManifest("outer"), outer);
    const [config] = inner.blobs;
    const data = { ...config?.descriptor, data: btoa(new TextDecoder().decode(config?.bytes)) };
    const withData = artifact(imageManifest, { config: data, layers: [] }, inner.blobs);
    await expectPulled(await repository.getManifest((await push(repository, withData)).descriptor.digest), withData);
  });

  it("bytes that are not valid UTF-8 come back byte for byte, by way of R2", async () => {
    const repository = freshRepository();
    const bytes = manifestOf(1000);
    bytes.set([0xff, 0xc0, 0x80, 0xed, 0xa0, 0x80], bytes.length - 20);
    const pushed = {
      bytes,
      blobs: [],
      descriptor: { mediaType: imageIndex, digest: digest(bytes), size: bytes.length },
    };
    const made = await objectsMadeBy(async () => push(repository, pushed, "odd"));
    expect(made.map((key) => key.slice(0, 10))).toEqual(["manifests/"]);
    await expectPulled(await repository.getManifest("odd"), pushed);
    expect((await repository.putManifest("odd", bytes, imageIndex)).headers.get("Warning")).toContain("UTF-8");
  });

  it.each([
    [MANIFEST_INLINE_MAX_BYTES, 0],
    [MANIFEST_INLINE_MAX_BYTES + 1, 1],
    [MANIFEST_MAX_BYTES, 1],
  ])("of %i bytes is taken, with %i objects in R2, however it is sent", async (length, objects) => {
    const repository = freshRepository();
    const bytes = manifestOf(length);
    const pushed = { bytes, descriptor: { mediaType: imageIndex, digest: digest(bytes), size: length } };
    const made = await objectsMadeBy(async () => {
      expect((await repository.putManifest("large", bytes, imageIndex)).status).toBe(201);
    });
    expect(made).toHaveLength(objects);
    await expectPulled(await repository.getManifest("large"), pushed);
    const request = streamed("PUT", `/v2/${repository.name}/manifests/streamed`, streamOf(bytes, 1000), {
      "Content-Type": imageIndex,
    });
    expect((await serve(request)).status).toBe(201);
    await expectPulled(await repository.getManifest("streamed"), pushed);
  });

  it("of one byte more than 4 MiB is refused with 413 and a JSON body, however it is sent", async () => {
    const repository = freshRepository();
    const bytes = manifestOf(MANIFEST_MAX_BYTES + 1);
    const made = await objectsMadeBy(async () => {
      await expectError(await repository.putManifest("large", bytes, imageIndex), 413, "MANIFEST_INVALID");
      const request = streamed("PUT", `/v2/${repository.name}/manifests/large`, streamOf(bytes), {
        "Content-Type": imageIndex,
      });
      await expectError(await serve(request), 413, "MANIFEST_INVALID");
    });
    expect(made).toEqual([]);
    expect((await repository.headManifest("large")).status).toBe(404);
  });

  it("again, under another tag and media type, keeps one row", async () => {
    const repository = freshRepository();
    const bytes = utf8(JSON.stringify({ schemaVersion: 2, manifests: [] }));
    for (const [tag, mediaType] of [
      ["a", imageIndex],
      ["b", dockerManifestList],
    ] as const) {
      const response = await repository.putManifest(tag, bytes, mediaType);
      expect([response.status, response.headers.get("Warning")]).toEqual([201, expect.stringContaining("mediaType")]);
    }
    // One digest, one media type: the last one that was said.
    expect((await repository.headManifest("a")).headers.get("Content-Type")).toBe(dockerManifestList);
  });

  it("ETag: If-None-Match is answered 304, by tag and by digest, on GET and HEAD", async () => {
    const repository = freshRepository();
    const { descriptor } = await push(repository, image(), "v1");
    const headers = { "If-None-Match": `"${descriptor.digest}"` };
    for (const reference of ["v1", descriptor.digest]) {
      for (const response of [
        await repository.getManifest(reference, headers),
        await repository.headManifest(reference, headers),
      ]) {
        expect([response.status, response.headers.get("ETag"), await response.text()]).toEqual([
          304,
          `"${descriptor.digest}"`,
          "",
        ]);
      }
      expect((await repository.getManifest(reference, { "If-None-Match": `"${unknownDigest()}"` })).status).toBe(200);
    }
  });

  it.each(["latest", "x".repeat(129), ".hidden", unknownDigest()])(
    "a pull of %s that is not there is a 404",
    async (reference) => {
      const repository = freshRepository();
      await push(repository, image(), "v1");
      await expectError(await repository.getManifest(reference), 404, "MANIFEST_UNKNOWN");
      expect((await repository.headManifest(reference)).status).toBe(404);
      await expectError(await freshRepository().getManifest(reference), 404, ["MANIFEST_UNKNOWN", "NAME_UNKNOWN"]);
    },
  );
});

describe("end-7 PUT manifest is refused, and leaves nothing,", () => {
  it.each<
    [what: string, status: number, code: "DIGEST_INVALID" | "MANIFEST_INVALID", reference: (named: string) => string]
  >([
    ["under another digest", 400, "DIGEST_INVALID", () => unknownDigest()],
    ["under another sha512 digest", 400, "DIGEST_INVALID", () => unknownDigest("sha512")],
    ["under a digest that is malformed", 400, "DIGEST_INVALID", (named) => named.slice(0, -1)],
    ["under a digest of an unknown algorithm", 400, "DIGEST_INVALID", () => `md5:${"a".repeat(32)}`],
    ["under a malformed tag", 400, "MANIFEST_INVALID", () => "-x"],
    ["under a tag of 129 characters", 400, "MANIFEST_INVALID", () => "x".repeat(129)],
  ])("%s", async (_what, status, code, reference) => {
    const repository = freshRepository();
    const pushed = image();
    for (const { bytes } of pushed.blobs) await repository.pushBlob(bytes);
    await expectError(await repository.putManifest(reference(pushed.descriptor.digest), pushed.bytes), status, code);
    expect((await repository.headManifest(pushed.descriptor.digest)).status).toBe(404);
  });

  it("where it is no manifest, with the reason", async () => {
    const repository = freshRepository();
    for (const body of ["", "no json", "[]", `${"[".repeat(10_000)}${"]".repeat(10_000)}`]) {
      await expectError(await repository.putManifest("latest", body), 400, "MANIFEST_INVALID");
    }
    await expectError(await repository.putManifest("latest", manifestOf(300), imageManifest), 400, "MANIFEST_INVALID");
    expect(await count("SELECT count(*) AS count FROM repositories WHERE name = ?1", repository.name)).toBe(0);
  });

  it("where its artifactType is longer than D1 takes a value", async () => {
    const repository = freshRepository();
    const pushed = image({ fields: { artifactType: `application/${"x".repeat(2_500_000)}` } });
    for (const { bytes } of pushed.blobs) await repository.pushBlob(bytes);
    await expectError(await repository.putManifest("latest", pushed.bytes), 400, "MANIFEST_INVALID");
  });
});

describe("end-7b PUT manifest with tag parameters", () => {
  it(`sets up to ${String(TAGS_PER_PUT_MAX)} tags, and names each in OCI-Tag`, async () => {
    const repository = freshRepository();
    const pushed = image();
    for (const { bytes } of pushed.blobs) await repository.pushBlob(bytes);
    const tags = Array.from({ length: TAGS_PER_PUT_MAX }, (_, at) => `t${String(at)}`);
    const response = await repository.putManifest(pushed.descriptor.digest, pushed.bytes, imageManifest, tags);
    expect(response.status).toBe(201);
    expect(response.headers.get("OCI-Tag")?.split(", ")).toEqual(tags);
    for (const tag of tags)
      expect((await repository.headManifest(tag)).headers.get("Docker-Content-Digest")).toBe(pushed.descriptor.digest);
  });

  it("by tag sets the others too, and names those in OCI-Tag", async () => {
    const repository = freshRepository();
    const pushed = image();
    for (const { bytes } of pushed.blobs) await repository.pushBlob(bytes);
    const response = await repository.putManifest("one", pushed.bytes, imageManifest, ["two", "one", "three"]);
    expect(response.headers.get("OCI-Tag")?.split(", ")).toEqual(["two", "three"]);
    for (const tag of ["one", "two", "three"]) expect((await repository.headManifest(tag)).status).toBe(200);
  });

  it("with one more is refused with 414, and sets none", async () => {
    const repository = freshRepository();
    const pushed = image();
    for (const { bytes } of pushed.blobs) await repository.pushBlob(bytes);
    const tags = Array.from({ length: TAGS_PER_PUT_MAX + 1 }, (_, at) => `t${String(at)}`);
    await expectError(
      await repository.putManifest(pushed.descriptor.digest, pushed.bytes, imageManifest, tags),
      414,
      "MANIFEST_INVALID",
    );
    expect((await repository.headManifest("t0")).status).toBe(404);
    expect((await repository.headManifest(pushed.descriptor.digest)).status).toBe(404);
  });

  it("with one that is malformed is refused, and sets none", async () => {
    const repository = freshRepository();
    const pushed = await push(repository, image());
    await expectError(
      await repository.putManifest(pushed.descriptor.digest, pushed.bytes, imageManifest, ["good", "-bad"]),
      400,
      "MANIFEST_INVALID",
    );
    expect((await repository.headManifest("good")).status).toBe(404);
  });
});

describe("end-7 PUT manifest with a subject", () => {
  it("says OCI-Subject, also where the subject is not there yet, and without one says none", async () => {
    const repository = freshRepository();
    const subject = { mediaType: imageManifest, digest: unknownDigest(), size: 5 };
    const pushed = referrer(subject);
    for (const { bytes } of pushed.blobs) await repository.pushBlob(bytes);
    expect((await repository.putManifest("note", pushed.bytes)).headers.get("OCI-Subject")).toBe(subject.digest);
    const plain = await push(repository, image({ layers: [] }));
    expect((await repository.putManifest("plain", plain.bytes)).headers.get("OCI-Subject")).toBeNull();
  });

  it("takes a random manifest that nobody understands as what it is", async () => {
    const repository = freshRepository();
    const bytes = utf8(JSON.stringify({ any: [...randomBytes(10)] }));
    const response = await repository.putManifest("x", bytes, "application/vnd.example+json");
    expect([response.status, response.headers.get("Warning")]).toEqual([201, expect.stringMatching(/^299 - ".*"$/)]);
  });
});
