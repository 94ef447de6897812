import { createHash } from "node:crypto";
import { type Context, Hono } from "hono";
import { access } from "../access/access.ts";
import { notePull, notePush } from "../audit/pulls.ts";
import { configOf } from "../config.ts";
import { databaseFor, type Queryable, read } from "../databases.ts";
import { manifestHeaders } from "../edge/content-headers.ts";
import { heldMs } from "../edge/freshness.ts";
import { findHeld, forget, forgetInMemory, isCached, readHeld } from "../edge/edge.ts";
import type { Held } from "../edge/held.ts";
import type { CacheResult } from "../trace/trace.ts";
import type { RepositoryEnv } from "../env.ts";
import { withManifestBody } from "../http/body.ts";
import { etagOf, isNotModified } from "../http/conditional.ts";
import { stampedResponse } from "../edge/stamp.ts";
import { warningHeader } from "../http/warning.ts";
import { MANIFEST_MAX_BYTES, TAGS_PER_PUT_MAX } from "../limits.ts";
import { type Digest, digestAlgorithm, parseDigest } from "../oci/digest.ts";
import type { RepositoryName } from "../oci/repository.ts";
import { OciError } from "../oci/errors.ts";
import { type Manifest, parseManifest } from "../oci/manifest.ts";
import { mediaTypeOfHeader } from "../oci/media-types.ts";
import { isTag, parseReference, type Reference, type Tag, tagGrammar } from "../oci/reference.ts";
import { matchesAnyPattern } from "../oci/repository-pattern.ts";
import { putManifest } from "./put.ts";
import { removeManifest, removeTag } from "./remove.ts";
import { findManifest, findManifestHead, type ManifestBodyRow } from "./store.ts";

export const manifests = new Hono<RepositoryEnv>();

const manifest = "/v2/:name{.+}/manifests/:reference";

/**
 * end-3, GET and HEAD: distribution-spec v1.1.1 «Pulling manifests». The stored bytes, under the stored media type,
 * whatever Accept says. D1: 1; R2: 1 for a GET of a manifest that is too large for its row. By digest, of who may not
 * push: 0 and 0 where it is cached; a digest that is not there is asked for twice (D1: 2).
 */
manifests.get(manifest, access("pull"), async (c) => {
  const reference = parseReference(c.req.param("reference"));
  if (reference.kind === "malformed") throw unknownManifest(c.req.param("reference"), reference.reason);
  const mayPush = c.get("caller").permissions.pushes(c.get("repository"));
  if (reference.kind === "digest" && isCached(c.env, mayPush)) return getCached(c, reference.digest);
  if (c.req.method === "HEAD") {
    const row = await findReferenced(c, reference, mayPush, findManifestHead);
    const headers = manifestHeaders(c.env, c.get("repository"), row.digest, row, freshMsOf(c, reference));
    if (isNotModified(c.req.header("if-none-match"), etagOf(row.digest))) return notModified(c, row.digest, headers);
    return new Response(null, { headers });
  }
  c.get("trace").cache = "bypass";
  const row = await findReferenced(c, reference, mayPush, findManifest);
  const headers = manifestHeaders(c.env, c.get("repository"), row.digest, row, freshMsOf(c, reference));
  if (isNotModified(c.req.header("if-none-match"), etagOf(row.digest))) return notModified(c, row.digest, headers);
  const body = await bodyOf(c.env.BLOBS, row);
  note(c, reference.kind === "tag" ? reference.tag : null, row.digest, row.size, "bypass");
  return new Response(body, { headers });
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
      repository: c.get("repository"),
      digest,
      bytes,
      manifest: parsed,
      tags,
      sparse: matchesAnyPattern(c.get("repository"), configOf(c.env).ALLOW_SPARSE),
      by: c.get("requester"),
    });
    forgetInMemory("manifests", c.get("repository"), digest);
    notePush(c.env, c.get("requester"), {
      kind: "manifest.push",
      repository: c.get("repository"),
      reference: tags[0] ?? null,
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
  const removal = { repository: c.get("repository"), by: c.get("requester") };
  const db = databaseFor(c.env, c.get("repository"));
  const isRemoved =
    reference.kind === "digest"
      ? await removed(c, reference.digest, async () => removeManifest(db, reference.digest, removal))
      : reference.kind === "tag" && (await removeTag(db, reference.tag, removal));
  if (!isRemoved) throw unknownManifest(c.req.param("reference"));
  return c.body(null, 202);
});

/** Where the answer of D1 is lost it may be gone: nobody is told here that it is there. */
async function removed(c: ManifestContext, digest: Digest, remove: () => Promise<boolean>): Promise<boolean> {
  try {
    return await remove();
  } finally {
    await forget({ env: c.env, repository: c.get("repository") }, "manifests", digest);
  }
}

/** Of an answer that comes from D1 now. */
function freshMsOf(c: ManifestContext, reference: Reference): number {
  return reference.kind === "digest" ? heldMs(configOf(c.env)) : 0;
}

type ManifestContext = Context<RepositoryEnv, typeof manifest>;

async function findReferenced<Row>(
  c: ManifestContext,
  reference: Exclude<Reference, { kind: "malformed" }>,
  isPrimary: boolean,
  find: (
    queryable: Queryable,
    repository: RepositoryName,
    reference: Tag | Digest,
    kind: "tag" | "digest",
  ) => Promise<Row | null>,
): Promise<Row> {
  const repository = c.get("repository");
  const value = reference.kind === "tag" ? reference.tag : reference.digest;
  const by = reference.kind === "tag" ? "name" : "digest";
  const row = await read(c.env, repository, { by, isPrimary }, async (queryable) =>
    find(queryable, repository, value, reference.kind),
  );
  if (row === null) throw unknownManifest(value);
  return row;
}

/** For who may not push: what a digest names never changes, so it is asked for once a while. */
async function getCached(c: ManifestContext, digest: Digest): Promise<Response> {
  const request = { env: c.env, context: c.executionCtx, repository: c.get("repository") };
  const ask = async (isPrimary: boolean): Promise<Held | null> => {
    const row = await findReferenced(c, { kind: "digest", digest }, isPrimary, findManifest);
    return { ...row, body: row.body === null ? null : new TextEncoder().encode(row.body) };
  };
  const found = await findHeld(request, "manifests", digest, ask);
  if (found === null) throw unknownManifest(digest);
  const { held, untilMs, result } = found;
  c.get("trace").cache = result;
  const headers = manifestHeaders(c.env, c.get("repository"), digest, held, untilMs - Date.now());
  if (isNotModified(c.req.header("if-none-match"), etagOf(digest))) return notModified(c, digest, headers);
  if (c.req.method === "HEAD") return stampedResponse(c, null, headers);
  const content = held.body ?? (await readHeld(request, "manifests", digest, held, null, ask))?.body;
  if (content === undefined) throw unknownManifest(digest);
  note(c, null, digest, held.size, result);
  return stampedResponse(c, content, headers);
}

function notModified(c: ManifestContext, digest: Digest, headers: Record<string, string>): Response {
  const { ETag = "", "Cache-Control": control = "" } = headers;
  return c.body(null, 304, { ETag, "Docker-Content-Digest": digest, "Cache-Control": control });
}

function note(c: ManifestContext, tag: string | null, digest: Digest, size: number, cache: CacheResult): void {
  const userAgent = c.req.header("user-agent") ?? "";
  const pull = {
    kind: "manifest",
    repository: c.get("repository"),
    reference: tag,
    digest,
    size,
    userAgent,
    cache,
  } as const;
  notePull(c.env, c.executionCtx, c.get("requester"), pull);
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
  c.header("Location", `/v2/${c.get("repository")}/manifests/${digest}`);
  c.header("Docker-Content-Digest", digest);
  if (parsed.subject !== null) c.header("OCI-Subject", parsed.subject);
  const named = reference.kind === "tag" ? reference.tag : null;
  for (const tag of tags) if (tag !== named) c.header("OCI-Tag", tag, { append: true });
  for (const warning of warnings) c.header("Warning", warningHeader(warning), { append: true });
  return c.body(null, 201);
}
