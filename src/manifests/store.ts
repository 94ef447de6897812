import type { Queryable } from "../databases.ts";
import type { Digest } from "../oci/digest.ts";
import type { Tag } from "../oci/reference.ts";
import type { RepositoryName } from "../oci/repository.ts";
import { isQuarantinedManifest } from "./quarantined.ts";

/** A manifest as a pull needs it, without its bytes. */
export interface ManifestRow {
  readonly digest: Digest;
  readonly mediaType: string;
  /** bytes */
  readonly size: number;
  /** R2 key, where the bytes are not in the row */
  readonly objectKey: string | null;
}

export interface ManifestBodyRow extends ManifestRow {
  readonly body: string | null;
}

const head = `manifests.digest AS digest, manifests.media_type AS mediaType, manifests.size AS size,
       manifests.object_key AS objectKey`;

const unquarantined = `NOT ${isQuarantinedManifest()}`;

const byTag = `FROM repositories
       JOIN tags ON tags.repository_id = repositories.id AND tags.name = ?2
       JOIN manifests ON manifests.id = tags.manifest_id
       WHERE repositories.name = ?1 AND ${unquarantined}`;

const byDigest = `FROM repositories
       JOIN manifests ON manifests.repository_id = repositories.id AND manifests.digest = ?2
       WHERE repositories.name = ?1 AND ${unquarantined}`;

/** One query: repositories.name, then the tag's or the digest's index. HEAD asks without the body's column. */
export const manifestQueries = {
  headByTag: `SELECT ${head} ${byTag}`,
  headByDigest: `SELECT ${head} ${byDigest}`,
  getByTag: `SELECT ${head}, manifests.body AS body ${byTag}`,
  getByDigest: `SELECT ${head}, manifests.body AS body ${byDigest}`,
} as const;

export async function findManifestHead(
  db: Queryable,
  repository: RepositoryName,
  reference: Tag | Digest,
  kind: "tag" | "digest",
): Promise<ManifestRow | null> {
  const sql = kind === "tag" ? manifestQueries.headByTag : manifestQueries.headByDigest;
  return db.prepare(sql).bind(repository, reference).first<ManifestRow>();
}

export async function findManifest(
  db: Queryable,
  repository: RepositoryName,
  reference: Tag | Digest,
  kind: "tag" | "digest",
): Promise<ManifestBodyRow | null> {
  const sql = kind === "tag" ? manifestQueries.getByTag : manifestQueries.getByDigest;
  return db.prepare(sql).bind(repository, reference).first<ManifestBodyRow>();
}
