import { expectStatus, imageManifest, utf8 } from "../support/client.ts";
import type { Descriptor, RepositoryClient } from "../support/client.ts";
import type { Graph } from "./image.ts";

/** Puts a graph into a repository without any client: what a test of pulling, copying or deleting starts from. */
export async function pushGraph(repository: RepositoryClient, graph: Graph, reference?: string): Promise<void> {
  for (const { bytes, descriptor } of graph.blobs) {
    const algorithm = descriptor.digest.startsWith("sha512:") ? "sha512" : "sha256";
    await repository.pushBlob(bytes, { algorithm, mediaType: descriptor.mediaType });
  }
  for (const child of graph.children) await pushGraph(repository, child);
  const { digest, mediaType } = graph.descriptor;
  await expectStatus(await repository.putManifest(reference ?? digest, graph.bytes, mediaType), 201);
}

/** Attaches an artifact with an empty config and no content of its own to a subject. */
export async function pushReferrer(
  repository: RepositoryClient,
  subject: { readonly descriptor: Descriptor },
  artifactType: string,
  annotations: Readonly<Record<string, string>> = {},
): Promise<Descriptor> {
  const empty = await repository.pushBlob(utf8("{}"), { mediaType: "application/vnd.oci.empty.v1+json" });
  return repository.pushManifest({
    schemaVersion: 2,
    mediaType: imageManifest,
    artifactType,
    config: empty,
    layers: [empty],
    subject: subject.descriptor,
    annotations,
  });
}

/** Tags a graph so often that a list of its tags takes several pages. */
export async function pushManyTags(repository: RepositoryClient, graph: Graph, count: number): Promise<string[]> {
  await pushGraph(repository, graph);
  const tags = Array.from({ length: count }, (_, at) => `tag-${String(at).padStart(5, "0")}`);
  const { digest, mediaType } = graph.descriptor;
  for (let from = 0; from < count; from += tagsOfOneRequest) {
    const some = tags.slice(from, from + tagsOfOneRequest);
    await expectStatus(await repository.putManifest(digest, graph.bytes, mediaType, some), 201);
  }
  return tags;
}

/** How many `?tag=` one PUT by digest may name (end-7b). */
const tagsOfOneRequest = 32;
