import { describe, expect, it } from "vitest";
import {
  artifactManifest,
  dockerManifest,
  dockerManifestList,
  imageIndex,
  imageManifest,
  isMediaType,
  isNonDistributable,
  isSchema1,
  manifestKind,
  mediaTypeOfHeader,
} from "../../../src/oci/media-types.ts";

describe("a media type", () => {
  it.each([
    [imageManifest, "image"],
    [dockerManifest, "image"],
    [imageIndex, "index"],
    [dockerManifestList, "index"],
    [artifactManifest, "artifact"],
    ["application/vnd.example+json", "custom"],
  ])("%s is a manifest of kind %s", (mediaType, kind) => {
    expect(manifestKind(mediaType)).toBe(kind);
  });

  it.each(["a/b", "application/vnd.oci.image.manifest.v1+json", "A1/b!#$&^_.+-", `a/${"b".repeat(127)}`])(
    "%s has its form",
    (value) => {
      expect(isMediaType(value)).toBe(true);
    },
  );

  it.each(["", "a", "a/", "/b", "a/b/c", "a b/c", "a/b;c=d", ".a/b", "a/é", "a/b\n", `a/${"b".repeat(128)}`])(
    "%j has not",
    (value) => {
      expect(isMediaType(value)).toBe(false);
    },
  );

  it.each([
    [undefined, ""],
    ["", ""],
    ["a/b", "a/b"],
    ["Application/JSON; charset=utf-8", "application/json"],
    [" a/b ;x", "a/b"],
  ])("of the header %j is %j", (header, mediaType) => {
    expect(mediaTypeOfHeader(header)).toBe(mediaType);
  });

  it.each([
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
  ])("%s need not be in the registry", (mediaType) => {
    expect(isNonDistributable(mediaType)).toBe(true);
  });

  it.each([
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/foreign",
    "",
  ])("%s must be", (mediaType) => {
    expect(isNonDistributable(mediaType)).toBe(false);
  });

  it("of Docker's schema 1 is told from schema 2", () => {
    expect(isSchema1("application/vnd.docker.distribution.manifest.v1+json")).toBe(true);
    expect(isSchema1("application/vnd.docker.distribution.manifest.v1+prettyjws")).toBe(true);
    expect(isSchema1(dockerManifest)).toBe(false);
  });
});
