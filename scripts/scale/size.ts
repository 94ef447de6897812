import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { z } from "zod";
import type { ScaleCounts } from "./content.ts";
import { databaseFile } from "./load.ts";

/** A table or an index, and what its pages take. */
export interface Size {
  readonly table: string;
  /** the table itself, where it is the same name */
  readonly name: string;
  readonly bytes: number;
}

/** How large a D1 database may be: developers.cloudflare.com/d1/platform/limits. */
export const D1_MAX_BYTES = 10_000_000_000;

const rowSchema = z.array(z.object({ table: z.string(), name: z.string(), bytes: z.number() }));

/** Of every table and index in the state's database, the largest first. Nothing may serve it meanwhile. */
export function measureSize(stateDir: string): readonly Size[] {
  const database = new DatabaseSync(databaseFile(path.join(stateDir, "v3")), { readOnly: true });
  try {
    return rowSchema.parse(
      database
        .prepare(
          `SELECT coalesce(tbl_name, dbstat.name) AS "table", dbstat.name AS name, sum(pgsize) AS bytes
           FROM dbstat LEFT JOIN sqlite_schema ON sqlite_schema.name = dbstat.name
           GROUP BY dbstat.name ORDER BY bytes DESC`,
        )
        .all(),
    );
  } finally {
    database.close();
  }
}

/** Bytes of each, for each manifest, and how many manifests D1's largest database would hold at that. */
export function sizeTable(sizes: readonly Size[], { manifests }: ScaleCounts): string {
  const whole = sizes.reduce((sum, { bytes }) => sum + bytes, 0);
  const row = (name: string, bytes: number): string =>
    `${name.padEnd(50)}${(bytes / 1e6).toFixed(1).padStart(10)} MB${(bytes / manifests).toFixed(0).padStart(8)} bytes a manifest`;
  const most = (D1_MAX_BYTES / (whole / manifests) / 1e6).toFixed(2);
  return [
    ...sizes
      .filter(({ bytes }) => bytes > whole / 1000)
      .map(({ table, name, bytes }) => row(table === name ? name : `  ${table}: ${name}`, bytes)),
    row("in all", whole),
    `10 GB hold ${most} million such manifests`,
  ].join("\n");
}
