import type { Digest } from "../oci/digest.ts";
import { firstUploadIdAt } from "./upload-id.ts";

/** What became of an upload. None: nothing yet but its POST. */
export type UploadState =
  | { readonly state: "opened" | "cancelled"; readonly digest: null }
  | { readonly state: "finished"; readonly digest: Digest };

/** The first state of an upload stays: a later one changes nothing. */
export function insertUploadState(db: D1Database, id: string, state: UploadState, nowMs: number): D1PreparedStatement {
  return db
    .prepare(
      "INSERT INTO upload_states (id, state, digest, created_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO NOTHING",
    )
    .bind(id, state.state, state.digest, nowMs);
}

/**
 * The state of an upload that ends with this blob. Not where the blob's object was given up meanwhile: no blob will
 * stand, and a repetition must not be told that one does.
 */
export function insertFinishedUpload(
  db: D1Database,
  id: string,
  { digest, objectKey }: { readonly digest: Digest; readonly objectKey: string },
  nowMs: number,
): D1PreparedStatement {
  return db
    .prepare(
      `INSERT INTO upload_states (id, state, digest, created_at)
       SELECT ?1, 'finished', ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM garbage WHERE object_key = ?4)
       ON CONFLICT (id) DO NOTHING`,
    )
    .bind(id, digest, nowMs, objectKey);
}

export function selectUploadState(db: D1Database, id: string): D1PreparedStatement {
  return db.prepare("SELECT state, digest FROM upload_states WHERE id = ?1").bind(id);
}

export async function findUploadState(db: D1Database, id: string): Promise<UploadState | null> {
  return selectUploadState(db, id).first<UploadState>();
}

/** Writes a state where there is none, and tells which one stands then. One query. */
export async function claimUploadState(
  db: D1Database,
  id: string,
  state: UploadState,
): Promise<{ readonly claimed: boolean; readonly standing: UploadState }> {
  const [insert, select] = await db.batch<UploadState>([
    insertUploadState(db, id, state, Date.now()),
    selectUploadState(db, id),
  ]);
  return { claimed: insert?.meta.changes === 1, standing: select?.results[0] ?? state };
}

/** Forgets at most `limit` uploads whose POST is older than `beforeMs`: their locations have expired. */
export function deleteUploadStates(db: D1Database, beforeMs: number, limit: number): D1PreparedStatement {
  return db
    .prepare("DELETE FROM upload_states WHERE id IN (SELECT id FROM upload_states WHERE id < ?1 LIMIT ?2)")
    .bind(firstUploadIdAt(beforeMs), limit);
}
