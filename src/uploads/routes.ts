import { Hono } from "hono";
import type { Context } from "hono";
import { access } from "../access/access.ts";
import { configOf } from "../config.ts";
import type { RepositoryEnv } from "../env.ts";
import { contentLength } from "../http/body.ts";
import { type ByteRange, parseChunkRange } from "../http/range.ts";
import { PART_BYTES } from "../limits.ts";
import { type Digest, emptyDigests, parseDigest, parseDigestAlgorithm } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { parseRepositoryName } from "../oci/repository.ts";
import { appendSession } from "./append-session.ts";
import type { Chunk } from "./append.ts";
import { commitBlob, otherDigest } from "./commit.ts";
import { type Conflict, finishSession } from "./finish.ts";
import {
  formatUploadReference,
  newUploadLocation,
  parseUploadReference,
  type UploadLocation,
  unknownUpload,
} from "./location.ts";
import { mountBlob } from "./mount.ts";
import { digestMismatch, putWhole } from "./put-whole.ts";
import { signingKey } from "./signing-key.ts";
import { findFinishedUpload, finishUploadRow } from "./store.ts";

export const uploads = new Hono<RepositoryEnv>();

/** Both spellings: some clients leave the last slash away. */
const collection = ["/v2/:name{.+}/blobs/uploads/", "/v2/:name{.+}/blobs/uploads"];
const session = "/v2/:name{.+}/blobs/uploads/:upload";

/**
 * end-4a, end-4b (`digest`), end-4c (`digest-algorithm`), end-11 (`mount`): distribution-spec v1.1.1 «Pushing Blobs»;
 * end-4c and the mount without `from` are of main.
 * D1: 0, 1 with `digest`, 1 to 2 with `mount`. R2: 0, 1 with `digest`. Durable Object: 0.
 */
uploads.on("POST", collection, access("push"), async (c) => {
  const repository = c.var.repository;
  const mount = c.req.query("mount");
  if (mount !== undefined) {
    const from = c.req.query("from");
    const mounted = parseDigest(mount);
    const source = from === undefined || from === "" ? null : parseRepositoryName(from);
    const mayPull = (name: typeof repository): boolean => c.var.may("pull", name);
    if (await mountBlob(c.env.DB, repository, mounted, source, mayPull)) return created(c, mounted);
    return begun(c);
  }
  const digestParameter = c.req.query("digest");
  if (digestParameter === undefined) return begun(c);
  const digest = parseDigest(digestParameter);
  const stored = await putWhole(c.env.BLOBS, c.req.raw.body, contentLength(c), digest);
  await commitBlob(c.env.DB, { repository, digest, ...stored }, null);
  return created(c, digest);
});

/** end-5, distribution-spec v1.1.1 «Pushing a blob in chunks». Durable Object: 1 session; D1: 1 for the first chunk. */
uploads.patch(session, access("push"), async (c) => {
  const location = await locationOf(c);
  const chunk = chunkOf(c);
  // A client that goes away ends its request; the last bytes that came, and the lease, are still to be put in order.
  const appended = appendSession(c.env, location, chunk);
  c.executionCtx.waitUntil(appended.catch(() => undefined));
  const answer = await appended;
  if (answer.kind === "conflict") throw await outOfOrder(c, location, answer);
  return c.body(null, 202, await progressHeaders(c, { ...location, opened: true }, answer.offset));
});

/**
 * end-6, distribution-spec v1.1.1 «Pushing Blobs».
 * D1: 1. R2: 1. Durable Object: 0 where no chunk came before and the bytes are the digest's, else 1 session.
 */
uploads.put(session, access("push"), async (c) => {
  const digestParameter = c.req.query("digest");
  if (digestParameter === undefined) {
    throw new OciError("DIGEST_INVALID", "the final PUT of an upload names its digest: ?digest=<algorithm>:<hex>");
  }
  const digest = parseDigest(digestParameter);
  const location = await locationOf(c);
  const chunk = chunkOf(c);
  const bytes = chunk.lengthBytes === 0 ? null : chunk;
  if (location.opened || (await continuesSession(c, location, bytes))) {
    const finished = finishSession(c.env, location, digest, bytes, chunk.range?.start ?? null);
    c.executionCtx.waitUntil(finished.catch(() => undefined));
    const answer = await finished;
    if (answer.kind === "conflict") throw await outOfOrder(c, location, answer);
    return created(c, digest);
  }
  if (bytes === null && !emptyDigests.includes(digest)) return repeatedFinish(c, location, digest);
  if (chunk.range !== null && chunk.range.start !== 0) throw await outOfOrder(c, location, { kind: "conflict", offset: 0 });
  const stored = await putWhole(c.env.BLOBS, bytes?.body ?? null, chunk.lengthBytes, digest).catch((error: unknown) =>
    explainMismatch(c, location, error),
  );
  await commitBlob(c.env.DB, { repository: c.var.repository, digest, ...stored }, location.id);
  return created(c, digest);
});

/** end-13, distribution-spec v1.1.1 «Pushing a blob in chunks»; GET and HEAD. Durable Object: 1; D1: 1 before any chunk. */
uploads.get(session, access("push"), async (c) => {
  const location = await locationOf(c);
  const status = await c.env.UPLOADS.getByName(location.id).status();
  if (status.kind === "ended" || (status.kind === "absent" && location.opened)) throw unknownUpload();
  if (status.kind === "absent" && (await findFinishedUpload(c.env.DB, location.id)) !== null) throw unknownUpload();
  return c.body(null, 204, await progressHeaders(c, location, status.kind === "open" ? status.offset : 0));
});

/** end-14, distribution-spec main «Canceling an upload». D1: 1 before any chunk; Durable Object: 1 after one. */
uploads.delete(session, access("push"), async (c) => {
  const location = await locationOf(c);
  if (location.opened) {
    const outcome = await c.env.UPLOADS.getByName(location.id).cancel();
    if (outcome !== "cancelled") throw unknownUpload();
    return c.body(null, 204);
  }
  const { meta } = await finishUploadRow(c.env.DB, location.id, null, Date.now()).run();
  if (meta.changes === 0) throw unknownUpload();
  return c.body(null, 204);
});

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

function created(c: UploadContext, digest: Digest): Response {
  return c.body(null, 201, {
    Location: `/v2/${c.var.repository}/blobs/${digest}`,
    "Docker-Content-Digest": digest,
  });
}

async function progressHeaders(c: UploadContext, location: UploadLocation, offset: number): Promise<Record<string, string>> {
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
      reason: "the chunk does not begin where the upload stands, or another request is writing to it; go on after Range",
      offset: conflict.offset,
    },
    { status: 416, headers: await progressHeaders(c, location, conflict.offset) },
  );
}

/** A final PUT at the location of the POST, though chunks came: some clients keep the first location. */
async function continuesSession(c: UploadContext, location: UploadLocation, bytes: Chunk | null): Promise<boolean> {
  // With bytes and no Content-Range it is the whole blob, by far the commonest push: no object is asked.
  if (bytes !== null && bytes.range === null) return false;
  const status = await c.env.UPLOADS.getByName(location.id).status();
  return status.kind !== "absent";
}

/** The bytes of a final PUT at the POST's location may be no whole blob, but the last chunk of one. */
async function explainMismatch(c: UploadContext, location: UploadLocation, error: unknown): Promise<never> {
  if (error instanceof OciError && error.code === "DIGEST_INVALID") {
    const status = await c.env.UPLOADS.getByName(location.id).status();
    if (status.kind === "open") throw await outOfOrder(c, location, { kind: "conflict", offset: status.offset });
  }
  throw error;
}

/** An empty final PUT of a session without chunks: right only where the upload was finished so before. */
async function repeatedFinish(c: UploadContext, location: UploadLocation, digest: Digest): Promise<Response> {
  const finished = await findFinishedUpload(c.env.DB, location.id);
  if (finished === null) throw digestMismatch(digest);
  if (finished.digest === null) throw unknownUpload();
  if (finished.digest !== digest) throw otherDigest(finished.digest);
  return created(c, digest);
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
  const span = range.end - range.start + 1;
  if (lengthBytes !== null && lengthBytes !== span) {
    throw new OciError("SIZE_INVALID", {
      reason: "Content-Range and Content-Length tell different lengths",
      contentRangeBytes: span,
      contentLength: lengthBytes,
    });
  }
  return range;
}

async function signingContext(c: UploadContext) {
  return {
    key: await signingKey(c.env.DB),
    principal: c.var.principal,
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
