import type { Requester } from "../requester.ts";
import { insertAudit } from "../audit/store.ts";
import { linkBlob, listRepositoriesWithBlob, repositoryServesBlob } from "../blobs/store.ts";
import { MOUNT_CANDIDATES_MAX } from "../limits.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepositoryName } from "../oci/repository.ts";

/**
 * Where a mount may find the blob. D1: 0; 1 without `from`.
 * @param from null: any repository that the caller may pull (of the spec's main branch)
 */
export async function mountCandidates(
  db: D1Database,
  digest: Digest,
  from: RepositoryName | null,
): Promise<readonly RepositoryName[]> {
  return from === null ? listRepositoriesWithBlob(db, digest, MOUNT_CANDIDATES_MAX) : [from];
}

export interface Mount {
  readonly into: RepositoryName;
  readonly digest: Digest;
  /** where it may be linked from: the first that the caller may pull */
  readonly candidates: readonly RepositoryName[];
  readonly mayPull: (repository: RepositoryName) => boolean;
}

/**
 * end-11, distribution-spec v1.1.1 «Mounting a blob from another repository»: links bytes that the registry has, where
 * the caller could pull them. Nothing moves.
 * @returns false where the blob is not to be had so: the client sends it then
 */
export async function mountBlob(
  db: D1Database,
  { into, digest, candidates, mayPull }: Mount,
  by: Requester,
): Promise<boolean> {
  const source = candidates.find(mayPull);
  if (source === undefined) return false;
  const nowMs = Date.now();
  const entry = { action: "blob.mount", repository: into, digest, outcome: "ok", detail: { from: source } } as const;
  const results = await db.batch([
    insertAudit(db, by, entry, nowMs, repositoryServesBlob(source, digest)),
    ...linkBlob(db, into, digest, source, nowMs),
  ]);
  return (results.at(-1)?.meta.changes ?? 0) > 0;
}
