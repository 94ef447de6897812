import type { Queryable } from "../databases.ts";
import {
  REFERRERS_AT_ONCE_MAX,
  REFERRERS_PER_PAGE_MAX,
  REFERRERS_SLICE_BYTES,
  REFERRERS_SLICES_PER_PAGE,
} from "../limits.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepositoryName } from "../oci/repository.ts";

export interface ReferrersPage {
  /** descriptors as JSON texts, joined by commas */
  readonly descriptors: string;
  /** id of the last one where more follow, else null */
  readonly next: number | null;
}

interface FirstRow {
  /** as far as was looked */
  readonly entries: number;
  /** of their descriptors with a comma each; null: there are none */
  readonly bytes: number | null;
  /** null: none, or too many for one query */
  readonly descriptors: string | null;
}

interface SliceRow {
  readonly slice: number;
  readonly entries: number;
  readonly descriptors: string | null;
  readonly lastId: number;
}

/** Which referrers are asked for: the first parameters of each query. */
type Wanted = readonly [repository: RepositoryName, subject: Digest, after: number, artifactType?: string];

/** In the order of their first push, which is that of either index: manifests_subject, and manifests_subject_type. */
function fromWanted(artifactType: string | undefined): string {
  return `FROM repositories JOIN manifests
    ON manifests.repository_id = repositories.id AND manifests.subject = ?2 AND manifests.id > ?3
    WHERE repositories.name = ?1 ${artifactType === undefined ? "" : "AND manifests.artifact_type = ?4"}
    ORDER BY manifests.id`;
}

/**
 * Descriptors of the manifests whose subject is the digest, in the order of their first push. One query where they are
 * few and fit one value, which nearly all lists do; else a second one, seldom a third: what is looked at is bounded by
 * the page, not by the list.
 * @param after id of the last descriptor of the page before, 0 for the first page
 */
export async function listReferrers(
  db: Queryable,
  repository: RepositoryName,
  subject: Digest,
  artifactType: string | null,
  after: number,
): Promise<ReferrersPage> {
  const wanted: Wanted =
    artifactType === null ? [repository, subject, after] : [repository, subject, after, artifactType];
  const from = fromWanted(wanted[3]);
  const most = String(REFERRERS_AT_ONCE_MAX);
  const row = await db
    .prepare(
      // Materialized, lest the sum be taken once for each mention of it.
      `WITH measured AS MATERIALIZED (
         SELECT count(*) AS entries, sum(bytes) AS bytes FROM (
           SELECT octet_length(manifests.descriptor) + 1 AS bytes ${from} LIMIT ${most} + 1))
       SELECT entries, bytes, iif(entries <= ${most} AND bytes <= ${String(REFERRERS_SLICE_BYTES)},
         (SELECT group_concat(descriptor, ',') FROM (SELECT manifests.descriptor AS descriptor ${from})), NULL)
         AS descriptors
       FROM measured`,
    )
    .bind(...wanted)
    .first<FirstRow>();
  if (row === null || row.bytes === null) return { descriptors: "", next: null };
  if (row.descriptors !== null) return { descriptors: row.descriptors, next: null };
  return listManyReferrers(db, wanted, pageEntries(row.entries, row.bytes));
}

/** How many fill a page, and some more, where the others are as long as those that were looked at. */
function pageEntries(entries: number, bytes: number): number {
  const likely = (REFERRERS_SLICES_PER_PAGE * REFERRERS_SLICE_BYTES * entries) / bytes;
  return Math.min(REFERRERS_PER_PAGE_MAX, Math.ceil(likely * 1.1) + 10);
}

/** D1 hands out a value of at most 2 MB, and each row costs more to hand out than to find: they come as joined slices. */
async function listManyReferrers(db: Queryable, wanted: Wanted, entries: number): Promise<ReferrersPage> {
  // The numbers stand in the text: bound ones arrive as REAL, and a division by them makes a slice of every row.
  const slices = String(REFERRERS_SLICES_PER_PAGE);
  const { results } = await db
    .prepare(
      `SELECT slice, count(*) AS entries, group_concat(iif(slice < ${slices}, descriptor, NULL), ',') AS descriptors,
              max(id) AS lastId FROM (
         SELECT id, descriptor,
                min(${slices}, sum(octet_length(descriptor) + 1) OVER (ORDER BY id) / ${String(REFERRERS_SLICE_BYTES)}) AS slice
         FROM (SELECT manifests.id AS id, manifests.descriptor AS descriptor ${fromWanted(wanted[3])} LIMIT ${String(entries)}))
       GROUP BY slice ORDER BY slice`,
    )
    .bind(...wanted)
    .all<SliceRow>();
  const page = results.filter((row) => row.slice < REFERRERS_SLICES_PER_PAGE);
  const isFull = page.length < results.length;
  const looked = results.reduce((sum, row) => sum + row.entries, 0);
  // Shorter ones followed than those that were looked at first.
  if (!isFull && looked === entries && entries < REFERRERS_PER_PAGE_MAX) {
    return listManyReferrers(db, wanted, Math.min(REFERRERS_PER_PAGE_MAX, entries * 8));
  }
  return {
    descriptors: page.map((row) => row.descriptors ?? "").join(","),
    next: isFull ? (page.at(-1)?.lastId ?? null) : null,
  };
}
