const cached = new WeakMap<D1Database, string>();

/**
 * The key that signs upload locations. The registry makes it once and keeps it in D1, so that every isolate has the
 * same one and nobody has to set a secret. One query an isolate's life.
 */
export async function signingKey(db: D1Database): Promise<string> {
  const known = cached.get(db);
  if (known !== undefined) return known;
  const candidate = `${crypto.randomUUID()}${crypto.randomUUID()}`;
  const [, read] = await db.batch<{ value: string }>([
    db
      .prepare(
        "INSERT INTO registry_values (name, value) VALUES ('upload-signing-key', ?1) ON CONFLICT (name) DO NOTHING",
      )
      .bind(candidate),
    db.prepare("SELECT value FROM registry_values WHERE name = 'upload-signing-key'"),
  ]);
  const key = read?.results[0]?.value;
  if (key === undefined) throw new Error("the signing key could not be read back");
  cached.set(db, key);
  return key;
}
