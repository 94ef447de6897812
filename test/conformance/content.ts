import {
  type Bytes,
  type Descriptor,
  digestOf,
  imageIndex,
  imageManifest,
  type RepositoryClient,
  utf8,
} from "../support/client.ts";

export const imageConfig = "application/vnd.oci.image.config.v1+json";
export const imageLayer = "application/vnd.oci.image.layer.v1.tar+gzip";
export const emptyJson = "application/vnd.oci.empty.v1+json";

/** The repositories that the registry under test lets sparse manifests into: its ALLOW_SPARSE is `conformance-sparse/**`. */
export const sparseRepositories = "conformance-sparse";

/** Those that anybody may pull: its ANONYMOUS_PULL is `conformance-public/**`. */
export const publicRepositories = "conformance-public";

const GET_RANDOM_VALUES_MAX = 65_536;

/** Bytes that nobody has pushed before. */
export function randomBytes(length: number): Bytes {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += GET_RANDOM_VALUES_MAX) {
    crypto.getRandomValues(bytes.subarray(at, Math.min(length, at + GET_RANDOM_VALUES_MAX)));
  }
  return bytes;
}

/** A digest of content that nobody has. */
export function unknownDigest(algorithm: "sha256" | "sha512" = "sha256"): Promise<string> {
  return digestOf(randomBytes(32), algorithm);
}

export interface ImageManifest {
  readonly schemaVersion: 2;
  readonly mediaType: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly [field: string]: unknown;
}

export interface ImageIndex {
  readonly schemaVersion: 2;
  readonly mediaType: string;
  readonly manifests: readonly Descriptor[];
  readonly [field: string]: unknown;
}

/** An image manifest whose config and layer are in the repository; `fields` are added to it, or replace its own. */
export async function imageIn(
  repository: RepositoryClient,
  fields: Readonly<Record<string, unknown>> = {},
  algorithm: "sha256" | "sha512" = "sha256",
): Promise<ImageManifest> {
  const config = utf8(
    JSON.stringify({
      architecture: "amd64",
      os: "linux",
      rootfs: { type: "layers", diff_ids: [] },
      created: crypto.randomUUID(),
    }),
  );
  return {
    schemaVersion: 2,
    mediaType: imageManifest,
    config: await repository.pushBlob(config, { algorithm, mediaType: imageConfig }),
    layers: [await repository.pushBlob(randomBytes(512), { algorithm, mediaType: imageLayer })],
    ...fields,
  };
}

export function indexOf(manifests: readonly Descriptor[], fields: Readonly<Record<string, unknown>> = {}): ImageIndex {
  return { schemaVersion: 2, mediaType: imageIndex, manifests, ...fields };
}

/** The bytes of a manifest as they are pushed. */
export function bytesOf(manifest: object): Bytes {
  return utf8(JSON.stringify(manifest));
}

export async function bodyOf(response: Response): Promise<Bytes> {
  return new Uint8Array(await response.arrayBuffer());
}
