import { describe, expect, it } from "vitest";
import { parseDigest } from "../../../src/oci/digest.ts";
import type { ErrorCode } from "../../../src/oci/errors.ts";
import { parseManifest, referrerDescriptor } from "../../../src/oci/manifest.ts";
import {
  artifactManifest,
  dockerManifest,
  dockerManifestList,
  imageIndex,
  imageManifest,
} from "../../../src/oci/media-types.ts";
import { artifact, blob, type Fields, image, referrer } from "../../fixtures/artifacts.ts";
import { concatenate, randomBytes, unknownDigest } from "../../fixtures/content.ts";
import { refusalOf } from "../../fixtures/oci-errors.ts";
import { type Bytes, type Descriptor, utf8 } from "../../support/client.ts";

function json(value: unknown): Bytes {
  return utf8(JSON.stringify(value));
}

const layer = blob(randomBytes(8)).descriptor;
const config: Descriptor = { ...layer, digest: unknownDigest(), mediaType: "application/vnd.example.config" };
const good = { schemaVersion: 2, mediaType: imageManifest, config, layers: [layer] };

/** The good image with a layer that is wrong in one field. */
function withLayer(field: Fields): Bytes {
  return json({ ...good, layers: [layer, { ...layer, digest: unknownDigest(), ...field }] });
}

describe("a bad manifest is refused with its reason:", () => {
  it.each<[what: string, bytes: Bytes, contentType: string, code: ErrorCode, reason: string]>([
    ["nothing", utf8(""), imageManifest, "MANIFEST_INVALID", "not JSON"],
    ["not JSON", utf8("<html>"), imageManifest, "MANIFEST_INVALID", "not JSON"],
    ["JSON that breaks off", json(good).slice(0, -1), imageManifest, "MANIFEST_INVALID", "not JSON"],
    ["something after the JSON", utf8(`${JSON.stringify(good)}{}`), imageManifest, "MANIFEST_INVALID", "not JSON"],
    [
      "a byte order mark before the JSON",
      concatenate([new Uint8Array([0xef, 0xbb, 0xbf]), json(good)]),
      imageManifest,
      "MANIFEST_INVALID",
      "not JSON",
    ],
    ["a list", json([good]), imageManifest, "MANIFEST_INVALID", "JSON object"],
    ["null", json(null), imageManifest, "MANIFEST_INVALID", "JSON object"],
    ["a string", json("manifest"), imageManifest, "MANIFEST_INVALID", "JSON object"],
    [
      "arrays 10,000 deep",
      utf8("[".repeat(10_000) + "]".repeat(10_000)),
      imageManifest,
      "MANIFEST_INVALID",
      "nested more",
    ],
    [
      "objects 10,000 deep in a custom field",
      utf8(`{"x":${'{"x":'.repeat(10_000)}1${"}".repeat(10_001)}`),
      imageManifest,
      "MANIFEST_INVALID",
      "nested more",
    ],
    [
      "10,000 brackets that are never closed",
      utf8("[".repeat(10_000)),
      imageManifest,
      "MANIFEST_INVALID",
      "nested more",
    ],
    ["a Content-Type that contradicts mediaType", json(good), imageIndex, "MANIFEST_INVALID", "contradicts"],
    ["a mediaType that is no string", json({ ...good, mediaType: 7 }), "", "MANIFEST_INVALID", "mediaType"],
    [
      "a mediaType that is no media type",
      json({ ...good, mediaType: "image" }),
      "",
      "MANIFEST_INVALID",
      "type/subtype",
    ],
    ["a Content-Type that is no media type", json({ schemaVersion: 2 }), "image", "MANIFEST_INVALID", "type/subtype"],
    ["no type at all", json({ schemaVersion: 2 }), "", "MANIFEST_INVALID", "Content-Type"],
    [
      "Docker's schema 1",
      json({ schemaVersion: 1 }),
      "application/vnd.docker.distribution.manifest.v1+prettyjws",
      "MANIFEST_INVALID",
      "schema 1",
    ],
    ["another schemaVersion", json({ ...good, schemaVersion: 1 }), imageManifest, "MANIFEST_INVALID", "schemaVersion"],
    ["an image without config", json({ ...good, config: undefined }), imageManifest, "MANIFEST_INVALID", "config"],
    ["layers that are no list", json({ ...good, layers: layer }), imageManifest, "MANIFEST_INVALID", "layers"],
    ["an image that has manifests", json({ ...good, manifests: [] }), imageManifest, "MANIFEST_INVALID", "manifests"],
    [
      "an index that has layers",
      json({ ...good, mediaType: imageIndex, config: undefined }),
      imageIndex,
      "MANIFEST_INVALID",
      "layers",
    ],
    [
      "an index that has a config",
      json({ ...good, mediaType: imageIndex, layers: undefined }),
      imageIndex,
      "MANIFEST_INVALID",
      "config",
    ],
    ["a negative size", withLayer({ size: -1 }), imageManifest, "MANIFEST_INVALID", "layers.1.size: is negative"],
    [
      "a fractional size",
      withLayer({ size: 1.5 }),
      imageManifest,
      "MANIFEST_INVALID",
      "layers.1.size: is not a whole number",
    ],
    [
      "a size beyond what a number can tell",
      withLayer({ size: 2 ** 53 }),
      imageManifest,
      "MANIFEST_INVALID",
      "layers.1.size",
    ],
    ["a size as text", withLayer({ size: "8" }), imageManifest, "MANIFEST_INVALID", "layers.1.size"],
    ["no size", withLayer({ size: undefined }), imageManifest, "MANIFEST_INVALID", "layers.1.size"],
    [
      "a digest of an unknown algorithm",
      withLayer({ digest: `md5:${"a".repeat(32)}` }),
      imageManifest,
      "MANIFEST_INVALID",
      "layers.1.digest",
    ],
    [
      "a digest that is cut off",
      withLayer({ digest: layer.digest.slice(0, -1) }),
      imageManifest,
      "MANIFEST_INVALID",
      "layers.1.digest",
    ],
    [
      "an upper-case digest",
      withLayer({ digest: `sha256:${"A".repeat(64)}` }),
      imageManifest,
      "MANIFEST_INVALID",
      "layers.1.digest",
    ],
    [
      "a descriptor without mediaType",
      withLayer({ mediaType: undefined }),
      imageManifest,
      "MANIFEST_INVALID",
      "layers.1.mediaType",
    ],
    ["a descriptor that is null", json({ ...good, layers: [null] }), imageManifest, "MANIFEST_INVALID", "layers.0"],
    ["data that is not base64", withLayer({ data: "§" }), imageManifest, "MANIFEST_INVALID", "layers.1.data"],
    [
      "annotations that are no strings",
      json({ ...good, annotations: { a: 1 } }),
      imageManifest,
      "MANIFEST_INVALID",
      "annotations.a",
    ],
    [
      "a subject with a bad digest",
      json({ ...good, subject: { ...layer, digest: "x" } }),
      imageManifest,
      "MANIFEST_INVALID",
      "subject.digest",
    ],
    [
      "a child with a bad digest",
      json({ schemaVersion: 2, manifests: [{ ...layer, digest: "x" }] }),
      imageIndex,
      "MANIFEST_INVALID",
      "manifests.0.digest",
    ],
    [
      "one digest in two sizes",
      withLayer({ digest: layer.digest, size: 9 }),
      imageManifest,
      "SIZE_INVALID",
      "different sizes",
    ],
  ])("%s", (_what, bytes, contentType, code, reason) => {
    expect(refusalOf(() => parseManifest(bytes, contentType), code).detail.reason).toContain(reason);
  });
});

describe("a manifest", () => {
  it("is of the type of its header where it has no mediaType field, with a warning", () => {
    const { mediaType, warnings } = parseManifest(json({ ...good, mediaType: undefined }), dockerManifest);
    expect(mediaType).toBe(dockerManifest);
    expect(warnings.join()).toContain("mediaType");
  });

  it.each([
    [imageIndex, { schemaVersion: 2, manifests: [] }],
    [imageManifest, { ...good, mediaType: undefined }],
  ])("without any type is taken for %s by its fields", (mediaType, fields) => {
    expect(parseManifest(json(fields), "").mediaType).toBe(mediaType);
  });

  it("compares header and field without regard to case", () => {
    expect(
      parseManifest(json({ ...good, mediaType: imageManifest.toUpperCase() }), imageManifest).references,
    ).toHaveLength(2);
  });

  it("of a type that nobody knows is stored with a warning, and keeps what it names in known fields", () => {
    const { references, warnings } = parseManifest(
      json({ blobs: [layer], manifests: [config], layers: "many" }),
      "application/vnd.example+json",
    );
    expect(warnings.join()).toContain("application/vnd.example+json");
    expect(references.map(({ digest, kind }) => [digest, kind])).toEqual([
      [layer.digest, "blob"],
      [config.digest, "child"],
    ]);
  });

  it("that is not valid UTF-8 is read, has no text, and warns", () => {
    const bytes = json({ ...good, annotations: { note: "#" } });
    bytes[bytes.indexOf("#".charCodeAt(0))] = 0xff;
    const { text, references, warnings } = parseManifest(bytes, imageManifest);
    expect([text, references.length]).toEqual([null, 2]);
    expect(warnings.join()).toContain("UTF-8");
  });

  it("keeps its text exactly, spaces and custom fields and all", () => {
    const bytes = utf8(`\n${JSON.stringify({ custom: { "é\u2028": [1e3] }, ...good }, null, 3)}\t`);
    expect(utf8(parseManifest(bytes, imageManifest).text ?? "")).toEqual(bytes);
  });

  it("may nest as deep as any artifact does, with brackets in its strings", () => {
    const deep = `${"[".repeat(100)}${"]".repeat(100)}`;
    const bytes = utf8(`{"x":${deep},"y":${JSON.stringify('["\\'.repeat(10_000))},${JSON.stringify(good).slice(1)}`);
    expect(parseManifest(bytes, imageManifest).references).toHaveLength(2);
  });

  it("names each digest once, however often it does", () => {
    const bytes = json({ ...good, config: { ...layer, mediaType: "application/json" }, layers: [layer, layer, layer] });
    expect(parseManifest(bytes, imageManifest).references).toEqual([
      { digest: layer.digest, size: 8, kind: "blob", required: true },
    ]);
  });

  it.each([
    ["required", [layer]],
    [
      "required though once called foreign",
      [{ ...layer, mediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" }, layer],
    ],
    [
      "required though again called foreign",
      [layer, { ...layer, mediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar" }],
    ],
  ])("has a layer that is %s", (_what, layers) => {
    const { references } = parseManifest(json({ ...good, layers }), imageManifest);
    expect(references.find(({ digest }) => digest === layer.digest)?.required).toBe(true);
  });

  it("has a foreign layer that need not be there", () => {
    const foreign = { ...layer, mediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" };
    const { references } = parseManifest(json({ ...good, layers: [foreign] }), imageManifest);
    expect(references.map(({ required }) => required)).toEqual([true, false]);
  });

  it("takes null for absent where Go's encoder writes it", () => {
    const { references, subject } = parseManifest(json({ ...good, layers: null, subject: null }), imageManifest);
    expect([references.length, subject]).toEqual([1, null]);
  });
});

describe("an artifactType", () => {
  const kind = "application/vnd.example.kind";
  it.each<[string, string, Fields, string | null]>([
    ["is the manifest's own", imageManifest, { ...good, artifactType: kind }, kind],
    ["is the config's media type in an image without one", imageManifest, good, config.mediaType],
    [
      "is the config's media type in an image whose own is empty",
      imageManifest,
      { ...good, artifactType: "" },
      config.mediaType,
    ],
    ["is null in an index whose own is empty", imageIndex, { schemaVersion: 2, manifests: [], artifactType: "" }, null],
    ["is null in an index without one", imageIndex, { schemaVersion: 2, manifests: [layer] }, null],
    ["is the index's own", imageIndex, { schemaVersion: 2, manifests: [], artifactType: kind }, kind],
    ["is null in a manifest list", dockerManifestList, { schemaVersion: 2, manifests: [] }, null],
    ["is the artifact manifest's", artifactManifest, { artifactType: kind, blobs: [layer] }, kind],
  ])("%s", (_promise, mediaType, fields, expected) => {
    expect(parseManifest(json({ ...fields, mediaType }), mediaType).artifactType).toBe(expected);
  });
});

describe("a referrer's descriptor", () => {
  it("has what distribution-spec v1.1.1 end-12a lists", () => {
    const annotations = { "org.example": 'é "quoted"' };
    const { bytes, descriptor } = referrer(image().descriptor, { annotations });
    expect(
      JSON.parse(
        referrerDescriptor(parseManifest(bytes, imageManifest), parseDigest(descriptor.digest), descriptor.size),
      ),
    ).toEqual({
      ...descriptor,
      artifactType: "application/vnd.example.note.v1",
      annotations,
    });
  });

  it("has every annotation, whatever its key", () => {
    const annotations = '{"__proto__":"a","constructor":"b"}';
    const bytes = new TextEncoder().encode(`{"schemaVersion":2,"manifests":[],"annotations":${annotations}}`);
    const listed = referrerDescriptor(parseManifest(bytes, imageIndex), parseDigest(unknownDigest()), 1);
    expect(listed).toContain(annotations);
  });

  it("leaves out what the manifest has not", () => {
    const { bytes, descriptor } = artifact(imageIndex, { manifests: [] });
    expect(
      JSON.parse(referrerDescriptor(parseManifest(bytes, imageIndex), parseDigest(descriptor.digest), descriptor.size)),
    ).toEqual(descriptor);
  });
});
