import { databaseFor } from "../databases.ts";
import type { Requester } from "../requester.ts";
import { type AuditEntry, insertAudit } from "../audit/store.ts";
import { insertGarbage } from "../blobs/garbage.ts";
import { newKey } from "../blobs/keys.ts";
import { type EventRow, insertEvent } from "../events/outbox.ts";
import { MANIFEST_INLINE_MAX_BYTES, REFERRER_DESCRIPTOR_MAX_BYTES } from "../limits.ts";
import type { Digest } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { type Manifest, referrerDescriptor } from "../oci/manifest.ts";
import type { Tag } from "../oci/reference.ts";
import type { RepositoryName } from "../oci/repository.ts";
import { setTags } from "../tags/store.ts";
import { isQuarantinedManifest } from "./quarantined.ts";
import { bindReferences, encodeReferences, type ReferenceList, selectProblems } from "./references.ts";

export interface PutManifest {
  readonly repository: RepositoryName;
  readonly digest: Digest;
  readonly bytes: Uint8Array;
  readonly manifest: Manifest;
  readonly tags: readonly Tag[];
  /** what the manifest names need not be there */
  readonly sparse: boolean;
  readonly by: Requester;
}

/**
 * Stores a manifest with its edges, tags, history and events: one D1 batch, which is one transaction, however many
 * layers it has. Its first write is made only where the repository has all that the manifest names, in the sizes that it
 * says; the others only where the first was. So the collector can't come between check and write, and what it
 * had condemned is revived here. A second query is made only to tell what was wrong.
 * @returns sentences for `Warning` headers
 * @throws OciError MANIFEST_BLOB_UNKNOWN with every missing digest; SIZE_INVALID
 */
export async function putManifest(env: Pick<Env, "DB" | "BLOBS">, put: PutManifest): Promise<readonly string[]> {
  const { manifest, digest, repository, by } = put;
  const wasAccepted = { sql: accepted, values: [repository, digest, by.requestId] };
  const db = databaseFor(env, repository);
  const nowMs = Date.now();
  const inline = manifest.text !== null && put.bytes.byteLength <= MANIFEST_INLINE_MAX_BYTES;
  const objectKey = inline ? null : newKey("manifests/", nowMs);
  if (objectKey !== null) await env.BLOBS.put(objectKey, put.bytes);

  const warnings: string[] = [];
  const references = encodeReferences(manifest.references, put.sparse);
  const listed = manifest.subject === null ? null : listedDescriptor(put, warnings);
  const needsNothing = put.sparse || manifest.references.every((reference) => !reference.required);
  const first = db
    .prepare(insertManifestSql(references))
    .bind(
      repository,
      digest,
      manifest.mediaType,
      put.bytes.byteLength,
      manifest.subject,
      manifest.artifactType,
      put.by.requestId,
      nowMs,
      objectKey,
      listed,
      inline ? manifest.text : null,
      ...references,
    );
  const results = await db.batch([
    // A manifest that needs content needs a repository that has it, so a refused one leaves no repository behind.
    ...(needsNothing ? [insertRepository(db, repository, nowMs)] : []),
    first,
    ...writeReferences(db, put, references),
    ...setTags(db, { ...put, actor: by.principal.name, requestId: by.requestId, nowMs }),
    ...(objectKey === null ? [] : [insertGarbage(db, [objectKey], nowMs)]),
    insertEvent(db, pushed(put, nowMs), wasAccepted),
    insertAudit(db, by, pushEntry(put), nowMs, wasAccepted),
  ]);
  const changes = results[needsNothing ? 1 : 0]?.meta.changes ?? 0;
  if (changes === 0) throw await whyRefused(db, repository, references);
  return warnings;
}

/** True in every statement after the first one where this request's manifest was accepted; `requestId` rides in both. */
const accepted = `EXISTS (SELECT 1 FROM repositories JOIN manifests ON manifests.repository_id = repositories.id
    WHERE repositories.name = ?1 AND manifests.digest = ?2 AND manifests.put_request = ?3)`;

function insertRepository(db: D1Database, repository: RepositoryName, nowMs: number): D1PreparedStatement {
  return db
    .prepare("INSERT INTO repositories (name, created_at) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING")
    .bind(repository, nowMs);
}

function insertManifestSql(references: ReferenceList): string {
  return `INSERT INTO manifests (repository_id, digest, media_type, size, subject, artifact_type, put_request, created_at,
                                 object_key, descriptor, body)
    SELECT repositories.id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 FROM repositories
    WHERE repositories.name = ?1 AND NOT EXISTS (${selectProblems("repositories.id", references, 12)})
    ON CONFLICT (repository_id, digest) DO UPDATE SET
      put_request = excluded.put_request, media_type = excluded.media_type,
      artifact_type = excluded.artifact_type, descriptor = excluded.descriptor,
      -- The same bytes, unless those of the row were spoilt. An object stays, unless it was found bad (src/integrity).
      body = excluded.body,
      object_key = iif(manifests.object_key IS NULL OR ${isQuarantinedManifest()},
        excluded.object_key, manifests.object_key)`;
}

function writeReferences(db: D1Database, put: PutManifest, references: ReferenceList): D1PreparedStatement[] {
  return references.flatMap((list) => [
    db
      .prepare(
        `INSERT INTO manifest_references (manifest_id, digest, kind, repository_id)
         SELECT manifests.id, json_extract(value, '$[0]'), iif(json_extract(value, '$[2]'), 'child', 'blob'), repositories.id
         FROM repositories
         JOIN manifests ON manifests.repository_id = repositories.id AND manifests.digest = ?2 AND manifests.put_request = ?3
         JOIN json_each(?4) WHERE repositories.name = ?1
         ON CONFLICT (manifest_id, digest) DO NOTHING`,
      )
      .bind(put.repository, put.digest, put.by.requestId, list),
    db
      .prepare(
        `UPDATE repository_blobs SET condemned_at = NULL, suspect_at = ?5
         WHERE condemned_at IS NOT NULL AND ${accepted}
           AND repository_id = (SELECT id FROM repositories WHERE name = ?1)
           AND blob_id IN (SELECT blobs.id FROM json_each(?4) JOIN blobs ON blobs.digest = json_extract(value, '$[0]'))`,
      )
      .bind(put.repository, put.digest, put.by.requestId, list, Date.now()),
  ]);
}

function pushed(put: PutManifest, nowMs: number): EventRow {
  const { mediaType, artifactType, subject } = put.manifest;
  const { repository, digest } = put;
  const actor = put.by.principal.name;
  return { kind: "manifest.pushed", repository, digest, tag: null, mediaType, artifactType, subject, actor, nowMs };
}

function pushEntry({ repository, digest, tags, manifest }: PutManifest): AuditEntry {
  const { mediaType, artifactType } = manifest;
  const reference = tags.length === 0 ? {} : { reference: tags.join(" ") };
  return {
    action: "manifest.push",
    repository,
    ...reference,
    digest,
    outcome: "ok",
    detail: { mediaType, artifactType },
  };
}

function listedDescriptor(put: PutManifest, warnings: string[]): string {
  const whole = referrerDescriptor(put.manifest, put.digest, put.bytes.byteLength);
  if (whole.length <= REFERRER_DESCRIPTOR_MAX_BYTES / 4 || byteLength(whole) <= REFERRER_DESCRIPTOR_MAX_BYTES)
    return whole;
  warnings.push(
    `annotations of more than ${String(REFERRER_DESCRIPTOR_MAX_BYTES)} bytes are left out of the referrers list`,
  );
  return referrerDescriptor({ ...put.manifest, annotations: null }, put.digest, put.bytes.byteLength);
}

function byteLength(text: string): number {
  return new TextEncoder().encode(text).byteLength;
}

async function whyRefused(db: D1Database, repository: RepositoryName, references: ReferenceList): Promise<OciError> {
  const { results } = await bindReferences(
    db,
    selectProblems("(SELECT id FROM repositories WHERE name = ?1)", references, 2),
    [repository],
    references,
  ).all<{ digest: string; size: number; stored: number | null }>();
  const missing = results.filter((row) => row.stored === null).map((row) => row.digest);
  if (missing.length > 0 || results.length === 0) {
    return new OciError("MANIFEST_BLOB_UNKNOWN", {
      reason: "the manifest names content that is not in this repository; push or mount it first",
      missing,
    });
  }
  return new OciError("SIZE_INVALID", {
    reason: "the manifest's descriptors do not have the sizes of the stored content",
    sizes: results.map(({ digest, size, stored }) => ({ digest, descriptor: size, stored })),
  });
}
