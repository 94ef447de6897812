-- Tags as they are, and as they were.

CREATE TABLE tags (
  repository_id INTEGER NOT NULL REFERENCES repositories (id),
  name TEXT NOT NULL, -- compared as bytes: the listing order is ASCIIbetical
  manifest_id INTEGER NOT NULL REFERENCES manifests (id),
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (repository_id, name)
) WITHOUT ROWID;
-- Serves the deletion of a manifest, which takes its tags.
CREATE INDEX tags_manifest ON tags (manifest_id);

-- Who moved what when. A put of the digest that the tag has already is no move.
CREATE TABLE tag_history (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  repository_id INTEGER NOT NULL REFERENCES repositories (id),
  name TEXT NOT NULL,
  digest TEXT, -- NULL: the tag was deleted
  actor TEXT NOT NULL,
  created_at INTEGER NOT NULL
);
CREATE INDEX tag_history_name ON tag_history (repository_id, name, id);
