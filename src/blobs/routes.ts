import { type Context, Hono } from "hono";
import { access } from "../access/access.ts";
import { notePull } from "../audit/pulls.ts";
import { configOf } from "../config.ts";
import { databaseFor, read } from "../databases.ts";
import { blobHeaders } from "../edge/content-headers.ts";
import { heldMs } from "../edge/freshness.ts";
import { type Bytes, findHeld, forget, isCached, readHeld, readObject } from "../edge/edge.ts";
import type { Held } from "../edge/held.ts";
import type { CacheResult } from "../trace/trace.ts";
import type { RepositoryEnv } from "../env.ts";
import { etagOf, isNotModified, rangeStands } from "../http/conditional.ts";
import { stampedResponse } from "../edge/stamp.ts";
import { type ByteRange, bytesIn, parseRange } from "../http/range.ts";
import { type Digest, parseDigest } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { multipartRanges } from "./multipart-ranges.ts";
import { removeBlob } from "./remove.ts";
import { isRedirected, presignedUrl } from "./redirect.ts";
import { type BlobRow, findBlob, isQuarantined } from "./store.ts";

export const blobs = new Hono<RepositoryEnv>();

/** Not `uploads`: where the path of end-4a has no last slash, its other methods are 405, not a digest that is none. */
const blob = "/v2/:name{.+}/blobs/:digest{(?!uploads$)[^/]+}";

/**
 * end-2, GET and HEAD: distribution-spec v1.1.1 «Pulling blobs», with RFC 9110 ranges and validators.
 * D1: 1, 1 more for a GET of what is not there, to say why; R2: 1 for a GET, k for one of k ranges. Of who may not push: 0 and 0 where it is cached; one R2 read more
 * where the data centre's cache is filled; a digest that is not there is asked for twice (D1: 2). A GET that
 * REDIRECT_MIN_BYTES sends to R2 itself reads nothing of it (D1: 1).
 */
blobs.get(blob, access("pull"), async (c) => {
  const digest = parseDigest(c.req.param("digest"));
  const source = await findSource(c, digest);
  const { size, freshMs } = source;
  const etag = etagOf(digest);
  const headers = blobHeaders(c.env, c.get("repository"), digest, size, freshMs);
  if (isNotModified(c.req.header("if-none-match"), etag)) {
    const { "Cache-Control": control = "" } = headers;
    return c.body(null, 304, { ETag: etag, "Docker-Content-Digest": digest, "Cache-Control": control });
  }
  // HEAD has no ranges: RFC 9110 section 14.2 defines them for GET alone.
  if (c.req.method === "HEAD") return stampedResponse(c, null, headers);
  if (isRedirected(c.env, size)) return redirect(c, digest, source);
  const wanted = rangeStands(c.req.header("if-range"), etag) ? parseRange(c.req.header("range"), size) : whole;
  if (wanted.kind === "unsatisfiable") {
    throw new OciError(
      "BLOB_UPLOAD_INVALID",
      { reason: "no byte of the range lies in the blob", range: c.req.header("range"), size },
      { status: 416, headers: { "Content-Range": `bytes */${String(size)}` } },
    );
  }
  if (wanted.kind === "whole") {
    const { body, result } = await source.read(null);
    notePulled(c, digest, size, result);
    return stampedResponse(c, body, headers);
  }
  const [first, ...rest] = wanted.ranges;
  if (rest.length === 0) {
    const { body, result } = await source.read(first);
    notePulled(c, digest, size, result);
    return new Response(body, {
      status: 206,
      headers: {
        ...headers,
        "Content-Length": String(bytesIn(first)),
        "Content-Range": `bytes ${String(first.start)}-${String(first.end)}/${String(size)}`,
      },
    });
  }
  notePulled(c, digest, size, source.result);
  const several = multipartRanges(wanted.ranges, size, async (range) => streamOf((await source.read(range)).body));
  return new Response(several.body, {
    status: 206,
    headers: { ...headers, "Content-Length": String(several.lengthBytes), "Content-Type": several.contentType },
  });
});

/** end-10: distribution-spec v1.1.1 «Deleting Blobs». This repository alone loses it, at once. D1: 1. */
blobs.delete(blob, access("delete"), async (c) => {
  const digest = parseDigest(c.req.param("digest"));
  const repository = c.get("repository");
  const requester = c.get("requester");
  try {
    const isRemoved = await removeBlob(databaseFor(c.env, repository), digest, repository, requester);
    if (!isRemoved) throw unknownBlob(digest);
  } finally {
    // Where the answer of D1 is lost it may be gone all the same.
    await forget({ env: c.env, repository }, "blobs", digest);
  }
  return c.body(null, 202);
});

async function redirect(c: BlobContext, digest: Digest, source: Source): Promise<Response> {
  const objectKey = await source.currentKey();
  if (objectKey === null) throw unknownBlob(digest);
  const location = await presignedUrl(c.env, objectKey);
  notePulled(c, digest, source.size, source.result);
  // The address opens the blob to whoever has it: nobody may keep it, nor longer than it is good for.
  return new Response(null, {
    status: 307,
    headers: { Location: location, "Docker-Content-Digest": digest, "Cache-Control": "no-store" },
  });
}

type BlobContext = Context<RepositoryEnv, typeof blob>;

const whole = { kind: "whole" } as const;

/** A blob that the repository has, and how to get its bytes. */
interface Source {
  readonly size: number;
  readonly objectKey: string;
  readonly result: CacheResult;
  /** for how long it is believed from now on */
  readonly freshMs: number;
  /** Of D1, where it was only remembered: R2 itself would say that it is gone, and nobody would look any further. */
  readonly currentKey: () => Promise<string | null>;
  /** @throws OciError BLOB_UNKNOWN deleted since: the last repository let go of it, and the collector came */
  readonly read: (range: ByteRange | null) => Promise<Bytes>;
}

async function findSource(c: BlobContext, digest: Digest): Promise<Source> {
  const repository = c.get("repository");
  const mayPush = c.get("caller").permissions.pushes(repository);
  const ask = async (isPrimary: boolean): Promise<BlobRow | null> =>
    read(c.env, repository, { by: "digest", isPrimary }, async (queryable) => findBlob(queryable, repository, digest));
  if (isCached(c.env, mayPush)) return cachedSource(c, digest, ask);
  const row = await ask(mayPush);
  if (row === null) throw await notFound(c, digest);
  return {
    size: row.size,
    objectKey: row.objectKey,
    result: "bypass",
    freshMs: heldMs(configOf(c.env)),
    currentKey: async () => row.objectKey,
    read: async (range) => {
      const body = await readObject(c.env.BLOBS, row.objectKey, range);
      if (body === null) throw unknownBlob(digest);
      return { body, result: "bypass" };
    },
  };
}

async function cachedSource(
  c: BlobContext,
  digest: Digest,
  ask: (isPrimary: boolean) => Promise<BlobRow | null>,
): Promise<Source> {
  const request = { env: c.env, context: c.executionCtx, repository: c.get("repository") };
  const askForHeld = async (isPrimary: boolean): Promise<Held | null> => {
    const row = await ask(isPrimary);
    return row === null ? null : { ...row, mediaType: "", body: null };
  };
  const found = await findHeld(request, "blobs", digest, askForHeld);
  const objectKey = found?.held.objectKey ?? null;
  if (found === null || objectKey === null) throw await notFound(c, digest);
  const { held, result, untilMs } = found;
  return {
    size: held.size,
    objectKey,
    result,
    freshMs: untilMs - Date.now(),
    currentKey: async () => (result === "miss" ? objectKey : ((await ask(false))?.objectKey ?? null)),
    read: async (range) => {
      const bytes = await readHeld(request, "blobs", digest, held, range, askForHeld);
      if (bytes === null) throw unknownBlob(digest);
      return bytes;
    },
  };
}

/** Why there is nothing: who gets a 404 of what was pushed may want to know that it is to be pushed again. */
async function notFound(c: BlobContext, digest: Digest): Promise<OciError> {
  if (c.req.method === "HEAD") return unknownBlob(digest);
  const repository = c.get("repository");
  const isBad = await isQuarantined(databaseFor(c.env, repository), repository, digest);
  return isBad ? unknownBlob(digest, "its bytes were found to be damaged: push it again") : unknownBlob(digest);
}

function streamOf(body: Bytes["body"]): ReadableStream {
  return body instanceof ReadableStream ? body : new Blob([body]).stream();
}

function notePulled(c: BlobContext, digest: Digest, size: number, cache: CacheResult): void {
  const userAgent = c.req.header("user-agent") ?? "";
  c.get("trace").cache = cache;
  const pull = {
    kind: "blob",
    repository: c.get("repository"),
    reference: null,
    digest,
    size,
    userAgent,
    cache,
  } as const;
  notePull(c.env, c.executionCtx, c.get("requester"), pull);
}

function unknownBlob(digest: Digest, reason = "no such blob in this repository"): OciError {
  return new OciError("BLOB_UNKNOWN", { reason, digest });
}
