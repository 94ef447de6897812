import type { Requester } from "../requester.ts";
import { insertAudit } from "../audit/store.ts";
import { noteRefusal } from "../access/note-refusal.ts";
import { linkBlob, listRepositoriesWithBlob, repositoryHasBlob } from "../blobs/store.ts";
import { MOUNT_CANDIDATES_MAX } from "../limits.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepositoryName } from "../oci/repository.ts";

export interface Mount {
  readonly into: RepositoryName;
  readonly digest: Digest;
  /** null: any repository that the caller may pull (of the spec's main branch) */
  readonly from: RepositoryName | null;
  readonly mayPull: (repository: RepositoryName) => boolean;
}

/**
 * end-11, distribution-spec v1.1.1 «Mounting a blob from another repository»: links bytes that the registry has, where
 * the caller could pull them. Nothing moves.
 * @returns false where the blob is not to be had so: the client sends it then
 */
export async function mountBlob(
  db: D1Database,
  { into, digest, from, mayPull }: Mount,
  by: Requester,
): Promise<boolean> {
  const candidates = from === null ? await listRepositoriesWithBlob(db, digest, MOUNT_CANDIDATES_MAX) : [from];
  const source = candidates.find(mayPull);
  if (source === undefined) {
    if (from !== null) await noteRefusal(db, by, "pull", from);
    return false;
  }
  const nowMs = Date.now();
  const entry = { action: "blob.mount", repository: into, digest, outcome: "ok", detail: { from: source } } as const;
  const results = await db.batch([
    insertAudit(db, by, entry, nowMs, repositoryHasBlob(source, digest)),
    ...linkBlob(db, into, digest, source, nowMs),
  ]);
  return (results.at(-1)?.meta.changes ?? 0) > 0;
}
