-- Content whose bytes are not those of its digest, and copies of the index.

-- Since when a blob answers 404, because its object was found bad; a push of the digest brings another object, and ends it.
ALTER TABLE blobs ADD COLUMN quarantined_at INTEGER;
-- Serves the scrub: is it so much that something else must be wrong?
CREATE INDEX blobs_quarantined ON blobs (quarantined_at) WHERE quarantined_at IS NOT NULL;

-- What was found. A row of a blob holds its bad object: while neither of the last two is set, the collector leaves it.
CREATE TABLE integrity_findings (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL CHECK (kind IN ('blob', 'manifest')),
  digest TEXT NOT NULL,
  size INTEGER NOT NULL, -- bytes that it should have
  problem TEXT NOT NULL CHECK (problem IN ('missing', 'size', 'digest')),
  found TEXT, -- what there is in place of it: a number of bytes, or a digest; NULL: nothing
  object_key TEXT, -- in R2; NULL: the bytes are in the manifest's row
  repository TEXT, -- of a manifest
  manifest_id INTEGER,
  put_request TEXT, -- of the manifest as it was found: a push of the same digest has another, and ends the quarantine
  found_by TEXT NOT NULL, -- a principal
  found_at INTEGER NOT NULL,
  released_at INTEGER, -- since when it is served as it is
  discarded_at INTEGER -- when its object was given to the collector
);
-- Serves every pull of a manifest: is it quarantined?
CREATE UNIQUE INDEX integrity_findings_manifest ON integrity_findings (manifest_id, put_request)
  WHERE manifest_id IS NOT NULL AND released_at IS NULL;
-- Serves the collector: is the object held?
CREATE INDEX integrity_findings_object ON integrity_findings (object_key) WHERE object_key IS NOT NULL;
-- Serves the list: which finding is a blob's newest?
CREATE INDEX integrity_findings_digest ON integrity_findings (digest);

-- The parts of the copy of the index that is being made; its list is written from them at the end.
CREATE TABLE export_parts (
  number INTEGER PRIMARY KEY,
  noun TEXT NOT NULL, -- whose rows it has
  object_key TEXT NOT NULL,
  row_count INTEGER NOT NULL
);
