/** What there is to read in a repository: pushed for it, or found there. */
import { createHash, randomBytes } from "node:crypto";
import { z } from "zod";
import { imageIndex, imageManifest, dockerManifest, dockerManifestList } from "../../src/oci/media-types.ts";
import { requireStatusOrRight, wholeBody } from "./answers.ts";
import type { Client } from "./client.ts";
import { jsonIn } from "./exchange.ts";
import { Skipped } from "./verdict.ts";

export interface Blob {
  readonly digest: string;
  readonly size: number;
  /** null where they were not read */
  readonly bytes: Buffer | null;
}

export interface Manifest {
  readonly tags: readonly string[];
  readonly digest: string;
  readonly bytes: Buffer;
  readonly mediaType: string;
}

export const manifestTypes = [imageManifest, imageIndex, dockerManifest, dockerManifestList].join(", ");

export const artifactType = "application/vnd.moorage.doctor.v1+json";
export const referrerType = "application/vnd.moorage.doctor.note.v1+json";

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Bytes that nobody has pushed before. */
export function freshBlob(lengthBytes: number): Blob & { readonly bytes: Buffer } {
  return blobOf(randomBytes(lengthBytes));
}

export function blobOf(bytes: Buffer): Blob & { readonly bytes: Buffer } {
  return { digest: digestOf(bytes), size: bytes.byteLength, bytes };
}

interface Described {
  readonly mediaType: string;
  readonly blob: Blob;
}

/** @param subject refers to it, distribution-spec v1.1.1 «Pushing Manifests with Subject» */
export function manifestOf(
  config: Described,
  layers: readonly Described[],
  type: string,
  tags: readonly string[],
  subject: Manifest | null = null,
): Manifest {
  const descriptor = ({ mediaType, blob: { digest, size } }: Described) => ({ mediaType, digest, size });
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: imageManifest,
      artifactType: type,
      config: descriptor(config),
      layers: layers.map(descriptor),
      ...(subject === null
        ? {}
        : { subject: { mediaType: subject.mediaType, digest: subject.digest, size: subject.bytes.byteLength } }),
      annotations: { "org.opencontainers.image.title": "what moorage doctor pushes, and deletes again" },
    }),
  );
  return { tags, digest: digestOf(bytes), bytes, mediaType: imageManifest };
}

const tagsSchema = z.object({ tags: z.array(z.string()).nullable() });
const descriptorSchema = z.object({ digest: z.string(), size: z.number() });
const imageSchema = z.object({ config: descriptorSchema });
const indexSchema = z.object({ manifests: z.array(descriptorSchema) });

/**
 * A manifest of the repository by tag, and the smallest blob that leads from it, which every artifact has: its config.
 * @throws Skipped where there is none that may be read
 * @throws Failed, Unanswered, Interrupted
 */
export async function findContent(
  client: Client,
  repository: string,
): Promise<{ manifest: Manifest; blob: Blob | null }> {
  const listed = await client.send("GET", `/v2/${repository}/tags/list?n=10`);
  if (listed.status === 404) throw new Skipped(`there is no repository ${repository}`);
  requireStatusOrRight(listed, [200], "the list of tags");
  const [tag] = tagsSchema.safeParse(jsonIn(listed)).data?.tags ?? [];
  if (tag === undefined) throw new Skipped(`${repository} has no tag`);
  const manifest = await findManifest(client, repository, tag);
  return { manifest: { ...manifest, tags: [tag] }, blob: await configOf(client, repository, manifest) };
}

async function findManifest(client: Client, repository: string, reference: string): Promise<Manifest> {
  const headers = { Accept: manifestTypes };
  const answer = await client.send("GET", `/v2/${repository}/manifests/${reference}`, { headers });
  requireStatusOrRight(answer, [200], `the manifest ${reference}`);
  const bytes = wholeBody(answer, `the manifest ${reference}`);
  return { tags: [], digest: digestOf(bytes), bytes, mediaType: answer.headers["content-type"] ?? "" };
}

async function configOf(client: Client, repository: string, manifest: Manifest): Promise<Blob | null> {
  const json = jsonIn({ body: manifest.bytes });
  const [child] = indexSchema.safeParse(json).data?.manifests ?? [];
  if (child !== undefined) return configOf(client, repository, await findManifest(client, repository, child.digest));
  const config = imageSchema.safeParse(json).data?.config;
  return config === undefined ? null : { ...config, bytes: null };
}
