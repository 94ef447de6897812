import { Hono } from "hono";
import type { Context } from "hono";
import { access, requireScopeToPull } from "../access/access.ts";
import { authorityOf } from "../access/login.ts";
import { noteRefusal } from "../access/note-refusal.ts";
import { permissionsOf } from "../access/policy.ts";
import { notePush } from "../audit/pulls.ts";
import { configOf } from "../config.ts";
import { databaseFor } from "../databases.ts";
import type { RepositoryEnv } from "../env.ts";
import { contentLength } from "../http/body.ts";
import { type ByteRange, bytesIn, parseChunkRange } from "../http/range.ts";
import { PART_BYTES } from "../limits.ts";
import { type Digest, parseDigest, parseDigestAlgorithm } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { parseRepositoryName, type RepositoryName } from "../oci/repository.ts";
import { appendSession } from "./append-session.ts";
import { type Chunk, noChunk } from "./append.ts";
import { commitBlob, commitUpload, otherDigest } from "./commit.ts";
import { type Conflict, finishSession } from "./finish.ts";
import {
  formatUploadReference,
  newUploadLocation,
  parseUploadReference,
  type UploadLocation,
  unknownUpload,
} from "./location.ts";
import { mountBlob, mountCandidates } from "./mount.ts";
import { EmptyBody, putWhole } from "./put-whole.ts";
import { signingKey } from "./signing-key.ts";
import { claimUploadState, findUploadState, type UploadState } from "./store.ts";

export const uploads = new Hono<RepositoryEnv>();

/** Both spellings: some clients leave the last slash away. */
const collection = ["/v2/:name{.+}/blobs/uploads/", "/v2/:name{.+}/blobs/uploads"];
const session = "/v2/:name{.+}/blobs/uploads/:upload";

/**
 * end-4a, end-4b (`digest`), end-4c (`digest-algorithm`), end-11 (`mount`): distribution-spec v1.1.1 «Pushing Blobs»;
 * end-4c and the mount without `from` are of main.
 * D1: 0, 1 with `digest`, 1 to 2 with `mount`; 1 more where it links nothing, to ask what a bearer's holder may pull or to
 * note what it may not. R2: 0, 1 with `digest`. Durable Object: 0.
 */
uploads.on("POST", collection, access("push"), async (c) => {
  const repository = c.var.repository;
  const mount = c.req.query("mount");
  if (mount !== undefined) {
    const from = c.req.query("from");
    const mounted = parseDigest(mount);
    const source = from === undefined || from === "" ? null : parseRepositoryName(from);
    const mayPull = (name: typeof repository): boolean => c.var.caller.permissions.may("pull", name);
    if (source !== null) requireScopeToPull(c, source);
    const candidates = await mountCandidates(databaseOf(c), mounted, source);
    if (await mountBlob(databaseOf(c), { into: repository, digest: mounted, candidates, mayPull }, c.var.requester)) {
      return created(c, mounted);
    }
    if (source === null) await offerSource(c, candidates);
    else if (!mayPull(source)) await noteRefusal(databaseOf(c), c.var.requester, "pull", source);
    return begun(c);
  }
  const digestParameter = c.req.query("digest");
  if (digestParameter === undefined) return begun(c);
  const digest = parseDigest(digestParameter);
  const stored = await putWhole(c.env.BLOBS, c.req.raw.body, contentLength(c), digest);
  await commitBlob(databaseOf(c), { repository, digest, ...stored }, c.var.requester);
  notePushed(c, digest, stored.size);
  return created(c, digest);
});

/** end-5, distribution-spec v1.1.1 «Pushing a blob in chunks». Durable Object: 1 session; D1: 1 for the first chunk. */
uploads.patch(session, access("push"), async (c) => {
  const location = await locationOf(c);
  const answer = await appendSession(c.env, location, chunkOf(c));
  if (answer.kind === "conflict") throw await outOfOrder(c, location, answer);
  return c.body(null, 202, await progressHeaders(c, { ...location, opened: true }, answer.offset));
});

/**
 * end-6, distribution-spec v1.1.1 «Pushing Blobs».
 * D1: 1, 2 with an empty body or a Content-Range at the POST's location. R2: 1. Durable Object: 0 where no chunk came
 * before, else 1 session.
 */
uploads.put(session, access("push"), async (c) => {
  const digestParameter = c.req.query("digest");
  if (digestParameter === undefined) {
    throw new OciError("DIGEST_INVALID", "the final PUT of an upload names its digest: ?digest=<algorithm>:<hex>");
  }
  const digest = parseDigest(digestParameter);
  const location = await locationOf(c);
  const chunk = chunkOf(c);
  if (location.opened) return finishOpened(c, location, digest, chunk);
  // With bytes and no Content-Range it is the whole blob, by far the commonest push: nothing is asked beforehand.
  if (chunk.lengthBytes === 0 || chunk.range !== null) {
    const state = await findUploadState(databaseOf(c), location.id);
    if (state !== null) return finishAgain(c, location, digest, chunk, state);
    if (chunk.range !== null && chunk.range.start !== 0)
      throw await outOfOrder(c, location, { kind: "conflict", offset: 0 });
  }
  const stored = await putWhole(c.env.BLOBS, chunk.body, chunk.lengthBytes, digest).catch((error: unknown) =>
    explainMismatch(c, location, digest, error),
  );
  if (stored instanceof Response) return stored;
  if (chunk.range !== null && stored.size !== chunk.range.end + 1) {
    await c.env.BLOBS.delete(stored.objectKey);
    throw new OciError("SIZE_INVALID", {
      reason: "the blob is not as long as its Content-Range says",
      size: stored.size,
    });
  }
  const blob = { repository: c.var.repository, digest, ...stored };
  const state = await commitUpload(databaseOf(c), blob, location.id, c.var.requester);
  if (state.state === "finished" && state.digest === digest) notePushed(c, digest, stored.size);
  return finishAgain(c, location, digest, stored.size === 0 ? noChunk : null, state);
});

/** end-13, distribution-spec v1.1.1 «Pushing a blob in chunks»; GET and HEAD. D1: 1 at the POST's location; Durable Object: 1 after a chunk. */
uploads.get(session, access("push"), async (c) => {
  const location = await locationOf(c);
  const state = location.opened ? opened : await findUploadState(databaseOf(c), location.id);
  if (state === null) return c.body(null, 204, await progressHeaders(c, location, 0));
  if (state.state !== "opened") throw unknownUpload();
  const status = await c.env.UPLOADS.getByName(location.id).status();
  if (status.kind !== "open") throw unknownUpload();
  return c.body(null, 204, await progressHeaders(c, { ...location, opened: true }, status.offset));
});

/** end-14, distribution-spec main «Canceling an upload». D1: 1 at the POST's location; Durable Object: 1 after a chunk. */
uploads.delete(session, access("push"), async (c) => {
  const location = await locationOf(c);
  if (!location.opened) {
    const { claimed, standing } = await claimUploadState(databaseOf(c), location.id, {
      state: "cancelled",
      digest: null,
    });
    if (claimed) return c.body(null, 204);
    if (standing.state !== "opened") throw unknownUpload();
  }
  const outcome = await c.env.UPLOADS.getByName(location.id).cancel();
  if (outcome !== "cancelled") throw unknownUpload();
  return c.body(null, 204);
});

const opened: UploadState = { state: "opened", digest: null };

/**
 * A mount without `from` that found no source may have one in a repository that the caller could pull, and whose scope
 * its token does not have: the 401 names it.
 */
async function offerSource(c: UploadContext, candidates: readonly RepositoryName[]): Promise<void> {
  const { caller } = c.var;
  if (caller.proof !== "bearer") return;
  const authority = candidates.length === 0 ? null : await authorityOf(c.env, caller.principal, Date.now());
  if (authority === null) return;
  const { may } = permissionsOf(authority, []);
  const source = candidates.find((candidate) => may("pull", candidate));
  if (source !== undefined) requireScopeToPull(c, source);
}

type UploadContext = Context<RepositoryEnv, string>;

/** 202 with the location of a new session. Nothing is stored for it: making an object costs more than a small push. */
async function begun(c: UploadContext): Promise<Response> {
  const announced = c.req.query("digest-algorithm");
  const algorithm = announced === undefined ? null : parseDigestAlgorithm(announced);
  const { UPLOAD_TTL_SECONDS } = configOf(c.env);
  const location = newUploadLocation(c.var.repository, algorithm, UPLOAD_TTL_SECONDS, Date.now());
  return c.body(null, 202, {
    Location: await pathOf(c, location),
    Range: "0-0",
    "Docker-Upload-UUID": location.id,
    "OCI-Chunk-Min-Length": String(PART_BYTES),
  });
}

function notePushed(c: UploadContext, digest: Digest, size: number): void {
  const repository = c.get("repository");
  notePush(c.env, c.get("requester"), { kind: "blob.push", repository, reference: null, digest, size });
}

function created(c: UploadContext, digest: Digest): Response {
  return c.body(null, 201, {
    Location: `/v2/${c.var.repository}/blobs/${digest}`,
    "Docker-Content-Digest": digest,
  });
}

async function progressHeaders(
  c: UploadContext,
  location: UploadLocation,
  offset: number,
): Promise<Record<string, string>> {
  return {
    Location: await pathOf(c, { ...location, opened: location.opened || offset > 0 }),
    // A session without bytes says 0-0 too: clients read the last number, and the spec has no form for none.
    Range: `0-${String(Math.max(0, offset - 1))}`,
    "Docker-Upload-UUID": location.id,
  };
}

async function outOfOrder(c: UploadContext, location: UploadLocation, conflict: Conflict): Promise<OciError> {
  return new OciError(
    "BLOB_UPLOAD_INVALID",
    {
      reason:
        "the chunk does not begin where the upload stands, or another request is writing to it; go on after Range",
      offset: conflict.offset,
    },
    { status: 416, headers: await progressHeaders(c, location, conflict.offset) },
  );
}

async function finishOpened(
  c: UploadContext,
  location: UploadLocation,
  digest: Digest,
  chunk: Chunk,
): Promise<Response> {
  const answer = await finishSession(c.env, location, digest, chunk, c.var.requester);
  if (answer.kind === "conflict") throw await outOfOrder(c, location, answer);
  if (answer.size !== null) notePushed(c, digest, answer.size);
  return created(c, digest);
}

/**
 * A final PUT at the location of the POST, of an upload that has come somewhere already.
 * @param chunk null: its bytes were read as a whole blob, which only another state than this one's own end makes wrong
 */
async function finishAgain(
  c: UploadContext,
  location: UploadLocation,
  digest: Digest,
  chunk: Chunk | null,
  state: UploadState,
): Promise<Response> {
  if (state.state === "cancelled") throw unknownUpload();
  if (state.state === "finished") {
    if (state.digest !== digest) throw otherDigest(state.digest);
    return created(c, digest);
  }
  // Some clients keep the first location, though a PATCH answered another.
  if (chunk !== null) return finishOpened(c, location, digest, chunk);
  const status = await c.env.UPLOADS.getByName(location.id).status();
  if (status.kind === "open") throw await outOfOrder(c, location, { kind: "conflict", offset: status.offset });
  return finishOpened(c, location, digest, noChunk);
}

/** The bytes of a final PUT at the POST's location may be no whole blob, but the last chunk of one, or a repetition. */
async function explainMismatch(
  c: UploadContext,
  location: UploadLocation,
  digest: Digest,
  error: unknown,
): Promise<Response> {
  if (error instanceof OciError && error.code === "DIGEST_INVALID") {
    const state = await findUploadState(databaseOf(c), location.id);
    if (state !== null && error instanceof EmptyBody) return finishAgain(c, location, digest, noChunk, state);
    if (state?.state === "opened") return finishAgain(c, location, digest, null, state);
    if (state?.state === "cancelled") throw unknownUpload();
  }
  throw error;
}

function chunkOf(c: UploadContext): Chunk {
  const lengthBytes = contentLength(c);
  return { body: c.req.raw.body, lengthBytes, range: chunkRange(c.req.header("content-range"), lengthBytes) };
}

function chunkRange(header: string | undefined, lengthBytes: number | null): ByteRange | null {
  if (header === undefined) return null;
  const range = parseChunkRange(header);
  if (range === null) {
    throw new OciError("BLOB_UPLOAD_INVALID", {
      reason: "Content-Range of a chunk has the form <first byte>-<last byte>",
      contentRange: header.slice(0, 100),
    });
  }
  const span = bytesIn(range);
  if (lengthBytes !== null && lengthBytes !== span) {
    throw new OciError("SIZE_INVALID", {
      reason: "Content-Range and Content-Length tell different lengths",
      contentRangeBytes: span,
      contentLength: lengthBytes,
    });
  }
  return range;
}

function databaseOf(c: UploadContext): D1Database {
  return databaseFor(c.env, c.get("repository"));
}

async function signingContext(c: UploadContext) {
  return {
    key: await signingKey(databaseOf(c)),
    principal: c.var.requester.principal,
    ttlSeconds: configOf(c.env).UPLOAD_TTL_SECONDS,
  };
}

async function pathOf(c: UploadContext, location: UploadLocation): Promise<string> {
  return `/v2/${location.repository}/blobs/uploads/${formatUploadReference(location, await signingContext(c))}`;
}

async function locationOf(c: UploadContext): Promise<UploadLocation> {
  const reference = c.req.param("upload") ?? "";
  return parseUploadReference(reference, c.var.repository, await signingContext(c), Date.now());
}
