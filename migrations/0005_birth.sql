-- Since when this database is the index. The sweep leaves objects alone that are older: they are another database's, whose
-- registry used the same bucket before.
INSERT INTO registry_values (name, value)
VALUES ('created-at', CAST(unixepoch('subsec') * 1000 AS INTEGER)) -- ms since 1970
ON CONFLICT (name) DO NOTHING;
