import { OciError } from "../oci/errors.ts";
import { appendChunk, type Chunk } from "./append.ts";
import type { Conflict } from "./finish.ts";
import { type UploadLocation, unknownUpload } from "./location.ts";
import { choosePartBytes } from "./part-size.ts";
import { findFinishedUpload } from "./store.ts";

/**
 * A PATCH (end-5): opens the session, with the first chunk makes it, and streams the chunk behind what it has.
 * @throws OciError BLOB_UPLOAD_UNKNOWN where the session has ended
 */
export async function appendSession(
  env: Env,
  location: UploadLocation,
  chunk: Chunk,
): Promise<{ readonly kind: "appended"; readonly offset: number } | Conflict> {
  // What ended without a ledger is known to the database alone; a location that a PATCH answered has one.
  if (!location.opened && (await findFinishedUpload(env.DB, location.id)) !== null) throw unknownUpload();
  const chunked = chunk.range === null ? null : chunk.lengthBytes;
  using answer = await env.UPLOADS.getByName(location.id).open({
    start: chunk.range?.start ?? null,
    purpose: "append",
    create: location.opened ? null : { partBytes: choosePartBytes(chunked), expiresAtMs: location.expiresAtMs },
  });
  if (answer.kind === "unknown" || answer.kind === "finished") throw unknownUpload();
  if (answer.kind === "conflict") return answer;
  const { ledger, lease } = answer;
  try {
    const end = await appendChunk(env.BLOBS, ledger, lease, chunk, location.algorithm ?? "sha256", "release");
    if (end === null) return { kind: "conflict", offset: ledger.offset };
    return { kind: "appended", offset: end.offset };
  } catch (error) {
    // Awaited, unlike the disposal at the end of this scope: the client's next request must find the session free.
    const held = await lease.release();
    // Cancelled or expired meanwhile: then R2 knows nothing of the upload any more, and says so in its own words.
    throw held || error instanceof OciError ? error : unknownUpload();
  }
}
