-- The outbox: an event is written in the batch of the change that it tells of, so neither is ever without the other.

CREATE TABLE events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL, -- manifest.pushed, manifest.deleted, tag.moved, tag.deleted, blob.deleted
  repository TEXT NOT NULL,
  digest TEXT,
  tag TEXT,
  media_type TEXT,
  artifact_type TEXT,
  subject TEXT,
  actor TEXT NOT NULL,
  created_at INTEGER NOT NULL
);
-- Serves the retention.
CREATE INDEX events_created ON events (created_at);
