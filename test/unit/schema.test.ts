import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";

interface Column {
  readonly name: string;
  readonly type: string;
}

async function tables(): Promise<Map<string, readonly Column[]>> {
  const { results } = await env.DB.prepare(
    `SELECT tables.name AS tableName, columns.name AS name, columns.type AS type
     FROM pragma_table_list AS tables JOIN pragma_table_info(tables.name) AS columns
     WHERE tables.schema = 'main' AND tables.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
       AND tables.name NOT LIKE '\\_cf%' ESCAPE '\\' AND tables.name <> 'd1_migrations'`,
  ).all<Column & { tableName: string }>();
  return Map.groupBy(results, ({ tableName }) => tableName);
}

describe("the schema of migrations/", () => {
  it("has a table for each noun of the registry", async () => {
    expect([...(await tables()).keys()].toSorted()).toEqual([
      "access_tokens",
      "audit",
      "blobs",
      "events",
      "export_parts",
      "garbage",
      "integrity_findings",
      "manifest_references",
      "manifests",
      "registry_values",
      "repositories",
      "repository_blobs",
      "tag_history",
      "tags",
      "trust_rules",
      "upload_states",
      "users",
    ]);
  });

  it("has no column for bytes: D1 hands those out as lists of numbers", async () => {
    for (const [table, columns] of await tables()) {
      for (const { name, type } of columns)
        expect({ table, name, type: ["INTEGER", "TEXT"].includes(type) }).toEqual({ table, name, type: true });
    }
  });

  it("keeps a manifest's bytes in the last column: whoever reads the others reads no page of them", async () => {
    expect((await tables()).get("manifests")?.at(-1)).toMatchObject({ name: "body", type: "TEXT" });
  });
});
