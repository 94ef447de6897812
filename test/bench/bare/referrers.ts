import { imageIndex } from "../../../src/oci/media-types.ts";
import type { BareRequest } from "./worker.ts";

/** All descriptors in one value of one row. */
export async function listReferrersAtOnce({ env, reference, repository }: BareRequest): Promise<Response> {
  const row = await env.DB.prepare(
    `SELECT json_group_array(json(descriptor)) AS descriptors FROM (
       SELECT manifests.descriptor AS descriptor FROM repositories
       JOIN manifests ON manifests.repository_id = repositories.id AND manifests.subject = ?2
       WHERE repositories.name = ?1 ORDER BY manifests.id)`,
  )
    .bind(repository, reference)
    .first<{ descriptors: string }>();
  return new Response(`{"schemaVersion":2,"mediaType":"${imageIndex}","manifests":${row?.descriptors ?? "[]"}}`, {
    headers: { "Content-Type": imageIndex },
  });
}
