import { insertBlob, type NewBlob } from "../blobs/store.ts";
import type { Digest } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { unknownUpload } from "./location.ts";
import { finishUploadRow, selectFinishedUpload } from "./store.ts";

/**
 * Writes the rows of a blob whose bytes stand in R2: one D1 batch, one transaction.
 * @param uploadId of an upload without a ledger: its end is written in the same batch, and the first end wins
 * @throws OciError DIGEST_INVALID or BLOB_UPLOAD_UNKNOWN where the upload had ended otherwise before
 */
export async function commitBlob(db: D1Database, blob: NewBlob, uploadId: string | null): Promise<void> {
  const nowMs = Date.now();
  const rows = insertBlob(db, blob, uploadId, nowMs);
  if (uploadId === null) {
    const results = await db.batch<{ blobId: number }>(rows);
    if (results.at(-1)?.results.length !== 1) throw unknownUpload();
    return;
  }
  const results = await db.batch<{ digest: Digest | null }>([
    finishUploadRow(db, uploadId, blob.digest, nowMs),
    ...rows,
    selectFinishedUpload(db, uploadId),
  ]);
  const end = results.at(-1)?.results[0];
  if (end === undefined || end.digest === null) throw unknownUpload();
  if (end.digest !== blob.digest) throw otherDigest(end.digest);
}

export function otherDigest(finished: Digest): OciError {
  return new OciError("DIGEST_INVALID", { reason: "this upload has been finished with another digest", finished });
}
