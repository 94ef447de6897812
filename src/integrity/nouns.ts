import { EXPORT_LONG_ROWS, EXPORT_LONGEST_ROWS, EXPORT_PART_BYTES, EXPORT_PART_ROWS } from "../limits.ts";

/**
 * What a copy of the index has, as SQL that makes lines of JSON of rows, and rows of lines. A line names other rows by
 * what they are called outside (a repository by its name, a manifest by its digest), not by their ids, so lines can be
 * put into a database that has rows of its own, more than once, and in any state: what is there stays as it is.
 */
export interface Noun {
  readonly name: NounName;
  /** Who may do what: encrypted. */
  readonly sealed: boolean;
  /**
   * Yields `line`, and `first` and `second`, by which the next page goes on; `total` where it may yield fewer rows than it
   * found, for they are long. ?1 and ?2: those of the last row before;
   * ?3: the most rows.
   */
  readonly select: string;
  readonly rowsMax: number;
  /** ?1: lines as one JSON array; ?2: ms since 1970. What a line names and is not there leaves it out. */
  readonly insert: string;
}

/**
 * In the order in which they are copied. Requests go on meanwhile: what names comes before what is named, so that
 * what a line names has a line too, unless it was deleted between the two.
 *
 * Tags are the exception. One that moves while manifests are copied, and whose old manifest is deleted, would name what has
 * no line, whichever came first. So they come after the manifests, and their history after them: of the manifests that a
 * tag has had, the one that it had when the last page of manifests was read has a line. Users come before their access
 * tokens, so that none comes to a user who was made anew by the same name.
 */
export const nounNames = [
  "manifests",
  "tags",
  "tag_history",
  "repository_blobs",
  "blobs",
  "garbage",
  "repositories",
  "users",
  "access_tokens",
  "trust_rules",
  "integrity_findings",
] as const;
export type NounName = (typeof nounNames)[number];

export const nouns: readonly Noun[] = [
  {
    name: "manifests",
    sealed: false,
    rowsMax: EXPORT_PART_ROWS,
    // By the sizes of the texts first: they are read only where they fit. One that alone is too large comes alone. One
    // whose text is in R2 counts for more: the rebuild reads it there.
    select: `SELECT json_object('repository', repositories.name, 'digest', manifests.digest,
        'media_type', manifests.media_type, 'size', manifests.size, 'subject', manifests.subject,
        'artifact_type', manifests.artifact_type, 'put_request', manifests.put_request,
        'created_at', manifests.created_at, 'object_key', manifests.object_key, 'descriptor', manifests.descriptor,
        'body', manifests.body) AS line, manifests.id AS first, '' AS second, page.total AS total
      FROM (SELECT id, sum(bytes) OVER (ORDER BY id) AS upto, row_number() OVER (ORDER BY id) AS place,
              count(*) OVER () AS total
            FROM (SELECT id, 500 + iif(object_key IS NULL, size, 20000) + coalesce(octet_length(descriptor), 0) AS bytes
                  FROM manifests WHERE id > ?1 AND ?2 IS NOT NULL ORDER BY id LIMIT ?3)) AS page
      CROSS JOIN manifests ON manifests.id = page.id
      CROSS JOIN repositories ON repositories.id = manifests.repository_id
      WHERE page.place = 1 OR page.upto <= ${String(EXPORT_PART_BYTES)} ORDER BY manifests.id`,
    insert: `INSERT INTO manifests (repository_id, digest, media_type, size, subject, artifact_type, put_request,
        created_at, object_key, descriptor, body)
      SELECT repositories.id, value->>'digest', value->>'media_type', value->>'size', value->>'subject',
        value->>'artifact_type', value->>'put_request', value->>'created_at', value->>'object_key',
        value->>'descriptor', value->>'body'
      FROM json_each(?1) CROSS JOIN repositories ON repositories.name = value->>'repository'
      WHERE ?2 IS NOT NULL AND NOT EXISTS (SELECT 1 FROM garbage WHERE garbage.object_key = value->>'object_key')
      ON CONFLICT DO NOTHING`,
  },
  {
    name: "tags",
    sealed: false,
    rowsMax: EXPORT_PART_ROWS,
    select: `SELECT json_object('repository', repositories.name, 'name', tags.name, 'digest', manifests.digest,
        'updated_at', tags.updated_at) AS line, tags.repository_id AS first, tags.name AS second
      FROM tags CROSS JOIN repositories ON repositories.id = tags.repository_id
      CROSS JOIN manifests ON manifests.id = tags.manifest_id
      WHERE (tags.repository_id, tags.name) > (?1, ?2) ORDER BY tags.repository_id, tags.name LIMIT ?3`,
    // Where its manifest has no line, that which it had last and that has one, unless it was deleted since then.
    insert: `INSERT INTO tags (repository_id, name, manifest_id, updated_at)
      SELECT repository_id, name, manifest_id, updated_at
      FROM (SELECT repositories.id AS repository_id, value->>'name' AS name, value->>'updated_at' AS updated_at, coalesce(
          (SELECT manifests.id FROM manifests
            WHERE manifests.repository_id = repositories.id AND manifests.digest = value->>'digest'),
          (SELECT manifests.id FROM tag_history AS moved LEFT JOIN manifests
              ON manifests.repository_id = moved.repository_id AND manifests.digest = moved.digest
            WHERE moved.repository_id = repositories.id AND moved.name = value->>'name'
              AND (moved.digest IS NULL OR manifests.id IS NOT NULL)
            ORDER BY moved.id DESC LIMIT 1)) AS manifest_id
        FROM json_each(?1) CROSS JOIN repositories ON repositories.name = value->>'repository')
      WHERE manifest_id IS NOT NULL AND ?2 IS NOT NULL ON CONFLICT (repository_id, name) DO NOTHING`,
  },
  {
    name: "tag_history",
    sealed: false,
    rowsMax: EXPORT_PART_ROWS,
    select: `SELECT json_object('repository', repositories.name, 'name', tag_history.name, 'digest', tag_history.digest,
        'actor', tag_history.actor, 'created_at', tag_history.created_at) AS line, tag_history.id AS first, '' AS second
      FROM tag_history CROSS JOIN repositories ON repositories.id = tag_history.repository_id
      WHERE tag_history.id > ?1 AND ?2 IS NOT NULL ORDER BY tag_history.id LIMIT ?3`,
    insert: `INSERT INTO tag_history (repository_id, name, digest, actor, created_at)
      SELECT repositories.id, value->>'name', value->>'digest', value->>'actor', value->>'created_at'
      FROM json_each(?1) CROSS JOIN repositories ON repositories.name = value->>'repository'
      WHERE ?2 IS NOT NULL AND NOT EXISTS (SELECT 1 FROM tag_history AS kept
        WHERE kept.repository_id = repositories.id AND kept.name = value->>'name'
          AND kept.created_at = value->>'created_at' AND kept.digest IS value->>'digest')`,
  },
  {
    name: "repository_blobs",
    sealed: false,
    rowsMax: EXPORT_PART_ROWS,
    select: `SELECT json_object('repository', repositories.name, 'digest', blobs.digest, 'linked_at', member.linked_at)
        AS line, member.repository_id AS first, member.blob_id AS second
      FROM repository_blobs AS member CROSS JOIN repositories ON repositories.id = member.repository_id
      CROSS JOIN blobs ON blobs.id = member.blob_id
      WHERE (member.repository_id, member.blob_id) > (?1, CAST(?2 AS INTEGER))
      ORDER BY member.repository_id, member.blob_id LIMIT ?3`,
    // All of them are looked at once by the collector: it knows then which of them a manifest names.
    insert: `INSERT INTO repository_blobs (repository_id, blob_id, linked_at, suspect_at)
      SELECT repositories.id, blobs.id, value->>'linked_at', ?2
      FROM json_each(?1) CROSS JOIN repositories ON repositories.name = value->>'repository'
      CROSS JOIN blobs ON blobs.digest = value->>'digest'
      WHERE true ON CONFLICT (repository_id, blob_id) DO NOTHING`,
  },
  {
    name: "blobs",
    sealed: false,
    rowsMax: EXPORT_PART_ROWS,
    select: `SELECT json_object('digest', digest, 'size', size, 'object_key', object_key, 'created_at', created_at,
        'quarantined_at', quarantined_at) AS line, id AS first, '' AS second
      FROM blobs WHERE id > ?1 AND ?2 IS NOT NULL ORDER BY id LIMIT ?3`,
    insert: `INSERT INTO blobs (digest, size, object_key, created_at, quarantined_at)
      SELECT value->>'digest', value->>'size', value->>'object_key', value->>'created_at', value->>'quarantined_at'
      FROM json_each(?1)
      WHERE ?2 IS NOT NULL AND NOT EXISTS (SELECT 1 FROM garbage WHERE garbage.object_key = value->>'object_key')
      ON CONFLICT DO NOTHING`,
  },
  {
    name: "garbage",
    sealed: false,
    rowsMax: EXPORT_PART_ROWS,
    // With those whose objects are gone: of what was pushed again meanwhile, under another key, there are two lines, and
    // only that which R2 has is put back.
    select: `SELECT json_object('object_key', object_key, 'created_at', created_at, 'deleted_at', deleted_at) AS line,
        object_key AS first, '' AS second
      FROM garbage WHERE object_key > iif(typeof(?1) = 'text', ?1, '') AND ?2 IS NOT NULL
      ORDER BY object_key LIMIT ?3`,
    // As if they had gone just now: the collector forgets old ones, and that must not be before the rebuild has ended.
    insert: `INSERT INTO garbage (object_key, created_at, deleted_at)
      SELECT value->>'object_key', value->>'created_at', iif(value->>'deleted_at' IS NULL, NULL, ?2)
      FROM json_each(?1)
      WHERE ?2 IS NOT NULL AND NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.object_key = value->>'object_key')
        AND NOT EXISTS (SELECT 1 FROM manifests WHERE manifests.object_key = value->>'object_key')
      ON CONFLICT (object_key) DO NOTHING`,
  },
  {
    name: "repositories",
    sealed: false,
    rowsMax: EXPORT_PART_ROWS,
    select: `SELECT json_object('name', name, 'created_at', created_at) AS line, id AS first, '' AS second
      FROM repositories WHERE id > ?1 AND ?2 IS NOT NULL ORDER BY id LIMIT ?3`,
    insert: `INSERT INTO repositories (name, created_at) SELECT value->>'name', value->>'created_at' FROM json_each(?1)
      WHERE ?2 IS NOT NULL ON CONFLICT (name) DO NOTHING`,
  },
  {
    name: "users",
    sealed: true,
    rowsMax: EXPORT_LONG_ROWS,
    select: `SELECT json_object('name', name, 'email', email, 'password', password, 'grants', grants,
        'disabled_at', disabled_at, 'created_at', created_at) AS line, id AS first, '' AS second
      FROM users WHERE id > ?1 AND ?2 IS NOT NULL ORDER BY id LIMIT ?3`,
    insert: `INSERT INTO users (name, email, password, grants, disabled_at, created_at)
      SELECT value->>'name', value->>'email', value->>'password', value->>'grants', value->>'disabled_at',
        value->>'created_at'
      FROM json_each(?1) WHERE ?2 IS NOT NULL ON CONFLICT DO NOTHING`,
  },
  {
    name: "access_tokens",
    sealed: true,
    rowsMax: EXPORT_LONG_ROWS,
    select: `SELECT json_object('id', access_tokens.id, 'user', users.name, 'name', access_tokens.name,
        'hash', hash, 'grants', access_tokens.grants, 'created_at', access_tokens.created_at,
        'expires_at', expires_at, 'last_used_at', last_used_at, 'revoked_at', revoked_at) AS line,
        access_tokens.id AS first, '' AS second
      FROM access_tokens CROSS JOIN users ON users.id = access_tokens.user_id
      WHERE access_tokens.id > iif(typeof(?1) = 'text', ?1, '') AND ?2 IS NOT NULL ORDER BY access_tokens.id LIMIT ?3`,
    insert: `INSERT INTO access_tokens (id, user_id, name, hash, grants, created_at, expires_at, last_used_at, revoked_at)
      SELECT value->>'id', users.id, value->>'name', value->>'hash', value->>'grants', value->>'created_at',
        value->>'expires_at', value->>'last_used_at', value->>'revoked_at'
      FROM json_each(?1) CROSS JOIN users ON users.name = value->>'user'
      WHERE ?2 IS NOT NULL ON CONFLICT DO NOTHING`,
  },
  {
    name: "trust_rules",
    sealed: true,
    rowsMax: EXPORT_LONGEST_ROWS,
    select: `SELECT json_object('name', name, 'issuer', issuer, 'audience', audience, 'conditions', conditions,
        'grants', grants, 'created_at', created_at) AS line, id AS first, '' AS second
      FROM trust_rules WHERE id > ?1 AND ?2 IS NOT NULL ORDER BY id LIMIT ?3`,
    insert: `INSERT INTO trust_rules (name, issuer, audience, conditions, grants, created_at)
      SELECT value->>'name', value->>'issuer', value->>'audience', value->>'conditions', value->>'grants',
        value->>'created_at'
      FROM json_each(?1) WHERE ?2 IS NOT NULL ON CONFLICT (name) DO NOTHING`,
  },
  {
    name: "integrity_findings",
    sealed: false,
    rowsMax: EXPORT_PART_ROWS,
    select: `SELECT json_object('kind', kind, 'digest', digest, 'size', size, 'problem', problem, 'found', found,
        'object_key', object_key, 'repository', repository, 'put_request', put_request, 'found_by', found_by,
        'found_at', found_at, 'released_at', released_at, 'discarded_at', discarded_at) AS line, id AS first,
        '' AS second
      FROM integrity_findings WHERE id > ?1 AND ?2 IS NOT NULL ORDER BY id LIMIT ?3`,
    insert: `INSERT INTO integrity_findings (kind, digest, size, problem, found, object_key, repository, manifest_id,
        put_request, found_by, found_at, released_at, discarded_at)
      SELECT value->>'kind', value->>'digest', value->>'size', value->>'problem', value->>'found',
        value->>'object_key', value->>'repository', manifests.id, value->>'put_request', value->>'found_by',
        value->>'found_at', value->>'released_at', value->>'discarded_at'
      FROM json_each(?1) LEFT JOIN repositories ON repositories.name = value->>'repository'
      LEFT JOIN manifests ON manifests.repository_id = repositories.id AND manifests.digest = value->>'digest'
        AND manifests.put_request = value->>'put_request'
      WHERE ?2 IS NOT NULL AND NOT EXISTS (SELECT 1 FROM integrity_findings AS kept
        WHERE kept.digest = value->>'digest' AND kept.found_at = value->>'found_at'
          AND kept.repository IS value->>'repository')
      ON CONFLICT DO NOTHING`,
  },
];

/** In the order in which they are put back: what is named, or asked, comes before what names or asks it. */
export const rebuildOrder: readonly NounName[] = [
  "garbage",
  "repositories",
  "blobs",
  "manifests",
  "repository_blobs",
  "tag_history",
  "tags",
  "users",
  "access_tokens",
  "trust_rules",
  "integrity_findings",
];

export function nounOf(name: NounName): Noun {
  const found = nouns.find((noun) => noun.name === name);
  if (found === undefined) throw new Error(`there is no noun ${name}`);
  return found;
}

/**
 * The edges of manifests that were put back: they are no lines of their own, but are read from the manifests' bytes, so
 * that a manifest is never without them. ?1: [repository, manifest's digest, digest, kind] of each.
 */
export const insertReferencesSql = `INSERT INTO manifest_references (manifest_id, digest, kind, repository_id)
  SELECT manifests.id, value->>2, value->>3, repositories.id
  FROM json_each(?1) CROSS JOIN repositories ON repositories.name = value->>0
  CROSS JOIN manifests ON manifests.repository_id = repositories.id AND manifests.digest = value->>1
  WHERE true ON CONFLICT (manifest_id, digest) DO NOTHING`;
