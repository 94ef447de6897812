-- How uploads that never needed a Durable Object ended, and the key that signs upload locations.

CREATE TABLE finished_uploads (
  id TEXT PRIMARY KEY, -- begins with the time of its POST, so that old ones are a range
  digest TEXT, -- NULL: cancelled
  created_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Values that the registry makes for itself, once.
CREATE TABLE registry_values (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;
