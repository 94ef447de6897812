import { z } from "zod";
import { isQuarantinedManifest } from "../manifests/quarantined.ts";
import type { RepositoryName } from "../oci/repository.ts";
import type { SqlCondition } from "../sql.ts";
import { type Content, type Finding, findingStates, type Problem, contentKinds, problems } from "./finding.ts";

/** What is noted of bad content. */
export interface NewFinding {
  readonly content: Content;
  readonly problem: Problem;
  readonly found: string | null;
  /** a principal */
  readonly foundBy: string;
}

/** The row still names what was read, and it is not quarantined: it was not pushed again, or deleted, meanwhile. */
export function stillStands({ kind, id, digest, objectKey, putRequest }: NewFinding["content"]): SqlCondition {
  return kind === "blob"
    ? {
        sql: "EXISTS (SELECT 1 FROM blobs WHERE id = ?1 AND digest = ?2 AND object_key = ?3 AND quarantined_at IS NULL)",
        values: [id, digest, objectKey],
      }
    : {
        sql: `EXISTS (SELECT 1 FROM manifests WHERE id = ?1 AND digest = ?2 AND put_request = ?3 AND NOT ${isQuarantinedManifest()})`,
        values: [id, digest, putRequest],
      };
}

/** Does nothing where the content does not stand; returns the finding's id where it does. */
export function insertFinding(db: D1Database, finding: NewFinding, nowMs: number): D1PreparedStatement {
  const { content, problem, found, foundBy } = finding;
  const stands = stillStands(content);
  const isManifest = content.kind === "manifest";
  return db
    .prepare(
      `INSERT INTO integrity_findings (kind, digest, size, problem, found, object_key, repository, manifest_id, put_request,
         found_by, found_at)
       SELECT ?4, ?2, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13 WHERE ${stands.sql} RETURNING id`,
    )
    .bind(
      ...stands.values,
      content.kind,
      content.size,
      problem,
      found,
      content.objectKey,
      content.repository,
      isManifest ? content.id : null,
      isManifest ? content.putRequest : null,
      foundBy,
      nowMs,
    );
}

/** From then on it answers 404. */
export function quarantineBlob(db: D1Database, id: number, objectKey: string, nowMs: number): D1PreparedStatement {
  return db
    .prepare("UPDATE blobs SET quarantined_at = ?3 WHERE id = ?1 AND object_key = ?2 AND quarantined_at IS NULL")
    .bind(id, objectKey, nowMs);
}

/** An event for each repository that has the blob, or for that of the manifest. */
export function insertQuarantineEvents(
  db: D1Database,
  { content, foundBy }: NewFinding,
  limit: number,
  nowMs: number,
): D1PreparedStatement {
  const stands = stillStands(content);
  const names =
    content.kind === "blob"
      ? `SELECT repositories.name AS name FROM repository_blobs AS member
         JOIN repositories ON repositories.id = member.repository_id
         WHERE member.blob_id = ?1 AND member.condemned_at IS NULL LIMIT ?7`
      : "SELECT ?7 AS name";
  return db
    .prepare(
      `INSERT INTO events (kind, repository, digest, actor, created_at)
       SELECT ?4, name, ?2, ?5, ?6 FROM (${names}) WHERE ${stands.sql}`,
    )
    .bind(
      ...stands.values,
      `${content.kind}.quarantined`,
      foundBy,
      nowMs,
      content.kind === "blob" ? limit : content.repository,
    );
}

/** A blob is quarantined for the newest of its findings. */
const stateOf = `CASE
    WHEN released_at IS NOT NULL THEN 'released'
    WHEN kind = 'blob' THEN coalesce((SELECT iif(blobs.quarantined_at IS NULL OR integrity_findings.id < (
        SELECT max(newest.id) FROM integrity_findings AS newest WHERE newest.digest = integrity_findings.digest),
        'healed', 'quarantined')
      FROM blobs WHERE blobs.digest = integrity_findings.digest), 'gone')
    ELSE coalesce((SELECT iif(manifests.put_request = integrity_findings.put_request, 'quarantined', 'healed')
      FROM repositories JOIN manifests ON manifests.repository_id = repositories.id
      WHERE repositories.name = integrity_findings.repository AND manifests.digest = integrity_findings.digest), 'gone')
  END`;

const findingColumns = `id, kind, digest, size, problem, found, repository, object_key AS objectKey, found_by AS foundBy,
  found_at AS foundAt, discarded_at AS discardedAt, ${stateOf} AS state`;

const rowSchema = z
  .object({
    id: z.number(),
    kind: z.enum(contentKinds),
    digest: z.string(),
    size: z.number(),
    problem: z.enum(problems),
    found: z.string().nullable(),
    repository: z.string().nullable(),
    objectKey: z.string().nullable(),
    foundBy: z.string(),
    foundAt: z.number(),
    discardedAt: z.number().nullable(),
    state: z.enum(findingStates),
  })
  .transform(({ foundAt, discardedAt, ...row }): Finding => ({
    ...row,
    foundAt: new Date(foundAt).toISOString(),
    discardedAt: discardedAt === null ? null : new Date(discardedAt).toISOString(),
  }));

/** Findings, the newest first. D1: 1. */
export async function listFindings(db: D1Database, before: number, limit: number): Promise<readonly Finding[]> {
  const { results } = await db
    .prepare(`SELECT ${findingColumns} FROM integrity_findings WHERE id < ?1 ORDER BY id DESC LIMIT ?2`)
    .bind(before, limit)
    .all();
  return results.map((row) => rowSchema.parse(row));
}

/** D1: 1. */
export async function findFinding(db: D1Database, id: number): Promise<Finding | null> {
  const row = await selectFinding(db, id).first();
  return row === null ? null : rowSchema.parse(row);
}

export function selectFinding(db: D1Database, id: number): D1PreparedStatement {
  return db.prepare(`SELECT ${findingColumns} FROM integrity_findings WHERE id = ?1`).bind(id);
}

/** @returns null where `selectFinding` found none */
export function findingOf(result: D1Result | undefined): Finding | null {
  const row = result?.results[0];
  return row === undefined ? null : rowSchema.parse(row);
}

/** What of a repository is quarantined, the newest first: its blobs', and its own manifests'. D1: 1. */
export async function listQuarantinedOf(
  db: D1Database,
  repository: RepositoryName,
  limit: number,
): Promise<readonly Finding[]> {
  const { results } = await db
    .prepare(
      `SELECT * FROM (
         SELECT ${findingColumns} FROM integrity_findings
         WHERE released_at IS NULL AND (repository = ?1 OR (kind = 'blob' AND EXISTS (
           SELECT 1 FROM blobs JOIN repository_blobs AS member ON member.blob_id = blobs.id
           JOIN repositories ON repositories.id = member.repository_id
           WHERE blobs.digest = integrity_findings.digest AND blobs.quarantined_at IS NOT NULL
             AND repositories.name = ?1))))
       WHERE state = 'quarantined' ORDER BY id DESC LIMIT ?2`,
    )
    .bind(repository, limit)
    .all();
  return results.map((row) => rowSchema.parse(row));
}

/** Findings after the one whose id is the value, the oldest first. */
export function selectFindingsAfter(db: D1Database, valueName: string, limit: number): D1PreparedStatement {
  return db
    .prepare(
      `SELECT ${findingColumns} FROM integrity_findings
       WHERE id > coalesce((SELECT CAST(value AS INTEGER) FROM registry_values WHERE name = ?1), 0) ORDER BY id LIMIT ?2`,
    )
    .bind(valueName, limit);
}

export function findingsOf(result: D1Result | undefined): readonly Finding[] {
  return (result?.results ?? []).map((row) => rowSchema.parse(row));
}

/** Blobs and manifests that answer 404; no more than `most` are counted. */
export function selectQuarantinedCount(db: D1Database, most: number): D1PreparedStatement {
  return db
    .prepare(
      `SELECT count(*) AS count FROM (
         SELECT 1 FROM blobs WHERE quarantined_at IS NOT NULL
         UNION ALL
         SELECT 1 FROM integrity_findings AS finding
         JOIN manifests ON manifests.id = finding.manifest_id AND manifests.put_request = finding.put_request
         WHERE finding.manifest_id IS NOT NULL AND finding.released_at IS NULL
         LIMIT ?1)`,
    )
    .bind(most);
}

const countSchema = z.tuple([z.object({ count: z.int() })]);

export function countOf(result: D1Result | undefined): number {
  return countSchema.parse(result?.results)[0].count;
}

/** The finding holds a blob, or a manifest, that is quarantined for it. */
export function isHeldBy(id: number): SqlCondition {
  return {
    sql: `EXISTS (SELECT 1 FROM integrity_findings WHERE id = ?1 AND released_at IS NULL AND (
        EXISTS (SELECT 1 FROM blobs WHERE blobs.digest = integrity_findings.digest
          AND blobs.object_key = integrity_findings.object_key AND blobs.quarantined_at IS NOT NULL)
        OR EXISTS (SELECT 1 FROM manifests WHERE manifests.id = integrity_findings.manifest_id
          AND manifests.put_request = integrity_findings.put_request)))`,
    values: [id],
  };
}

/** Its content is served again as it is. The statements of a batch, of which the last changes a row where it was so. */
export function releaseFinding(db: D1Database, id: number, nowMs: number): D1PreparedStatement[] {
  return [
    db
      .prepare(
        `UPDATE blobs SET quarantined_at = NULL, suspect_at = ?2
         WHERE quarantined_at IS NOT NULL AND (digest, object_key) IN (
           SELECT digest, object_key FROM integrity_findings WHERE id = ?1 AND kind = 'blob' AND released_at IS NULL)`,
      )
      .bind(id, nowMs),
    db.prepare("UPDATE integrity_findings SET released_at = ?2 WHERE id = ?1 AND released_at IS NULL").bind(id, nowMs),
  ];
}

/**
 * Lets go of a finding's bad object. A blob that is still quarantined for it stays so, and names an object that never
 * was in its place: the next push brings it, for every repository that has the blob.
 */
export function discardObject(db: D1Database, id: number, newKey: string, nowMs: number): D1PreparedStatement[] {
  return [
    db
      .prepare(
        `UPDATE blobs SET object_key = ?2, suspect_at = ?3
         WHERE quarantined_at IS NOT NULL AND (digest, object_key) IN (
           SELECT digest, object_key FROM integrity_findings WHERE id = ?1 AND kind = 'blob' AND released_at IS NULL)`,
      )
      .bind(id, newKey, nowMs),
    db
      .prepare(
        "UPDATE integrity_findings SET discarded_at = ?2 WHERE id = ?1 AND released_at IS NULL AND discarded_at IS NULL",
      )
      .bind(id, nowMs),
  ];
}
