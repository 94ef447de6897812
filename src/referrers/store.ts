import type { Queryable } from "../databases.ts";
import { REFERRERS_PER_PAGE_MAX, REFERRERS_SLICE_BYTES, REFERRERS_SLICES_PER_PAGE } from "../limits.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepositoryName } from "../oci/repository.ts";

export interface ReferrersPage {
  /** descriptors as JSON texts, joined by commas */
  readonly descriptors: string;
  /** id of the last one where more follow, else null */
  readonly next: number | null;
}

interface SmallRow {
  /** null: none, or too many for one value */
  readonly descriptors: string | null;
  /** null: there are none */
  readonly bytes: number | null;
}

interface SliceRow {
  readonly slice: number;
  readonly descriptors: string | null;
  readonly lastId: number;
}

const wanted = `FROM manifests
  WHERE repository_id = repositories.id AND subject = ?2 AND id > ?3 AND (?4 IS NULL OR artifact_type = ?4)`;

/**
 * Descriptors of the manifests whose subject is the digest, in the order of their first push. One query where they fit
 * one value, which nearly all lists do; else a second one.
 * @param after id of the last descriptor of the page before, 0 for the first page
 */
export async function listReferrers(
  db: Queryable,
  repository: RepositoryName,
  subject: Digest,
  artifactType: string | null,
  after: number,
): Promise<ReferrersPage> {
  const row = await db
    .prepare(
      // Materialized, lest the sum be taken once for each mention of it.
      `WITH found AS MATERIALIZED (
         SELECT id, (SELECT sum(octet_length(descriptor) + 1) ${wanted}) AS bytes FROM repositories WHERE name = ?1)
       SELECT bytes, iif(bytes <= ?5, (SELECT group_concat(descriptor, ',') FROM (SELECT descriptor ${wanted} ORDER BY id)), NULL)
         AS descriptors
       FROM found AS repositories`,
    )
    .bind(repository, subject, after, artifactType, REFERRERS_SLICE_BYTES)
    .first<SmallRow>();
  if (row === null || row.bytes === null) return { descriptors: "", next: null };
  if (row.descriptors !== null) return { descriptors: row.descriptors, next: null };
  return listManyReferrers(db, repository, subject, artifactType, after);
}

/** D1 hands out a value of at most 2 MB, and each row costs more to hand out than to find: they come as joined slices. */
async function listManyReferrers(
  db: Queryable,
  repository: RepositoryName,
  subject: Digest,
  artifactType: string | null,
  after: number,
): Promise<ReferrersPage> {
  // The numbers stand in the text: bound ones arrive as REAL, and a division by them makes a slice of every row.
  const slices = String(REFERRERS_SLICES_PER_PAGE);
  const { results } = await db
    .prepare(
      `SELECT slice, group_concat(iif(slice < ${slices}, descriptor, NULL), ',') AS descriptors, max(id) AS lastId FROM (
         SELECT id, descriptor,
                min(${slices}, sum(octet_length(descriptor) + 1) OVER (ORDER BY id) / ${String(REFERRERS_SLICE_BYTES)}) AS slice
         FROM (SELECT manifests.id AS id, descriptor FROM repositories JOIN manifests
                 ON repository_id = repositories.id AND subject = ?2 AND manifests.id > ?3
               WHERE name = ?1 AND (?4 IS NULL OR artifact_type = ?4)
               ORDER BY manifests.id LIMIT ${String(REFERRERS_PER_PAGE_MAX)}))
       GROUP BY slice ORDER BY slice`,
    )
    .bind(repository, subject, after, artifactType)
    .all<SliceRow>();
  const page = results.filter((row) => row.slice < REFERRERS_SLICES_PER_PAGE);
  return {
    descriptors: page.map((row) => row.descriptors ?? "").join(","),
    next: page.length < results.length ? (page.at(-1)?.lastId ?? null) : null,
  };
}
