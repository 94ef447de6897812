import type { Requester } from "../requester.ts";
import { insertAudit } from "../audit/store.ts";
import { insertEvent } from "../events/outbox.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepositoryName } from "../oci/repository.ts";
import { repositoryHasBlob, unlinkBlob } from "./store.ts";

/**
 * end-10: one repository loses the blob, at once; the bytes go when no repository has them. One D1 batch.
 * @returns whether the repository had it
 */
export async function removeBlob(
  db: D1Database,
  digest: Digest,
  repository: RepositoryName,
  by: Requester,
): Promise<boolean> {
  const nowMs = Date.now();
  const had = repositoryHasBlob(repository, digest);
  const unknown = { tag: null, mediaType: null, artifactType: null, subject: null };
  const results = await db.batch([
    insertEvent(db, { kind: "blob.deleted", repository, digest, ...unknown, actor: by.principal.name, nowMs }, had),
    insertAudit(db, by, { action: "blob.delete", repository, digest, outcome: "ok" }, nowMs, had),
    ...unlinkBlob(db, repository, digest, nowMs),
  ]);
  return (results.at(-1)?.meta.changes ?? 0) > 0;
}
