/** No finding of src/integrity holds the object. */
export function isUnheldObject(key: string): string {
  return `NOT EXISTS (SELECT 1 FROM integrity_findings AS finding
    WHERE finding.object_key = ${key} AND finding.released_at IS NULL AND finding.discarded_at IS NULL)`;
}

/**
 * Puts R2 keys down for deletion, except those that a row names or a finding holds. From then on no row can: inserts look here first. So a
 * request that does not know how far another one came (a crash, a lost answer) may always let go of its keys.
 */
export function insertGarbage(db: D1Database, objectKeys: readonly string[], nowMs: number): D1PreparedStatement {
  return db
    .prepare(
      `INSERT INTO garbage (object_key, created_at)
       SELECT value, ?2 FROM json_each(?1)
       WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE object_key = value)
         AND NOT EXISTS (SELECT 1 FROM manifests WHERE object_key = value)
         AND ${isUnheldObject("value")}
       ON CONFLICT (object_key) DO NOTHING`,
    )
    .bind(JSON.stringify(objectKeys), nowMs);
}

/** Forgets at most `limit` keys whose objects R2 deleted before: no request that knew them can still be on its way. */
export function deleteTombstones(db: D1Database, beforeMs: number, limit: number): D1PreparedStatement {
  return db
    .prepare("DELETE FROM garbage WHERE object_key IN (SELECT object_key FROM garbage WHERE deleted_at < ?1 LIMIT ?2)")
    .bind(beforeMs, limit);
}
