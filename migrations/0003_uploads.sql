-- What became of uploads, for requests at the location that their POST answered, and the key that signs locations.

CREATE TABLE upload_states (
  id TEXT PRIMARY KEY, -- begins with the time of its POST, so that old ones are a range
  state TEXT NOT NULL CHECK (state IN ('opened', 'finished', 'cancelled')), -- opened: a Durable Object knows the rest
  digest TEXT, -- of the blob, where it was finished
  created_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Values that the registry makes for itself, once.
CREATE TABLE registry_values (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;
