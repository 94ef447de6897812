import type { Queryable } from "../databases.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepositoryName } from "../oci/repository.ts";
import type { SqlCondition } from "../sql.ts";
import { insertGarbage } from "./garbage.ts";

/** A blob as one repository has it. */
export interface BlobRow {
  /** bytes */
  readonly size: number;
  readonly objectKey: string;
}

/**
 * One query, served by repositories.name, blobs.digest and the membership's primary key. A quarantined blob, whose bytes
 * were found to be others (src/integrity), is none: its clients push it again.
 */
export async function findBlob(db: Queryable, repository: RepositoryName, digest: Digest): Promise<BlobRow | null> {
  return db
    .prepare(
      `SELECT blobs.size AS size, blobs.object_key AS objectKey
       FROM repositories
       JOIN blobs ON blobs.digest = ?2
       JOIN repository_blobs AS member ON member.repository_id = repositories.id AND member.blob_id = blobs.id
       WHERE repositories.name = ?1 AND member.condemned_at IS NULL AND blobs.quarantined_at IS NULL`,
    )
    .bind(repository, digest)
    .first<BlobRow>();
}

/** Whether the repository would have the blob, were it not quarantined: to say why it is not there. D1: 1. */
export async function isQuarantined(db: Queryable, repository: RepositoryName, digest: Digest): Promise<boolean> {
  const row = await db
    .prepare(
      `SELECT 1 AS found
       FROM repositories
       JOIN blobs ON blobs.digest = ?2
       JOIN repository_blobs AS member ON member.repository_id = repositories.id AND member.blob_id = blobs.id
       WHERE repositories.name = ?1 AND member.condemned_at IS NULL AND blobs.quarantined_at IS NOT NULL`,
    )
    .bind(repository, digest)
    .first();
  return row !== null;
}

/** The digest by which an R2 object is a blob; null where it is none. */
export async function findDigestOfObject(db: D1Database, objectKey: string): Promise<Digest | null> {
  return db.prepare("SELECT digest FROM blobs WHERE object_key = ?1").bind(objectKey).first<Digest>("digest");
}

/** A condition for another statement: the repository serves the blob. */
export function repositoryServesBlob(repository: RepositoryName, digest: Digest): SqlCondition {
  const { sql, values } = repositoryHasBlob(repository, digest);
  return { sql: `${sql} AND (SELECT quarantined_at FROM blobs WHERE digest = ?2) IS NULL`, values };
}

/** A condition for another statement. */
export function repositoryHasBlob(repository: RepositoryName, digest: Digest): SqlCondition {
  const sql = `EXISTS (SELECT 1 FROM repositories
     JOIN blobs ON blobs.digest = ?2
     JOIN repository_blobs AS member ON member.repository_id = repositories.id AND member.blob_id = blobs.id
     WHERE repositories.name = ?1 AND member.condemned_at IS NULL)`;
  return { sql, values: [repository, digest] };
}

export interface NewBlob {
  readonly repository: RepositoryName;
  readonly digest: Digest;
  /** bytes */
  readonly size: number;
  readonly objectKey: string;
}

/**
 * Rows for bytes that stand in R2 under a new key. Where the content is there already, under another key, that one
 * stays and the new key becomes garbage, unless that one is quarantined: then the new one takes its place. A key that is
 * garbage already (its session expired while this ran) is never named. `uploadId`: the upload must have ended with this digest, in the same batch.
 * @returns the statements, of which the last one returns a row exactly where the repository has the blob now
 */
export function insertBlob(
  db: D1Database,
  blob: NewBlob,
  uploadId: string | null,
  nowMs: number,
): D1PreparedStatement[] {
  const ended =
    uploadId === null
      ? "?1 IS NULL AND ?2 IS NOT NULL"
      : "EXISTS (SELECT 1 FROM upload_states WHERE id = ?1 AND digest = ?2)";
  return [
    db
      .prepare(`INSERT INTO repositories (name, created_at) SELECT ?3, ?4 WHERE ${ended} ON CONFLICT (name) DO NOTHING`)
      .bind(uploadId, blob.digest, blob.repository, nowMs),
    db
      .prepare(
        `INSERT INTO blobs (digest, size, object_key, created_at)
         SELECT ?2, ?3, ?4, ?5
         WHERE ${ended} AND NOT EXISTS (SELECT 1 FROM garbage WHERE object_key = ?4)
         ON CONFLICT (digest) DO UPDATE SET object_key = excluded.object_key, size = excluded.size, quarantined_at = NULL
           WHERE blobs.quarantined_at IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM blobs AS other WHERE other.object_key = excluded.object_key)
         -- of the digest, whose content is there already; or of the key, which a PUT with another digest has named
         ON CONFLICT DO NOTHING`,
      )
      .bind(uploadId, blob.digest, blob.size, blob.objectKey, nowMs),
    insertGarbage(db, [blob.objectKey], nowMs),
    db
      .prepare(
        `INSERT INTO repository_blobs (repository_id, blob_id, linked_at, suspect_at)
         SELECT repositories.id, blobs.id, ?4, ?4 FROM repositories JOIN blobs ON blobs.digest = ?2
         WHERE repositories.name = ?3 AND ${ended}
         ON CONFLICT (repository_id, blob_id) DO UPDATE SET suspect_at = excluded.suspect_at, condemned_at = NULL
         RETURNING blob_id AS blobId`,
      )
      .bind(uploadId, blob.digest, blob.repository, nowMs),
  ];
}

/**
 * Links a blob of one repository into another: the row of a mount (end-11).
 * @returns the statements, of which the last one changes a row exactly where the blob could be linked
 */
export function linkBlob(
  db: D1Database,
  into: RepositoryName,
  digest: Digest,
  from: RepositoryName,
  nowMs: number,
): D1PreparedStatement[] {
  const source = `FROM repositories AS source
       JOIN blobs ON blobs.digest = ?2
       JOIN repository_blobs AS member ON member.repository_id = source.id AND member.blob_id = blobs.id
       WHERE source.name = ?3 AND member.condemned_at IS NULL AND blobs.quarantined_at IS NULL`;
  return [
    db
      .prepare(`INSERT INTO repositories (name, created_at) SELECT ?1, ?4 ${source} ON CONFLICT (name) DO NOTHING`)
      .bind(into, digest, from, nowMs),
    db
      .prepare(
        `INSERT INTO repository_blobs (repository_id, blob_id, linked_at, suspect_at)
         SELECT (SELECT id FROM repositories WHERE name = ?1), blobs.id, ?4, ?4 ${source}
         ON CONFLICT (repository_id, blob_id) DO UPDATE SET suspect_at = excluded.suspect_at, condemned_at = NULL`,
      )
      .bind(into, digest, from, nowMs),
  ];
}

/** Repositories that have the blob, at most `limit`: the candidates of a mount without `from`. */
export async function listRepositoriesWithBlob(
  db: D1Database,
  digest: Digest,
  limit: number,
): Promise<RepositoryName[]> {
  const { results } = await db
    .prepare(
      `SELECT repositories.name AS name FROM blobs
       JOIN repository_blobs AS member ON member.blob_id = blobs.id
       JOIN repositories ON repositories.id = member.repository_id
       WHERE blobs.digest = ?1 AND member.condemned_at IS NULL AND blobs.quarantined_at IS NULL LIMIT ?2`,
    )
    .bind(digest, limit)
    .all<{ name: RepositoryName }>();
  return results.map((row) => row.name);
}

/**
 * Takes a blob out of one repository (end-10); the bytes go when no repository has them. The last statement changes a
 * row exactly where the repository had the blob.
 */
export function unlinkBlob(
  db: D1Database,
  repository: RepositoryName,
  digest: Digest,
  nowMs: number,
): D1PreparedStatement[] {
  return [
    db
      .prepare(
        `UPDATE blobs SET suspect_at = ?3 WHERE digest = ?2 AND EXISTS (
           SELECT 1 FROM repositories JOIN repository_blobs AS member
             ON member.repository_id = repositories.id AND member.blob_id = blobs.id
           WHERE repositories.name = ?1)`,
      )
      .bind(repository, digest, nowMs),
    db
      .prepare(
        `DELETE FROM repository_blobs
         WHERE repository_id = (SELECT id FROM repositories WHERE name = ?1)
           AND blob_id = (SELECT id FROM blobs WHERE digest = ?2) AND condemned_at IS NULL`,
      )
      .bind(repository, digest),
  ];
}
