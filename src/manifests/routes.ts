import { createHash } from "node:crypto";
import { type Context, Hono } from "hono";
import { access } from "../access/access.ts";
import { notePull, notePush } from "../audit/pulls.ts";
import { configOf } from "../config.ts";
import type { RepositoryEnv } from "../env.ts";
import { withManifestBody } from "../http/body.ts";
import { etagOf, isNotModified } from "../http/conditional.ts";
import { inert } from "../http/inert.ts";
import { warningHeader } from "../http/warning.ts";
import { MANIFEST_MAX_BYTES, TAGS_PER_PUT_MAX } from "../limits.ts";
import { type Digest, digestAlgorithm, parseDigest } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { type Manifest, parseManifest } from "../oci/manifest.ts";
import { mediaTypeOfHeader } from "../oci/media-types.ts";
import { isTag, parseReference, type Reference, type Tag, tagGrammar } from "../oci/reference.ts";
import { matchesAnyPattern } from "../oci/repository-pattern.ts";
import { putManifest } from "./put.ts";
import { removeManifest, removeTag } from "./remove.ts";
import { findManifest, findManifestHead, type ManifestBodyRow, type ManifestRow } from "./store.ts";

export const manifests = new Hono<RepositoryEnv>();

const manifest = "/v2/:name{.+}/manifests/:reference";

/**
 * end-3, GET and HEAD: distribution-spec v1.1.1 «Pulling manifests». The stored bytes, under the stored media type,
 * whatever Accept says. D1: 1; R2: 1 for a GET of a manifest that is too large for its row.
 */
manifests.get(manifest, access("pull"), async (c) => {
  const reference = parseReference(c.req.param("reference"));
  if (c.req.method === "HEAD") {
    const row = await findReferenced(c, reference, findManifestHead);
    if (isNotModified(c.req.header("if-none-match"), etagOf(row.digest))) return notModified(c, row);
    return c.body(null, 200, contentHeaders(row));
  }
  const row = await findReferenced(c, reference, findManifest);
  if (isNotModified(c.req.header("if-none-match"), etagOf(row.digest))) return notModified(c, row);
  const body = await bodyOf(c.env.BLOBS, row);
  notePull(c.env, c.executionCtx, c.var.requester, {
    kind: "manifest",
    repository: c.var.repository,
    reference: reference.kind === "tag" ? reference.tag : null,
    digest: row.digest,
    size: row.size,
    userAgent: c.req.header("user-agent") ?? "",
  });
  return c.body(body, 200, contentHeaders(row));
});

/**
 * end-7a, and end-7b with its `tag` parameters of main: distribution-spec v1.1.1 «Pushing Manifests».
 * D1: 1, 2 where it is refused. R2: 1 where it is too large for its row.
 */
manifests.put(manifest, access("push"), async (c) => {
  const reference = parseReference(c.req.param("reference"));
  const tags = tagsOf(c, reference);
  const answer = await withManifestBody(c, async (bytes) => {
    const digest = digestOf(bytes, reference);
    const parsed = parseManifest(bytes, mediaTypeOfHeader(c.req.header("content-type")));
    const warnings = await putManifest(c.env, {
      repository: c.var.repository,
      digest,
      bytes,
      manifest: parsed,
      tags,
      sparse: matchesAnyPattern(c.var.repository, configOf(c.env).ALLOW_SPARSE),
      by: c.var.requester,
    });
    notePush(c.env, c.var.requester, {
      kind: "manifest.push",
      repository: c.var.repository,
      reference: reference.kind === "tag" ? reference.tag : null,
      digest,
      size: bytes.byteLength,
    });
    return accepted(c, parsed, digest, [...parsed.warnings, ...warnings], reference, tags);
  });
  if (answer !== null) return answer;
  throw new OciError(
    "MANIFEST_INVALID",
    `a manifest has at most ${String(MANIFEST_MAX_BYTES)} bytes; move what is large into a blob`,
    { status: 413 },
  );
});

/** end-9: distribution-spec v1.1.1 «Deleting tags», «Deleting Manifests». D1: 1. */
manifests.delete(manifest, access("delete"), async (c) => {
  const reference = parseReference(c.req.param("reference"));
  const removal = { repository: c.var.repository, by: c.var.requester };
  const removed =
    reference.kind === "digest"
      ? await removeManifest(c.env.DB, reference.digest, removal)
      : reference.kind === "tag" && (await removeTag(c.env.DB, reference.tag, removal));
  if (!removed) throw unknownManifest(c.req.param("reference"));
  return c.body(null, 202);
});

type ManifestContext = Context<RepositoryEnv, typeof manifest>;

async function findReferenced<Row>(
  c: ManifestContext,
  reference: Reference,
  find: (
    db: D1Database,
    repository: typeof c.var.repository,
    reference: Tag | Digest,
    kind: "tag" | "digest",
  ) => Promise<Row | null>,
): Promise<Row> {
  if (reference.kind === "malformed") throw unknownManifest(c.req.param("reference"), reference.reason);
  const value = reference.kind === "tag" ? reference.tag : reference.digest;
  const row = await find(c.env.DB, c.var.repository, value, reference.kind);
  if (row === null) throw unknownManifest(value);
  return row;
}

/** `Content-Encoding: identity` keeps proxies from compressing: the bytes, and their length, are what the digest is of. */
function contentHeaders(row: ManifestRow): Record<string, string> {
  return {
    "Content-Type": row.mediaType,
    "Content-Length": String(row.size),
    "Content-Encoding": "identity",
    "Docker-Content-Digest": row.digest,
    ETag: etagOf(row.digest),
    ...inert,
  };
}

function notModified(c: ManifestContext, row: ManifestRow): Response {
  return c.body(null, 304, { ETag: etagOf(row.digest), "Docker-Content-Digest": row.digest });
}

async function bodyOf(bucket: R2Bucket, row: ManifestBodyRow): Promise<string | ReadableStream> {
  if (row.body !== null) return row.body;
  const object = row.objectKey === null ? null : await bucket.get(row.objectKey);
  // Deleted between the two reads: the row was there, its object has gone with it.
  if (object === null) throw unknownManifest(row.digest);
  return object.body;
}

function unknownManifest(reference: string, reason = "no such manifest in this repository"): OciError {
  return new OciError("MANIFEST_UNKNOWN", { reason, reference: reference.slice(0, 200) });
}

function tagsOf(c: ManifestContext, reference: Reference): readonly Tag[] {
  if (reference.kind === "malformed") throw invalidTag(c.req.param("reference"));
  const asked = c.req.queries("tag") ?? [];
  if (asked.length > TAGS_PER_PUT_MAX) {
    throw new OciError(
      "MANIFEST_INVALID",
      {
        reason: `at most ${String(TAGS_PER_PUT_MAX)} tag parameters in one request; send the rest in another`,
        tags: asked.length,
      },
      { status: 414 },
    );
  }
  const tags = new Set<Tag>(reference.kind === "tag" ? [reference.tag] : []);
  for (const tag of asked) {
    if (!isTag(tag)) throw invalidTag(tag);
    tags.add(tag);
  }
  return [...tags];
}

function invalidTag(tag: string): OciError {
  return new OciError("MANIFEST_INVALID", { reason: tagGrammar, tag: tag.slice(0, 200) });
}

/** By tag the digest is the canonical sha256; by digest it is the one named, of its own algorithm. */
function digestOf(bytes: Uint8Array, reference: Reference): Digest {
  const named = reference.kind === "digest" ? reference.digest : null;
  const algorithm = named === null ? "sha256" : digestAlgorithm(named);
  const digest = parseDigest(`${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}`);
  if (named !== null && named !== digest) {
    throw new OciError("DIGEST_INVALID", {
      reason: "the manifest's bytes are not those of the digest in the path",
      digest: named,
      computed: digest,
    });
  }
  return digest;
}

function accepted(
  c: ManifestContext,
  parsed: Manifest,
  digest: Digest,
  warnings: readonly string[],
  reference: Reference,
  tags: readonly Tag[],
): Response {
  c.header("Location", `/v2/${c.var.repository}/manifests/${digest}`);
  c.header("Docker-Content-Digest", digest);
  if (parsed.subject !== null) c.header("OCI-Subject", parsed.subject);
  const named = reference.kind === "tag" ? reference.tag : null;
  for (const tag of tags) if (tag !== named) c.header("OCI-Tag", tag, { append: true });
  for (const warning of warnings) c.header("Warning", warningHeader(warning), { append: true });
  return c.body(null, 201);
}
