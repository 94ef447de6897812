import type { Requester } from "../requester.ts";
import { insertAudit } from "../audit/store.ts";
import { findDigestOfObject, insertBlob, type NewBlob } from "../blobs/store.ts";
import type { Digest } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { unknownUpload } from "./location.ts";
import { insertFinishedUpload, selectUploadState, type UploadState } from "./store.ts";

/**
 * Writes the rows of a blob whose bytes stand in R2: one D1 batch, one transaction; a second query where it fails.
 * @throws OciError BLOB_UPLOAD_UNKNOWN where the object was given up meanwhile: its session had expired;
 * DIGEST_INVALID where it is a blob already, by a digest of the other algorithm
 */
export async function commitBlob(db: D1Database, blob: NewBlob, by: Requester): Promise<void> {
  const nowMs = Date.now();
  const results = await db.batch([auditPush(db, blob, by, nowMs, null), ...insertBlob(db, blob, null, nowMs)]);
  if (results.at(-1)?.results.length === 1) return;
  const named = await findDigestOfObject(db, blob.objectKey);
  throw named === null ? unknownUpload() : otherDigest(named);
}

/**
 * The same for an upload without a ledger: how it ended is written in the same batch, and only where nothing was yet.
 * @returns the state that stands: where it is not this end, nothing was written, and the object is garbage
 * @throws OciError BLOB_UPLOAD_UNKNOWN where the object was given up meanwhile
 */
export async function commitUpload(
  db: D1Database,
  blob: NewBlob,
  uploadId: string,
  by: Requester,
): Promise<UploadState> {
  const nowMs = Date.now();
  const results = await db.batch<UploadState>([
    insertFinishedUpload(db, uploadId, blob, nowMs),
    auditPush(db, blob, by, nowMs, uploadId),
    ...insertBlob(db, blob, uploadId, nowMs),
    selectUploadState(db, uploadId),
  ]);
  const state = results.at(-1)?.results[0];
  if (state === undefined) throw unknownUpload();
  return state;
}

/** Stands before the rows, and is made where they will be: not for an object that was given up, nor of a key that is another's. */
function auditPush(
  db: D1Database,
  { repository, digest, objectKey, size }: NewBlob,
  by: Requester,
  nowMs: number,
  uploadId: string | null,
): D1PreparedStatement {
  const ended = uploadId === null ? "?3 IS NULL" : "EXISTS (SELECT 1 FROM upload_states WHERE id = ?3 AND digest = ?1)";
  const sql = `${ended} AND (EXISTS (SELECT 1 FROM blobs WHERE digest = ?1) OR NOT EXISTS (
      SELECT 1 FROM garbage WHERE object_key = ?2 UNION ALL SELECT 1 FROM blobs WHERE object_key = ?2))`;
  const entry = { action: "blob.push", repository, digest, outcome: "ok", detail: { size } } as const;
  return insertAudit(db, by, entry, nowMs, { sql, values: [digest, objectKey, uploadId] });
}

export function otherDigest(finished: Digest): OciError {
  return new OciError("DIGEST_INVALID", { reason: "this upload has been finished with another digest", finished });
}
