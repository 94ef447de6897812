import type { ManifestReference } from "../oci/manifest.ts";
import { jsonArrays } from "../sql.ts";
import { isQuarantinedManifest } from "./quarantined.ts";

/**
 * A manifest's references as JSON lists for `json_each`: D1 takes 100 parameters a statement and 2 MB a value, so ten
 * thousand layers go in as a few values. An entry is [digest, size, is a child, is required].
 */
export type ReferenceList = readonly string[];

export function encodeReferences(references: readonly ManifestReference[], sparse: boolean): ReferenceList {
  return jsonArrays(
    references.map(({ digest, size, kind, required }) =>
      JSON.stringify([digest, size, kind === "child" ? 1 : 0, required && !sparse ? 1 : 0]),
    ),
  );
}

/**
 * SQL that yields a row (digest, size, stored) for each reference that the repository can't hold to: `stored` is NULL
 * where the content is missing though required, else it is the stored size, which differs from the descriptor's.
 * A condemned blob counts as there: the put that asks revives it. What is quarantined does not: its bytes must come again.
 * @param repositoryId an SQL expression
 * @param firstParameter number of the parameter that the first list is bound to
 */
export function selectProblems(repositoryId: string, references: ReferenceList, firstParameter: number): string {
  if (references.length === 0) return "SELECT NULL AS digest, NULL AS size, NULL AS stored WHERE 0";
  const lists = references
    .map((_, index) => `SELECT value FROM json_each(?${String(firstParameter + index)})`)
    .join(" UNION ALL ");
  return `SELECT wanted.digest AS digest, wanted.size AS size, coalesce(child.size, iif(member.blob_id, stored.size, NULL)) AS stored
    FROM (SELECT json_extract(value, '$[0]') AS digest, json_extract(value, '$[1]') AS size,
                 json_extract(value, '$[2]') AS is_child, json_extract(value, '$[3]') AS required FROM (${lists})) AS wanted
    LEFT JOIN blobs AS stored ON stored.digest = wanted.digest AND stored.quarantined_at IS NULL
    LEFT JOIN repository_blobs AS member ON member.repository_id = ${repositoryId} AND member.blob_id = stored.id
    LEFT JOIN manifests AS child
      ON wanted.is_child AND child.repository_id = ${repositoryId} AND child.digest = wanted.digest
        AND NOT ${isQuarantinedManifest("child")}
    WHERE CASE WHEN child.id IS NULL AND member.blob_id IS NULL THEN wanted.required
               ELSE coalesce(child.size, stored.size) <> wanted.size END`;
}

export function bindReferences(
  db: D1Database,
  sql: string,
  before: readonly (string | number | null)[],
  references: ReferenceList,
): D1PreparedStatement {
  return db.prepare(sql).bind(...before, ...references);
}
