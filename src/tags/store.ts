import type { Queryable } from "../databases.ts";
import { z } from "zod";
import type { Digest } from "../oci/digest.ts";
import type { Tag } from "../oci/reference.ts";
import type { RepositoryName } from "../oci/repository.ts";

const namesSchema = z.array(z.string());

export interface TagChange {
  readonly repository: RepositoryName;
  readonly digest: Digest;
  readonly tags: readonly Tag[];
  readonly actor: string;
  /** the request that put the manifest: nothing is tagged where that put was refused */
  readonly requestId: string;
  /** ms since 1970 */
  readonly nowMs: number;
}

/** Points tags at a manifest that an earlier statement of the same batch has put, and notes the moves. */
export function setTags(db: D1Database, change: TagChange): D1PreparedStatement[] {
  if (change.tags.length === 0) return [];
  const from = `FROM repositories
     JOIN manifests ON manifests.repository_id = repositories.id AND manifests.digest = ?2 AND manifests.put_request = ?3
     JOIN json_each(?4) AS wanted`;
  const moved = `${from} LEFT JOIN tags ON tags.repository_id = repositories.id AND tags.name = wanted.value
     WHERE repositories.name = ?1 AND tags.manifest_id IS NOT manifests.id`;
  const { repository, digest, requestId, actor, nowMs } = change;
  const tags = JSON.stringify(change.tags);
  return [
    db
      .prepare(
        `INSERT INTO tag_history (repository_id, name, digest, actor, created_at)
         SELECT repositories.id, wanted.value, ?2, ?5, ?6 ${moved}`,
      )
      .bind(repository, digest, requestId, tags, actor, nowMs),
    db
      .prepare(
        `INSERT INTO events (kind, repository, digest, tag, media_type, artifact_type, subject, actor, created_at)
         SELECT 'tag.moved', ?1, ?2, wanted.value, manifests.media_type, manifests.artifact_type, manifests.subject, ?5, ?6
         ${moved}`,
      )
      .bind(repository, digest, requestId, tags, actor, nowMs),
    db
      .prepare(
        `INSERT INTO tags (repository_id, name, manifest_id, updated_at)
         SELECT repositories.id, wanted.value, manifests.id, ?5 ${from} WHERE repositories.name = ?1
         ON CONFLICT (repository_id, name) DO UPDATE SET manifest_id = excluded.manifest_id, updated_at = excluded.updated_at`,
      )
      .bind(repository, digest, requestId, tags, nowMs),
  ];
}

/** Takes a tag away and leaves its manifest; the last statement changes a row exactly where there was the tag. */
export function deleteTag(
  db: D1Database,
  change: Pick<TagChange, "repository" | "actor" | "nowMs"> & { readonly tag: Tag },
): D1PreparedStatement[] {
  const from = `FROM repositories
     JOIN tags ON tags.repository_id = repositories.id AND tags.name = ?2
     JOIN manifests ON manifests.id = tags.manifest_id WHERE repositories.name = ?1`;
  const { repository, tag, actor, nowMs } = change;
  return [
    ...noteDeleted(db, from, [repository, tag], actor, nowMs),
    db
      .prepare("DELETE FROM tags WHERE repository_id = (SELECT id FROM repositories WHERE name = ?1) AND name = ?2")
      .bind(repository, tag),
  ];
}

/** Takes all tags of a manifest away: the first part of the manifest's own deletion. */
export function deleteTagsOf(
  db: D1Database,
  change: Pick<TagChange, "repository" | "digest" | "actor" | "nowMs">,
): D1PreparedStatement[] {
  const from = `FROM repositories
     JOIN manifests ON manifests.repository_id = repositories.id AND manifests.digest = ?2
     JOIN tags ON tags.manifest_id = manifests.id WHERE repositories.name = ?1`;
  const { repository, digest, actor, nowMs } = change;
  return [
    ...noteDeleted(db, from, [repository, digest], actor, nowMs),
    db
      .prepare(
        `DELETE FROM tags WHERE manifest_id = (
           SELECT manifests.id FROM repositories
           JOIN manifests ON manifests.repository_id = repositories.id AND manifests.digest = ?2
           WHERE repositories.name = ?1)`,
      )
      .bind(repository, digest),
  ];
}

function noteDeleted(
  db: D1Database,
  from: string,
  named: readonly [string, string],
  actor: string,
  nowMs: number,
): D1PreparedStatement[] {
  return [
    db
      .prepare(
        `INSERT INTO tag_history (repository_id, name, digest, actor, created_at)
         SELECT repositories.id, tags.name, NULL, ?3, ?4 ${from}`,
      )
      .bind(...named, actor, nowMs),
    db
      .prepare(
        `INSERT INTO events (kind, repository, digest, tag, media_type, artifact_type, subject, actor, created_at)
         SELECT 'tag.deleted', ?1, manifests.digest, tags.name, manifests.media_type, manifests.artifact_type,
                manifests.subject, ?3, ?4 ${from}`,
      )
      .bind(...named, actor, nowMs),
  ];
}

/**
 * Names of a repository's tags after `last`, in byte order, as one JSON array (one value: ten thousand rows of one
 * column would cost more to hand out than to find).
 * @returns null where there is no such repository
 */
export async function listTags(
  db: Queryable,
  repository: RepositoryName,
  last: string,
  limit: number,
): Promise<readonly string[] | null> {
  const row = await db
    .prepare(
      `SELECT (SELECT json_group_array(name) FROM (
                 SELECT name FROM tags WHERE repository_id = repositories.id AND name > ?2 ORDER BY name LIMIT ?3)) AS names
       FROM repositories WHERE name = ?1`,
    )
    .bind(repository, last, limit)
    .first<{ names: string }>();
  return row === null ? null : namesSchema.parse(JSON.parse(row.names));
}
