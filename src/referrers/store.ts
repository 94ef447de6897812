import { REFERRERS_SLICE_BYTES, REFERRERS_SLICES_PER_PAGE } from "../limits.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepositoryName } from "../oci/repository.ts";

export interface ReferrersPage {
  /** descriptors as JSON texts, joined by commas */
  readonly descriptors: string;
  /** id of the last one where more follow, else null */
  readonly next: number | null;
}

interface SliceRow {
  readonly slice: number;
  readonly descriptors: string | null;
  readonly lastId: number;
}

/**
 * Descriptors of the manifests whose subject is the digest, in the order of their first push. D1 hands out a value of at
 * most 2 MB, and each row costs more to hand out than to find: so they come as a few joined slices, in one query.
 * @param after id of the last descriptor of the page before, 0 for the first page
 */
export async function listReferrers(
  db: D1Database,
  repository: RepositoryName,
  subject: Digest,
  artifactType: string | null,
  after: number,
): Promise<ReferrersPage> {
  const filter = artifactType === null ? "?6 IS NULL" : "manifests.artifact_type = ?6";
  const { results } = await db
    .prepare(
      `SELECT slice, iif(slice < ?5, group_concat(descriptor, ','), NULL) AS descriptors, max(id) AS lastId FROM (
         SELECT manifests.id AS id, manifests.descriptor AS descriptor,
                min(?5, sum(octet_length(manifests.descriptor) + 1) OVER (ORDER BY manifests.id) / ?4) AS slice
         FROM repositories
         JOIN manifests ON manifests.repository_id = repositories.id AND manifests.subject = ?2 AND manifests.id > ?3
         WHERE repositories.name = ?1 AND ${filter})
       GROUP BY slice ORDER BY slice`,
    )
    .bind(repository, subject, after, REFERRERS_SLICE_BYTES, REFERRERS_SLICES_PER_PAGE, artifactType)
    .all<SliceRow>();
  const page = results.filter((row) => row.slice < REFERRERS_SLICES_PER_PAGE);
  return {
    descriptors: page.map((row) => row.descriptors ?? "").join(","),
    next: page.length < results.length ? (page.at(-1)?.lastId ?? null) : null,
  };
}
