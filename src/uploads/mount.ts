import { linkBlob, listRepositoriesWithBlob } from "../blobs/store.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepositoryName } from "../oci/repository.ts";

/** How many repositories a mount without `from` looks through for one that its caller may pull. */
const CANDIDATES_MAX = 1000;

/**
 * end-11, distribution-spec v1.1.1 «Mounting a blob from another repository»: links bytes that the registry has, where
 * the caller could pull them. Nothing moves.
 * @param from null: any repository that the caller may pull (of the spec's main branch)
 * @returns false where the blob is not to be had so: the client sends it then
 */
export async function mountBlob(
  db: D1Database,
  into: RepositoryName,
  digest: Digest,
  from: RepositoryName | null,
  mayPull: (repository: RepositoryName) => boolean,
): Promise<boolean> {
  const candidates = from === null ? await listRepositoriesWithBlob(db, digest, CANDIDATES_MAX) : [from];
  const source = candidates.find(mayPull);
  if (source === undefined) return false;
  const results = await db.batch(linkBlob(db, into, digest, source, Date.now()));
  return (results.at(-1)?.meta.changes ?? 0) > 0;
}
