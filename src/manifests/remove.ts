import type { Requester } from "../requester.ts";
import { insertAudit } from "../audit/store.ts";
import { insertEvent } from "../events/outbox.ts";
import type { Digest } from "../oci/digest.ts";
import type { Tag } from "../oci/reference.ts";
import type { RepositoryName } from "../oci/repository.ts";
import { deleteTag, deleteTagsOf } from "../tags/store.ts";

interface Removal {
  readonly repository: RepositoryName;
  readonly by: Requester;
}

/**
 * end-9 with a tag: the tag goes, the manifest stays. One D1 batch.
 * @returns whether there was the tag
 */
export async function removeTag(db: D1Database, tag: Tag, removal: Removal): Promise<boolean> {
  const { repository, by } = removal;
  const nowMs = Date.now();
  const sql = `EXISTS (SELECT 1 FROM repositories JOIN tags ON tags.repository_id = repositories.id AND tags.name = ?2
     WHERE repositories.name = ?1)`;
  const entry = { action: "tag.delete", repository, reference: tag, outcome: "ok" } as const;
  const results = await db.batch([
    insertAudit(db, by, entry, nowMs, { sql, values: [repository, tag] }),
    ...deleteTag(db, { repository, actor: by.principal.name, tag, nowMs }),
  ]);
  return (results.at(-1)?.meta.changes ?? 0) > 0;
}

/**
 * end-9 with a digest: the manifest goes with its tags and edges, and the blobs that it named are looked at by the
 * collector. Its referrers stay, listed under its digest. One D1 batch.
 * @returns whether there was the manifest
 */
export async function removeManifest(db: D1Database, digest: Digest, removal: Removal): Promise<boolean> {
  const { repository, by } = removal;
  const actor = by.principal.name;
  const nowMs = Date.now();
  const id = `(SELECT manifests.id FROM repositories
     JOIN manifests ON manifests.repository_id = repositories.id AND manifests.digest = ?2 WHERE repositories.name = ?1)`;
  const event = { kind: "manifest.deleted", repository, digest, tag: null, actor, nowMs } as const;
  const isThere = { sql: `${id} IS NOT NULL`, values: [repository, digest] };
  const unknown = { mediaType: null, artifactType: null, subject: null };
  const results = await db.batch([
    ...deleteTagsOf(db, { repository, digest, actor, nowMs }),
    insertEvent(db, { ...event, ...unknown }, isThere),
    insertAudit(db, by, { action: "manifest.delete", repository, digest, outcome: "ok" }, nowMs, isThere),
    db
      .prepare(
        `UPDATE repository_blobs SET suspect_at = ?3
         WHERE repository_id = (SELECT id FROM repositories WHERE name = ?1) AND blob_id IN (
           SELECT blobs.id FROM manifest_references JOIN blobs ON blobs.digest = manifest_references.digest
           WHERE manifest_references.manifest_id = ${id})`,
      )
      .bind(repository, digest, nowMs),
    db.prepare(`DELETE FROM manifest_references WHERE manifest_id = ${id}`).bind(repository, digest),
    db
      .prepare(
        `INSERT INTO garbage (object_key, created_at)
         SELECT object_key, ?3 FROM manifests WHERE id = ${id} AND object_key IS NOT NULL`,
      )
      .bind(repository, digest, nowMs),
    db.prepare(`DELETE FROM manifests WHERE id = ${id}`).bind(repository, digest),
  ]);
  return (results.at(-1)?.meta.changes ?? 0) > 0;
}
