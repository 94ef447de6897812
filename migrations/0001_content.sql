-- Repositories, blobs, manifests and the graph between them.

-- A row is made by the first blob or manifest of a name, and stays.
CREATE TABLE repositories (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  created_at INTEGER NOT NULL -- ms since 1970, as every *_at below
);

-- Content of one digest, kept once for the whole registry.
CREATE TABLE blobs (
  id INTEGER PRIMARY KEY,
  digest TEXT NOT NULL UNIQUE,
  size INTEGER NOT NULL, -- bytes
  object_key TEXT NOT NULL UNIQUE, -- in R2; never used twice. The index serves the sweep of R2 for objects that no row names.
  created_at INTEGER NOT NULL,
  suspect_at INTEGER -- since when the last repository may have let go of it; NULL: not suspected
);
-- Serves the collector: blobs that may have lost their last repository.
CREATE INDEX blobs_suspect ON blobs (suspect_at) WHERE suspect_at IS NOT NULL;

-- Which blobs a repository has. Who has not sent or mounted the bytes has no row, and gets 404.
CREATE TABLE repository_blobs (
  repository_id INTEGER NOT NULL REFERENCES repositories (id),
  blob_id INTEGER NOT NULL REFERENCES blobs (id),
  linked_at INTEGER NOT NULL,
  suspect_at INTEGER, -- since when no manifest may name it; NULL: some manifest did when last looked at
  condemned_at INTEGER, -- since when it answers 404 and waits to be removed; a manifest that names it revives it
  PRIMARY KEY (repository_id, blob_id)
) WITHOUT ROWID;
-- Serves a mount without `from`, and the question whether any repository has the blob.
CREATE INDEX repository_blobs_blob ON repository_blobs (blob_id);
-- Serve the collector: what to look at, and what to remove.
CREATE INDEX repository_blobs_suspect ON repository_blobs (suspect_at) WHERE suspect_at IS NOT NULL;
CREATE INDEX repository_blobs_condemned ON repository_blobs (condemned_at) WHERE condemned_at IS NOT NULL;

CREATE TABLE manifests (
  id INTEGER PRIMARY KEY,
  repository_id INTEGER NOT NULL REFERENCES repositories (id),
  digest TEXT NOT NULL,
  media_type TEXT NOT NULL,
  size INTEGER NOT NULL, -- bytes
  subject TEXT, -- digest of the manifest that this one refers to; it need not exist
  artifact_type TEXT, -- as the referrers API shows it
  put_request TEXT NOT NULL, -- id of the last request that put it: how the rest of that request's batch knows that it passed
  created_at INTEGER NOT NULL,
  object_key TEXT UNIQUE, -- in R2, where the bytes are not in `body`
  descriptor TEXT, -- its entry in the referrers list (JSON); only where it has a subject
  body TEXT -- the bytes, where they are valid UTF-8 and few; last, so that HEAD never reads its pages
);
-- Serves every pull by digest.
CREATE UNIQUE INDEX manifests_digest ON manifests (repository_id, digest);
-- Serves the referrers API, with and without its filter.
CREATE INDEX manifests_subject ON manifests (repository_id, subject, id) WHERE subject IS NOT NULL;

-- The edges of the graph: manifest -> blob and manifest -> child. The digest need not be there (sparse, or deleted since).
CREATE TABLE manifest_references (
  manifest_id INTEGER NOT NULL REFERENCES manifests (id),
  digest TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('blob', 'child')), -- a child is an index's descriptor: a manifest or a blob
  repository_id INTEGER NOT NULL, -- of the manifest; here so that one index answers the collector
  PRIMARY KEY (manifest_id, digest)
) WITHOUT ROWID;
-- Serves the collector: does any manifest of this repository name this digest?
CREATE INDEX manifest_references_digest ON manifest_references (digest, repository_id);

-- R2 objects that no row names any more. A key goes in with the change that let go of it; while it is here, no row can
-- name it, and it stays for a day after R2 deleted it: a request that is still on its way to its rows finds it then.
CREATE TABLE garbage (
  object_key TEXT PRIMARY KEY,
  created_at INTEGER NOT NULL,
  deleted_at INTEGER -- when R2 had deleted the object; NULL: not yet
) WITHOUT ROWID;
-- Serve the collector: what to delete, and what to forget.
CREATE INDEX garbage_waiting ON garbage (created_at) WHERE deleted_at IS NULL;
CREATE INDEX garbage_deleted ON garbage (deleted_at) WHERE deleted_at IS NOT NULL;
