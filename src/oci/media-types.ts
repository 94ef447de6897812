/** What each media type means to the registry, in one place. Sources: image-spec v1.1.1, Docker's image manifest v2 schema 2. */

export const imageManifest = "application/vnd.oci.image.manifest.v1+json";
export const imageIndex = "application/vnd.oci.image.index.v1+json";
/** Of the 1.1 release candidates only; some SBOM tools still push it. Its content is in `blobs`. */
export const artifactManifest = "application/vnd.oci.artifact.manifest.v1+json";
export const dockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
export const dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json";
export const emptyJson = "application/vnd.oci.empty.v1+json";

/** The fields that a manifest of a kind must have; a `custom` one is read by whatever of them it has. */
export type ManifestKind = "image" | "index" | "artifact" | "custom";

const kinds: Readonly<Record<string, ManifestKind>> = {
  [imageManifest]: "image",
  [dockerManifest]: "image",
  [imageIndex]: "index",
  [dockerManifestList]: "index",
  [artifactManifest]: "artifact",
};

export function manifestKind(mediaType: string): ManifestKind {
  return kinds[mediaType] ?? "custom";
}

/** Docker's schema 1 names its layers in a form of its own, so the registry could not keep them from the collector. */
export function isSchema1(mediaType: string): boolean {
  return mediaType.startsWith("application/vnd.docker.distribution.manifest.v1+");
}

/** Layers that need not be in the registry (image-spec v1.1.1 «Non-distributable Layers»; Docker's foreign layers). */
export function isNonDistributable(mediaType: string): boolean {
  return (
    mediaType.startsWith("application/vnd.oci.image.layer.nondistributable.v1.") ||
    mediaType.startsWith("application/vnd.docker.image.rootfs.foreign.")
  );
}

/** RFC 6838 section 4.2: type "/" subtype, without parameters. */
export function isMediaType(value: string): boolean {
  return /^[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,126}\/[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,126}$/.test(value);
}

/** The media type of a Content-Type header without its parameters, in lower case; "" where there is none. */
export function mediaTypeOfHeader(header: string | undefined): string {
  return (header ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
}
