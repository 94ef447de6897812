-- Who may do what. Grants are JSON lists of texts such as "team-a/*:pull,push".

CREATE TABLE users (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  email TEXT UNIQUE, -- by which Cloudflare Access knows a person
  password TEXT, -- PBKDF2, for /token alone; NULL: access tokens only
  grants TEXT NOT NULL,
  disabled_at INTEGER,
  created_at INTEGER NOT NULL
);

CREATE TABLE access_tokens (
  id TEXT PRIMARY KEY,
  user_id INTEGER NOT NULL REFERENCES users (id),
  name TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE, -- keyed; the token itself is shown once and stored nowhere
  grants TEXT, -- NULL: all that its user may do
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  last_used_at INTEGER,
  revoked_at INTEGER
) WITHOUT ROWID;
CREATE INDEX access_tokens_user ON access_tokens (user_id);

-- Whose OpenID Connect tokens stand for what.
CREATE TABLE trust_rules (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  issuer TEXT NOT NULL,
  audience TEXT NOT NULL,
  conditions TEXT NOT NULL, -- JSON: claim -> patterns, of which one must match
  grants TEXT NOT NULL,
  created_at INTEGER NOT NULL
);
CREATE INDEX trust_rules_issuer ON trust_rules (issuer);

-- Who did what, when, from where, and how it ended.
CREATE TABLE audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  created_at INTEGER NOT NULL,
  principal TEXT NOT NULL,
  token_id TEXT,
  address TEXT,
  request_id TEXT NOT NULL,
  action TEXT NOT NULL, -- manifest.push, blob.delete, login, access.refused, token.create, ...
  repository TEXT,
  reference TEXT,
  digest TEXT,
  outcome TEXT NOT NULL CHECK (outcome IN ('ok', 'refused')),
  detail TEXT -- JSON
);
-- Each is read from its end, for the newest first.
CREATE INDEX audit_created ON audit (created_at);
CREATE INDEX audit_action ON audit (action, created_at);
CREATE INDEX audit_principal ON audit (principal, created_at);
CREATE INDEX audit_repository ON audit (repository, created_at);
CREATE INDEX audit_refused ON audit (created_at) WHERE outcome = 'refused';
