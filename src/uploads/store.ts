import type { Digest } from "../oci/digest.ts";
import { sortableTime } from "../blobs/keys.ts";

/** How an upload without a ledger ended. */
export interface FinishedUploadRow {
  /** null: it was cancelled */
  readonly digest: Digest | null;
}

/** First end wins: a later one changes nothing. */
export function finishUploadRow(db: D1Database, id: string, digest: Digest | null, nowMs: number): D1PreparedStatement {
  return db
    .prepare("INSERT INTO finished_uploads (id, digest, created_at) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING")
    .bind(id, digest, nowMs);
}

export function selectFinishedUpload(db: D1Database, id: string): D1PreparedStatement {
  return db.prepare("SELECT digest FROM finished_uploads WHERE id = ?1").bind(id);
}

export async function findFinishedUpload(db: D1Database, id: string): Promise<FinishedUploadRow | null> {
  return selectFinishedUpload(db, id).first<FinishedUploadRow>();
}

/** Forgets uploads whose POST is older than `beforeMs`: their locations have expired. */
export function deleteFinishedUploads(db: D1Database, beforeMs: number): D1PreparedStatement {
  return db.prepare("DELETE FROM finished_uploads WHERE id < ?1").bind(sortableTime(beforeMs));
}
