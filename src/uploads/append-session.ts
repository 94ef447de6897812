import { databaseFor } from "../databases.ts";
import { OciError } from "../oci/errors.ts";
import { appendChunk, type Chunk } from "./append.ts";
import { type Conflict, conflictOf } from "./finish.ts";
import { type UploadLocation, unknownUpload } from "./location.ts";
import { choosePartBytes } from "./part-size.ts";
import { claimUploadState, findUploadState } from "./store.ts";

/**
 * A PATCH (end-5): opens the session, with the first chunk makes it, and streams the chunk behind what it has.
 * @throws OciError BLOB_UPLOAD_UNKNOWN where the session has ended; BLOB_UPLOAD_INVALID where a final PUT came before
 */
export async function appendSession(
  env: Env,
  location: UploadLocation,
  chunk: Chunk,
): Promise<{ readonly kind: "appended"; readonly offset: number } | Conflict> {
  const chunked = chunk.range === null ? null : chunk.lengthBytes;
  const session = env.UPLOADS.getByName(location.id);
  using answer = await session.open({
    start: chunk.range?.start ?? null,
    purpose: "append",
    hasBytes: chunk.lengthBytes !== 0,
    create: location.opened ? null : { partBytes: choosePartBytes(chunked), expiresAtMs: location.expiresAtMs },
  });
  if (answer.kind === "unknown" || answer.kind === "finished") throw unknownUpload();
  if (answer.kind === "sealed") {
    throw new OciError(
      "BLOB_UPLOAD_INVALID",
      "a final PUT has ended this upload's bytes: repeat that PUT, or begin another upload with POST",
    );
  }
  if (answer.kind === "conflict") {
    const state = location.opened ? opened : await findUploadState(databaseFor(env, location.repository), location.id);
    if (state !== null && state.state !== "opened") throw unknownUpload();
    return answer;
  }
  const { lease } = answer;
  try {
    // From now on requests at the POST's location know that there is a ledger; one that ended without is over.
    if (
      !location.opened &&
      (await claimUploadState(databaseFor(env, location.repository), location.id, opened)).standing.state !== "opened"
    ) {
      await lease.discard();
      throw unknownUpload();
    }
    const ledger = await appendChunk(env.BLOBS, answer, chunk, location.algorithm ?? "sha256", "release");
    return ledger === null ? conflictOf(await session.status()) : { kind: "appended", offset: ledger.offset };
  } catch (error) {
    // Awaited, unlike the disposal at the end of this scope: the client's next request must find the session free.
    const held = await lease.release();
    if (held || error instanceof OciError) throw error;
    // What it was about to use is not in R2 any more, which says so in its own words.
    return conflictOf(await session.status());
  }
}

const opened = { state: "opened", digest: null } as const;
