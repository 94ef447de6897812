import { type Context, Hono } from "hono";
import { access } from "../access/access.ts";
import { notePull } from "../audit/pulls.ts";
import type { RepositoryEnv } from "../env.ts";
import { etagOf, isNotModified, rangeStands } from "../http/conditional.ts";
import { inert } from "../http/inert.ts";
import { type ByteRange, parseRange } from "../http/range.ts";
import { type Digest, parseDigest } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { multipartRanges } from "./multipart-ranges.ts";
import { removeBlob } from "./remove.ts";
import { type BlobRow, findBlob } from "./store.ts";

export const blobs = new Hono<RepositoryEnv>();

/** Not `uploads`: where the path of end-4a has no last slash, its other methods are 405, not a digest that is none. */
const blob = "/v2/:name{.+}/blobs/:digest{(?!uploads$)[^/]+}";

/**
 * end-2, GET and HEAD: distribution-spec v1.1.1 «Pulling blobs», with RFC 9110 ranges and validators.
 * D1: 1; R2: 1 for a GET, k for one of k ranges.
 */
blobs.get(blob, access("pull"), async (c) => {
  const digest = parseDigest(c.req.param("digest"));
  const row = await findBlob(c.env.DB, c.var.repository, digest);
  if (row === null) throw unknownBlob(digest);
  const etag = etagOf(digest);
  if (isNotModified(c.req.header("if-none-match"), etag)) {
    return c.body(null, 304, { ETag: etag, "Docker-Content-Digest": digest });
  }
  // HEAD has no ranges: RFC 9110 section 14.2 defines them for GET alone.
  if (c.req.method === "HEAD") return c.body(null, 200, contentHeaders(digest, row.size));
  const wanted = rangeStands(c.req.header("if-range"), etag) ? parseRange(c.req.header("range"), row.size) : whole;
  if (wanted.kind === "unsatisfiable") {
    throw new OciError(
      "BLOB_UPLOAD_INVALID",
      { reason: "no byte of the range lies in the blob", range: c.req.header("range"), size: row.size },
      { status: 416, headers: { "Content-Range": `bytes */${String(row.size)}` } },
    );
  }
  notePulled(c, digest, row);
  if (wanted.kind === "whole") {
    return c.body(await read(c, digest, row, null), 200, contentHeaders(digest, row.size));
  }
  const [first, ...rest] = wanted.ranges;
  if (rest.length === 0) {
    return c.body(await read(c, digest, row, first), 206, {
      ...contentHeaders(digest, first.end - first.start + 1),
      "Content-Range": `bytes ${String(first.start)}-${String(first.end)}/${String(row.size)}`,
    });
  }
  const several = multipartRanges(wanted.ranges, row.size, async (range) => read(c, digest, row, range));
  return c.body(several.body, 206, {
    ...contentHeaders(digest, several.lengthBytes),
    "Content-Type": several.contentType,
  });
});

/** end-10: distribution-spec v1.1.1 «Deleting Blobs». This repository alone loses it, at once. D1: 1. */
blobs.delete(blob, access("delete"), async (c) => {
  const digest = parseDigest(c.req.param("digest"));
  if (!(await removeBlob(c.env.DB, digest, c.var.repository, c.var.requester))) throw unknownBlob(digest);
  return c.body(null, 202);
});

type BlobContext = Context<RepositoryEnv, typeof blob>;

const whole = { kind: "whole" } as const;

async function read(c: BlobContext, digest: Digest, row: BlobRow, range: ByteRange | null): Promise<ReadableStream> {
  const options = range === null ? {} : { range: { offset: range.start, length: range.end - range.start + 1 } };
  const object = await c.env.BLOBS.get(row.objectKey, options);
  // Deleted between the two reads: the last repository let go of it, and the collector came.
  if (object === null) throw unknownBlob(digest);
  return object.body;
}

function notePulled(c: BlobContext, digest: Digest, row: BlobRow): void {
  const userAgent = c.req.header("user-agent") ?? "";
  const pull = {
    kind: "blob",
    repository: c.var.repository,
    reference: null,
    digest,
    size: row.size,
    userAgent,
  } as const;
  notePull(c.env, c.executionCtx, c.var.requester, pull);
}

/**
 * A blob's bytes have no media type of their own here: descriptors name it. octet-stream also keeps proxies and browsers
 * from making anything else of them; `Content-Encoding: identity` says that they are as stored.
 */
function contentHeaders(digest: Digest, lengthBytes: number): Record<string, string> {
  return {
    "Content-Type": "application/octet-stream",
    "Content-Length": String(lengthBytes),
    "Content-Encoding": "identity",
    "Accept-Ranges": "bytes",
    "Docker-Content-Digest": digest,
    ETag: etagOf(digest),
    ...inert,
  };
}

function unknownBlob(digest: Digest): OciError {
  return new OciError("BLOB_UNKNOWN", { reason: "no such blob in this repository", digest });
}
