import { putManifest } from "../../../src/manifests/put.ts";
import { type ManifestBodyRow, manifestQueries, type ManifestRow } from "../../../src/manifests/store.ts";
import { parseDigest } from "../../../src/oci/digest.ts";
import { imageManifest } from "../../../src/oci/media-types.ts";
import { isTag } from "../../../src/oci/reference.ts";
import { parseRepositoryName } from "../../../src/oci/repository.ts";
import { bare } from "./requester.ts";
import type { BareRequest } from "./worker.ts";

export async function getManifest({ env, reference, repository }: BareRequest): Promise<Response> {
  const sql = reference.includes(":") ? manifestQueries.getByDigest : manifestQueries.getByTag;
  const row = await env.DB.prepare(sql).bind(repository, reference).first<ManifestBodyRow>();
  if (row === null) return new Response(null, { status: 404 });
  return new Response(row.body, { headers: { "Content-Type": row.mediaType, "Content-Length": String(row.size) } });
}

export async function headManifest({ env, reference, repository }: BareRequest): Promise<Response> {
  const sql = reference.includes(":") ? manifestQueries.headByDigest : manifestQueries.headByTag;
  const row = await env.DB.prepare(sql).bind(repository, reference).first<ManifestRow>();
  if (row === null) return new Response(null, { status: 404 });
  return new Response(null, { headers: { "Content-Type": row.mediaType, "Content-Length": String(row.size) } });
}

interface BareImageManifest {
  readonly config: { readonly mediaType: string; readonly digest: string; readonly size: number };
  readonly layers: readonly { readonly digest: string; readonly size: number }[];
}

/**
 * The rows of an image manifest in the registry's own batch. The digest is taken from the query, the rest from JSON as
 * it comes. Of the registry's work it leaves out the routing, the hash and every check that is not SQL.
 */
export async function putManifestRows({ request, env, reference, repository }: BareRequest): Promise<Response> {
  const bytes = new Uint8Array(await request.arrayBuffer());
  const text = new TextDecoder().decode(bytes);
  // oxlint-disable-next-line typescript/no-unsafe-assignment -- a schema's check is work that the bare Worker must not do
  const { config, layers }: BareImageManifest = JSON.parse(text);
  await putManifest(env, {
    repository: parseRepositoryName(repository),
    digest: parseDigest(new URL(request.url).searchParams.get("digest") ?? ""),
    bytes,
    manifest: {
      mediaType: imageManifest,
      text,
      references: [config, ...layers].map(({ digest, size }) => ({
        digest: parseDigest(digest),
        size,
        kind: "blob",
        required: true,
      })),
      subject: null,
      artifactType: config.mediaType,
      annotations: null,
      warnings: [],
    },
    tags: isTag(reference) ? [reference] : [],
    sparse: false,
    by: bare(),
  });
  return new Response(null, { status: 201 });
}
