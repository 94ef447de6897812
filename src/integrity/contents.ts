import type { RepositoryName } from "../oci/repository.ts";
import type { Content } from "./finding.ts";
import { isQuarantinedManifest } from "../manifests/quarantined.ts";

/** What is there to be checked, in pages. */

export type ContentRow = Omit<Content, "kind">;

const blobColumns = `blobs.id AS id, blobs.digest AS digest, blobs.size AS size, blobs.object_key AS objectKey,
       NULL AS body, NULL AS repository, NULL AS putRequest`;

const manifestColumns = `manifests.id AS id, manifests.digest AS digest, manifests.size AS size,
       manifests.object_key AS objectKey, manifests.body AS body, repositories.name AS repository,
       manifests.put_request AS putRequest`;

/** Blobs after an id that are not quarantined. D1: 1, by the primary key. */
export async function listBlobsToCheck(db: D1Database, after: number, limit: number): Promise<readonly ContentRow[]> {
  const { results } = await db
    .prepare(`SELECT ${blobColumns} FROM blobs WHERE id > ?1 AND quarantined_at IS NULL ORDER BY id LIMIT ?2`)
    .bind(after, limit)
    .all<ContentRow>();
  return results;
}

/** The same of manifests. */
export async function listManifestsToCheck(
  db: D1Database,
  after: number,
  limit: number,
): Promise<readonly ContentRow[]> {
  const { results } = await db
    .prepare(
      `SELECT ${manifestColumns} FROM manifests JOIN repositories ON repositories.id = manifests.repository_id
       WHERE manifests.id > ?1 AND NOT ${isQuarantinedManifest()} ORDER BY manifests.id LIMIT ?2`,
    )
    .bind(after, limit)
    .all<ContentRow>();
  return results;
}

/** Of one repository. D1: 1, by the membership's primary key. */
export async function listBlobsOfRepository(
  db: D1Database,
  repository: RepositoryName,
  after: number,
  limit: number,
): Promise<readonly ContentRow[]> {
  const { results } = await db
    .prepare(
      `SELECT ${blobColumns} FROM repositories
       JOIN repository_blobs AS member ON member.repository_id = repositories.id AND member.blob_id > ?2
       JOIN blobs ON blobs.id = member.blob_id
       WHERE repositories.name = ?1 AND blobs.quarantined_at IS NULL ORDER BY member.blob_id LIMIT ?3`,
    )
    .bind(repository, after, limit)
    .all<ContentRow>();
  return results;
}

/** The same of manifests, in the order of their digests: that is their index. */
export async function listManifestsOfRepository(
  db: D1Database,
  repository: RepositoryName,
  after: string,
  limit: number,
): Promise<readonly ContentRow[]> {
  const { results } = await db
    .prepare(
      `SELECT ${manifestColumns} FROM repositories
       JOIN manifests ON manifests.repository_id = repositories.id AND manifests.digest > ?2
       WHERE repositories.name = ?1 AND NOT ${isQuarantinedManifest()} ORDER BY manifests.digest LIMIT ?3`,
    )
    .bind(repository, after, limit)
    .all<ContentRow>();
  return results;
}

/** How much of a repository is to be checked. D1: 1, over all its rows. @returns null where there is no such repository */
export async function sumOfRepository(
  db: D1Database,
  repository: RepositoryName,
): Promise<{ readonly objects: number; readonly bytes: number } | null> {
  return db
    .prepare(
      `SELECT count(content.size) AS objects, coalesce(sum(content.size), 0) AS bytes FROM repositories
       LEFT JOIN (
         SELECT member.repository_id AS repository_id, blobs.size AS size
         FROM repositories JOIN repository_blobs AS member ON member.repository_id = repositories.id
         JOIN blobs ON blobs.id = member.blob_id WHERE repositories.name = ?1 AND blobs.quarantined_at IS NULL
         UNION ALL
         SELECT manifests.repository_id, manifests.size
         FROM repositories JOIN manifests ON manifests.repository_id = repositories.id
         WHERE repositories.name = ?1 AND NOT ${isQuarantinedManifest()}
       ) AS content ON content.repository_id = repositories.id
       WHERE repositories.name = ?1 GROUP BY repositories.id`,
    )
    .bind(repository)
    .first<{ objects: number; bytes: number }>();
}
