import { z } from "zod";

const namesSchema = z.array(z.string());

/** Names after `last` of the repositories that hold a manifest, in byte order; as one JSON array, one value. */
export async function listRepositories(db: D1Database, last: string, limit: number): Promise<readonly string[]> {
  const row = await db
    .prepare(
      `SELECT json_group_array(name) AS names FROM (
         SELECT name FROM repositories
         WHERE name > ?1 AND EXISTS (SELECT 1 FROM manifests WHERE manifests.repository_id = repositories.id)
         ORDER BY name LIMIT ?2)`,
    )
    .bind(last, limit)
    .first<{ names: string }>();
  return namesSchema.parse(JSON.parse(row?.names ?? "[]"));
}
