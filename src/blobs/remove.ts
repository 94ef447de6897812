import { insertEvent } from "../events/outbox.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepositoryName } from "../oci/repository.ts";
import { unlinkBlob } from "./store.ts";

/**
 * end-10: one repository loses the blob, at once; the bytes go when no repository has them. One D1 batch.
 * @returns whether the repository had it
 */
export async function removeBlob(
  db: D1Database,
  digest: Digest,
  removal: { readonly repository: RepositoryName; readonly actor: string },
): Promise<boolean> {
  const { repository, actor } = removal;
  const nowMs = Date.now();
  const had = `EXISTS (SELECT 1 FROM repositories
     JOIN blobs ON blobs.digest = ?2
     JOIN repository_blobs AS member ON member.repository_id = repositories.id AND member.blob_id = blobs.id
     WHERE repositories.name = ?1 AND member.condemned_at IS NULL)`;
  const unknown = { tag: null, mediaType: null, artifactType: null, subject: null };
  const results = await db.batch([
    insertEvent(
      db,
      { kind: "blob.deleted", repository, digest, ...unknown, actor, nowMs },
      { sql: had, values: [repository, digest] },
    ),
    ...unlinkBlob(db, repository, digest, nowMs),
  ]);
  return (results.at(-1)?.meta.changes ?? 0) > 0;
}
