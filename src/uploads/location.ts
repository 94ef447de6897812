import { createHmac, timingSafeEqual } from "node:crypto";
import type { Principal } from "../requester.ts";
import type { DigestAlgorithm } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import type { RepositoryName } from "../oci/repository.ts";
import { newUploadId, uploadIdTime } from "./upload-id.ts";

/**
 * An upload session as its location states it. POST stores nothing: the location itself, signed, says that the session
 * was handed out, when, to whom, for which repository and algorithm.
 */
export interface UploadLocation {
  /** a UUID that begins with the time of the POST, so that ids sort by it */
  readonly id: string;
  readonly repository: RepositoryName;
  /** announced with `?digest-algorithm=` (end-4c), or null */
  readonly algorithm: DigestAlgorithm | null;
  /** whether a ledger (Durable Object) was made: set in the locations that a PATCH answers */
  readonly opened: boolean;
  /** ms since 1970 */
  readonly expiresAtMs: number;
}

const encoder = new TextEncoder();

interface SigningContext {
  readonly key: string;
  readonly principal: Principal;
  readonly ttlSeconds: number;
}

export function newUploadLocation(
  repository: RepositoryName,
  algorithm: DigestAlgorithm | null,
  ttlSeconds: number,
  nowMs: number,
): UploadLocation {
  return { id: newUploadId(nowMs), repository, algorithm, opened: false, expiresAtMs: nowMs + ttlSeconds * 1000 };
}

/** The `<reference>` of the upload's URL: `<id>.<state>.<mac>`, all in the path, where no client loses it. */
export function formatUploadReference(location: UploadLocation, context: SigningContext): string {
  const state = stateOf(location);
  return `${location.id}.${state}.${mac(context, location.repository, location.id, state)}`;
}

/**
 * @throws OciError BLOB_UPLOAD_UNKNOWN for a reference that this registry did not hand out to this principal for this
 * repository, or that has expired; which of them is not told apart
 */
export function parseUploadReference(
  reference: string,
  repository: RepositoryName,
  context: SigningContext,
  nowMs: number,
): UploadLocation {
  const match =
    /^([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})\.([no])([025])\.([A-Za-z0-9_-]{22})$/.exec(
      reference,
    );
  if (match === null) throw unknownUpload();
  const [, id = "", opened = "", algorithm = "", signature = ""] = match;
  // As text: bytes would forgive the spare bits of the last character, and one session would have several names.
  const expected = mac(context, repository, id, `${opened}${algorithm}`);
  if (!timingSafeEqual(encoder.encode(signature), encoder.encode(expected))) throw unknownUpload();
  const expiresAtMs = uploadIdTime(id) + context.ttlSeconds * 1000;
  if (expiresAtMs <= nowMs) throw unknownUpload();
  return {
    id,
    repository,
    algorithm: algorithm === "2" ? "sha256" : algorithm === "5" ? "sha512" : null,
    opened: opened === "o",
    expiresAtMs,
  };
}

export function unknownUpload(): OciError {
  return new OciError(
    "BLOB_UPLOAD_UNKNOWN",
    "no such upload session in this repository: it is finished, cancelled, given up, expired, or was never begun; begin another with POST",
  );
}

function stateOf(location: UploadLocation): string {
  const algorithm = location.algorithm === null ? "0" : location.algorithm === "sha256" ? "2" : "5";
  return `${location.opened ? "o" : "n"}${algorithm}`;
}

function mac(context: SigningContext, repository: RepositoryName, id: string, state: string): string {
  // Line breaks part the fields: none of them can hold one, so no two sessions sign the same text.
  const text = `upload\n${repository}\n${context.principal.name}\n${id}\n${state}`;
  return createHmac("sha256", context.key).update(text).digest("base64url").slice(0, 22);
}
