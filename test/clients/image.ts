import { randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { z } from "zod";
import { digestOf, imageIndex, imageManifest, utf8 } from "../support/client.ts";
import type { Bytes, Descriptor, DigestAlgorithm } from "../support/client.ts";
import { tar } from "./tar.ts";

/** A descriptor together with what it describes. */
export interface Content {
  readonly descriptor: Descriptor;
  readonly bytes: Bytes;
}

export interface Layer extends Content {
  /** digest of the layer before compression, image-spec v1.1.1 «Layer DiffID» */
  readonly diffId: string;
  readonly archive: Bytes;
}

/** A manifest with everything under it: what a push has to bring to a registry. */
export interface Graph extends Content {
  readonly children: readonly Graph[];
  readonly blobs: readonly Content[];
}

/** An index and its images. */
export interface Index extends Graph {
  readonly children: readonly Image[];
}

export interface Image extends Graph {
  readonly config: Content;
  readonly layers: readonly Layer[];
}

export interface ImageOptions {
  /** size of the file in each layer, bytes; three small ones by default */
  readonly layerBytes?: readonly number[];
  readonly layers?: readonly Layer[];
  readonly algorithm?: DigestAlgorithm;
  readonly architecture?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

export const imageConfig = "application/vnd.oci.image.config.v1+json";
export const tarLayer = "application/vnd.oci.image.layer.v1.tar";
export const MiB = 1024 * 1024;

export async function content(
  bytes: Bytes,
  mediaType: string,
  algorithm: DigestAlgorithm = "sha256",
): Promise<Content> {
  return { descriptor: { mediaType, digest: await digestOf(bytes, algorithm), size: bytes.length }, bytes };
}

/** A gzipped layer with one file of random bytes: no two are alike, so each has to be uploaded. */
export async function layer(fileBytes: number, algorithm: DigestAlgorithm = "sha256"): Promise<Layer> {
  const id = randomBytes(8).toString("hex");
  const archive = tar([
    { name: `${id}.txt`, content: utf8(`layer ${id}\n`) },
    { name: `${id}.bin`, content: randomBytes(fileBytes) },
  ]);
  // Random bytes don't get smaller: a stream that only stores them is as valid, and there much sooner.
  const compressed = gzipSync(archive, { level: 0 });
  return {
    ...(await content(compressed, `${tarLayer}+gzip`, algorithm)),
    archive,
    diffId: await digestOf(archive),
  };
}

/** An OCI image of random layers, for linux/amd64 if nothing else is said. */
export async function image(options: ImageOptions = {}): Promise<Image> {
  const { algorithm = "sha256", architecture = "amd64", layerBytes = [1000, 20_000, 300_000] } = options;
  const layers = [...(options.layers ?? [])];
  if (options.layers === undefined) for (const size of layerBytes) layers.push(await layer(size, algorithm));
  const config = await content(
    utf8(
      JSON.stringify({
        created: "2000-01-01T00:00:00Z",
        architecture,
        os: "linux",
        config: { Labels: { test: "moorage" }, Cmd: ["/none"] },
        rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
        history: layers.map(() => ({ created: "2000-01-01T00:00:00Z", created_by: "test" })),
      }),
    ),
    imageConfig,
    algorithm,
  );
  const manifest = {
    schemaVersion: 2,
    mediaType: imageManifest,
    config: config.descriptor,
    layers: layers.map(({ descriptor }) => descriptor),
    ...(options.annotations === undefined ? {} : { annotations: options.annotations }),
  };
  const written = await content(utf8(JSON.stringify(manifest)), imageManifest, algorithm);
  return { ...written, config, layers, blobs: [config, ...layers], children: [] };
}

/** An OCI index of images for several architectures. */
export async function multiArchitecture(architectures: readonly string[] = ["amd64", "arm64"]): Promise<Index> {
  const children: Image[] = [];
  const manifests: object[] = [];
  for (const architecture of architectures) {
    const child = await image({ architecture });
    children.push(child);
    manifests.push({ ...child.descriptor, platform: { os: "linux", architecture } });
  }
  const bytes = utf8(JSON.stringify({ schemaVersion: 2, mediaType: imageIndex, manifests }));
  return { ...(await content(bytes, imageIndex)), children, blobs: [] };
}

/** Images that share their first layer: pushed at once, all of them want to upload it. */
export async function imagesSharingALayer(count = 6): Promise<Image[]> {
  const shared = await layer(3 * MiB);
  const images: Image[] = [];
  for (let made = 0; made < count; made++) images.push(await image({ layers: [shared, await layer(MiB)] }));
  return images;
}

/** Writes an image layout (image-spec v1.1.1 «OCI Image Layout Specification») with the graph under one tag. */
export async function writeLayout(folder: string, graph: Graph, tag = "latest"): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  const entry = { ...graph.descriptor, annotations: { "org.opencontainers.image.ref.name": tag } };
  await writeFile(
    join(folder, "index.json"),
    JSON.stringify({ schemaVersion: 2, mediaType: imageIndex, manifests: [entry] }),
  );
  for (const each of contentsOf(graph)) {
    const path = layoutPath(folder, each.descriptor.digest);
    await mkdir(join(path, ".."), { recursive: true });
    await writeFile(path, each.bytes);
  }
}

/** Writes an archive that `docker load` and `crane push` read. */
export async function writeDockerArchive(path: string, { config, layers }: Image, name: string): Promise<void> {
  const configName = `${encodedPart(config.descriptor.digest)}.json`;
  const layerNames = layers.map(({ diffId }) => `${encodedPart(diffId)}.tar`);
  const manifest = [{ Config: configName, RepoTags: [name], Layers: layerNames }];
  const files = layers.map(({ diffId, archive }) => ({ name: `${encodedPart(diffId)}.tar`, content: archive }));
  await writeFile(
    path,
    tar([
      { name: "manifest.json", content: utf8(JSON.stringify(manifest)) },
      { name: configName, content: config.bytes },
      ...files,
    ]),
  );
}

/** The digests of the manifests that an image layout names at its top. */
export async function readLayoutIndex(folder: string): Promise<string[]> {
  const text = await readFile(join(folder, "index.json"), "utf8");
  const { manifests } = z.object({ manifests: z.array(z.object({ digest: z.string() })) }).parse(JSON.parse(text));
  return manifests.map(({ digest }) => digest);
}

export async function readLayoutBlob(folder: string, digest: string): Promise<Buffer> {
  return readFile(layoutPath(folder, digest));
}

/** The digest of a layer's archive, whether the layer is gzipped or not. */
export async function diffIdOf(layerBytes: Bytes): Promise<string> {
  const gzipped = layerBytes[0] === 0x1f && layerBytes[1] === 0x8b;
  return digestOf(gzipped ? gunzipSync(layerBytes) : layerBytes);
}

/** A graph's own manifest, its blobs, and those of all its children. */
export function contentsOf(graph: Graph): Content[] {
  return [...manifestsOf(graph), ...blobsOf(graph)];
}

export function manifestsOf(graph: Graph): Content[] {
  return [graph, ...graph.children.flatMap(manifestsOf)];
}

export function blobsOf(graph: Graph): Content[] {
  return [...graph.blobs, ...graph.children.flatMap(blobsOf)];
}

function layoutPath(folder: string, digest: string): string {
  return join(folder, "blobs", ...digest.split(":"));
}

function encodedPart(digest: string): string {
  return digest.slice(digest.indexOf(":") + 1);
}
