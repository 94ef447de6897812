import type { SqlCondition } from "../sql.ts";

/** Bytes were found to be others than those of their digest: one event for each repository that has them. */
type QuarantineEvent = "blob.quarantined" | "manifest.quarantined";

/** What happened, as the outbox keeps it for those who will be told. */
export interface EventRow {
  readonly kind:
    | "manifest.pushed"
    | "manifest.deleted"
    | "tag.moved"
    | "tag.deleted"
    | "blob.deleted"
    | QuarantineEvent;
  readonly repository: string;
  readonly digest: string | null;
  readonly tag: string | null;
  readonly mediaType: string | null;
  readonly artifactType: string | null;
  readonly subject: string | null;
  readonly actor: string;
  /** ms since 1970 */
  readonly nowMs: number;
}

const columns = "kind, repository, digest, tag, media_type, artifact_type, subject, actor, created_at";

/**
 * A statement for the batch of the change itself, so that neither is ever without the other.
 * @param onlyIf holds where the change is made
 */
export function insertEvent(db: D1Database, event: EventRow, onlyIf: SqlCondition): D1PreparedStatement {
  const values = [
    event.kind,
    event.repository,
    event.digest,
    event.tag,
    event.mediaType,
    event.artifactType,
    event.subject,
    event.actor,
    event.nowMs,
  ];
  const parameters = values.map((_, index) => `?${String(onlyIf.values.length + index + 1)}`).join(", ");
  return db
    .prepare(`INSERT INTO events (${columns}) SELECT ${parameters} WHERE ${onlyIf.sql}`)
    .bind(...onlyIf.values, ...values);
}

export function deleteEventsBefore(db: D1Database, beforeMs: number, limit: number): D1PreparedStatement {
  return db
    .prepare("DELETE FROM events WHERE id IN (SELECT id FROM events WHERE created_at < ?1 LIMIT ?2)")
    .bind(beforeMs, limit);
}
