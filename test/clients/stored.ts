import { expect } from "vitest";
import { z } from "zod";
import { digestOf, expectStatus } from "../support/client.ts";
import type { Bytes, RepositoryClient } from "../support/client.ts";
import { blobsOf, contentsOf, manifestsOf, readLayoutBlob, readLayoutIndex } from "./image.ts";
import type { Graph } from "./image.ts";

/*
 * What a registry holds, read over plain http beside the client under test: a client that agrees with itself is not
 * yet right.
 */

/** A descriptor as a client or the registry prints it. */
export const descriptor = z.object({
  mediaType: z.string(),
  digest: z.string(),
  size: z.number(),
  artifactType: z.string().optional(),
  annotations: z.record(z.string(), z.string()).optional(),
});
export type StoredDescriptor = z.infer<typeof descriptor>;

const manifest = z.object({
  mediaType: z.string().optional(),
  artifactType: z.string().optional(),
  config: descriptor.optional(),
  layers: z.array(descriptor).default([]),
  manifests: z.array(descriptor).default([]),
  subject: descriptor.optional(),
  annotations: z.record(z.string(), z.string()).default({}),
});

export interface StoredManifest extends z.infer<typeof manifest> {
  readonly digest: string;
  readonly contentType: string;
  readonly bytes: Bytes;
}

/** Fails unless the registry answers every manifest and blob of the graph, byte for byte. */
export async function expectStored(repository: RepositoryClient, tag: string, graph: Graph): Promise<void> {
  expect((await readManifest(repository, tag)).digest).toBe(graph.descriptor.digest);
  for (const { descriptor: expected, bytes } of manifestsOf(graph)) {
    const stored = await readManifest(repository, expected.digest);
    expect(stored.contentType).toBe(expected.mediaType);
    expectSameBytes(stored.bytes, bytes);
  }
  for (const { descriptor: expected, bytes } of blobsOf(graph)) {
    expectSameBytes(await readBlob(repository, expected.digest), bytes);
  }
}

/**
 * Fails unless an image layout that a client wrote holds the graph, byte for byte. Some clients name the manifests
 * inside an index at the top too.
 */
export async function expectLayout(folder: string, graph: Graph): Promise<void> {
  expect(await readLayoutIndex(folder)).toContain(graph.descriptor.digest);
  for (const { descriptor: expected, bytes } of contentsOf(graph)) {
    expectSameBytes(await readLayoutBlob(folder, expected.digest), bytes);
  }
}

/** Compares by length and content without printing megabytes where they differ. */
export function expectSameBytes(actual: Uint8Array, expected: Uint8Array): void {
  expect(actual.length).toBe(expected.length);
  expect(Buffer.compare(actual, expected)).toBe(0);
}

/** @throws UnexpectedAnswer where the repository has no such manifest */
export async function readManifest(repository: RepositoryClient, reference: string): Promise<StoredManifest> {
  const response = await expectStatus(await repository.getManifest(reference), 200);
  const bytes = new Uint8Array(await response.arrayBuffer());
  const digest = response.headers.get("Docker-Content-Digest") ?? "";
  const algorithm = digest.startsWith("sha512:") ? "sha512" : "sha256";
  expect(digest).toBe(await digestOf(bytes, algorithm));
  const parsed = manifest.parse(JSON.parse(new TextDecoder().decode(bytes)));
  return { ...parsed, digest, contentType: response.headers.get("Content-Type") ?? "", bytes };
}

/** @throws UnexpectedAnswer where the repository has no such blob */
export async function readBlob(repository: RepositoryClient, digest: string): Promise<Bytes> {
  const response = await expectStatus(await repository.getBlob(digest), 200);
  return new Uint8Array(await response.arrayBuffer());
}

export async function hasManifest(repository: RepositoryClient, reference: string): Promise<boolean> {
  return found(await repository.headManifest(reference));
}

export async function hasBlob(repository: RepositoryClient, digest: string): Promise<boolean> {
  return found(await repository.headBlob(digest));
}

export async function readTags(repository: RepositoryClient): Promise<string[]> {
  const response = await repository.listTags();
  if (response.status === 404) return [];
  return z.object({ tags: z.array(z.string()) }).parse(await (await expectStatus(response, 200)).json()).tags;
}

export async function readReferrers(
  repository: RepositoryClient,
  subject: string,
  artifactType?: string,
): Promise<StoredDescriptor[]> {
  const response = await repository.listReferrers(subject, artifactType === undefined ? {} : { artifactType });
  return z.object({ manifests: z.array(descriptor) }).parse(await (await expectStatus(response, 200)).json()).manifests;
}

function found(response: Response): boolean {
  expect([200, 404]).toContain(response.status);
  return response.status === 200;
}
