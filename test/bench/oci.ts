/** What the bench says to any registry, request by request, as distribution-spec v1.1.1 has it. */
import { createHash, randomBytes } from "node:crypto";
import type { Client } from "./client.ts";

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  /** bytes */
  readonly size: number;
}

export const octetStream = "application/octet-stream";
export const imageManifest = "application/vnd.oci.image.manifest.v1+json";
const layerType = "application/vnd.oci.image.layer.v1.tar+gzip";
const configType = "application/vnd.oci.image.config.v1+json";

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

export function layerOf(bytes: Uint8Array): Descriptor {
  return { mediaType: layerType, digest: digestOf(bytes), size: bytes.byteLength };
}

export function configOf(bytes: Uint8Array): Descriptor {
  return { mediaType: configType, digest: digestOf(bytes), size: bytes.byteLength };
}

/** end-4a; answers where the upload goes on. */
export async function beginUpload(client: Client, repository: string): Promise<string> {
  const { headers } = await client.request({ method: "POST", path: `/v2/${repository}/blobs/uploads/`, expect: [202] });
  return locationOf(headers.location);
}

/** end-5, without a length where `contentLength` is not given, as docker does. */
export async function appendChunk(
  client: Client,
  location: string,
  body: Uint8Array | Iterable<Uint8Array>,
  range?: { readonly start: number; readonly length: number },
): Promise<string> {
  const { headers } = await client.request({
    method: "PATCH",
    path: location,
    headers: {
      "content-type": octetStream,
      ...(range === undefined
        ? {}
        : {
            "content-length": String(range.length),
            "content-range": `${String(range.start)}-${String(range.start + range.length - 1)}`,
          }),
    },
    body,
    expect: [202, 204],
  });
  return locationOf(headers.location);
}

/** end-6, with the whole blob or without bytes. */
export async function finishUpload(
  client: Client,
  location: string,
  digest: string,
  body: { readonly bytes: Uint8Array | Iterable<Uint8Array>; readonly length: number } | null,
): Promise<void> {
  const parameter = `${location.includes("?") ? "&" : "?"}digest=${encodeURIComponent(digest)}`;
  await client.request({
    method: "PUT",
    path: `${location}${parameter}`,
    headers: { "content-type": octetStream, "content-length": String(body?.length ?? 0) },
    ...(body === null ? {} : { body: body.bytes }),
    expect: [201, 204],
  });
}

/** POST, then PUT. */
export async function pushBlob(
  client: Client,
  repository: string,
  bytes: Uint8Array,
  digest = digestOf(bytes),
): Promise<void> {
  const location = await beginUpload(client, repository);
  await finishUpload(client, location, digest, { bytes, length: bytes.byteLength });
}

/** end-7a */
export async function putManifest(
  client: Client,
  repository: string,
  reference: string,
  manifest: Uint8Array,
): Promise<void> {
  await client.request({
    method: "PUT",
    path: `/v2/${repository}/manifests/${reference}`,
    headers: { "content-type": imageManifest, "content-length": String(manifest.byteLength) },
    body: manifest,
    expect: [201],
  });
}

export interface ImageManifest {
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** @param paddedTo bytes that an annotation fills it up to */
export function imageManifestOf(manifest: ImageManifest, paddedTo = 0): Uint8Array {
  const print = (padding: string): Uint8Array =>
    new TextEncoder().encode(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: imageManifest,
        ...manifest,
        annotations: { ...manifest.annotations, ...(paddedTo === 0 ? {} : { padding }) },
      }),
    );
  const missing = paddedTo - print("").byteLength;
  return print("x".repeat(Math.max(0, missing)));
}

export function randomText(): string {
  return randomBytes(8).toString("hex");
}

function locationOf(header: string | undefined): string {
  if (header === undefined) throw new Error("an answer without a Location");
  return header;
}
