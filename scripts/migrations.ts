/** The database's migrations, applied as `wrangler d1 migrations apply --local` would. */
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { unstable_splitSqlQuery } from "wrangler";
import { UsageError } from "./options.ts";
import type { D1Migrations, Project } from "./project.ts";
import { stateRefusal } from "./state-folder.ts";

type Database = Awaited<ReturnType<Miniflare["getD1Database"]>>;

/**
 * Applies what is missing, in a workerd of its own that serves nothing, and ends it. The Worker is started on the
 * public port only afterwards: a Miniflare answers from the moment that it is up, so one that migrated itself would
 * answer with an old schema first.
 *
 * @param persistPath wrangler's `<state>/v3`
 * @returns the names of the files that were applied, in order
 * @throws UsageError naming the file that SQLite refused, the files before it stay applied; or where nothing can be
 * written to `persistPath`
 */
export async function applyMigrations(project: Project, persistPath: string): Promise<string[]> {
  const { d1Databases, compatibilityDate } = project.workerOptions;
  const miniflare = new Miniflare({
    ...convertV4MiniflareOptions({
      name: project.name,
      modules: true,
      script: "export default {}",
      d1Databases,
      compatibilityDate,
      cf: false,
    }),
    resourcePersistencePath: persistPath,
  });
  // Before the block that disposes of it: one that did not become ready throws the same error from `dispose` again.
  await miniflare.ready.catch((error: unknown) => {
    throw stateRefusal(persistPath, error);
  });
  try {
    const applied: string[] = [];
    for (const migrations of project.migrations) {
      const database = await miniflare.getD1Database(migrations.binding);
      applied.push(...(await applyTo(database, migrations)));
    }
    return applied;
  } finally {
    await miniflare.dispose();
  }
}

async function applyTo(database: Database, migrations: D1Migrations): Promise<string[]> {
  const table = `"${migrations.table.replaceAll('"', '""')}"`;
  // The columns are wrangler's: `wrangler d1 migrations list --local` reads the same table.
  await database
    .prepare(
      `CREATE TABLE IF NOT EXISTS ${table} (
				id INTEGER PRIMARY KEY AUTOINCREMENT,
				name TEXT UNIQUE,
				applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL
			)`,
    )
    .run();
  const { results } = await database.prepare(`SELECT name FROM ${table}`).all<{ name: string }>();
  const known = new Set(results.map((row) => row.name));

  const missing = (await migrationFiles(migrations.folder)).filter((name) => !known.has(name));
  for (const name of missing) {
    const sql = await readFile(path.join(migrations.folder, name), "utf8");
    const statements = unstable_splitSqlQuery(sql).map((query) => database.prepare(query));
    // One batch is one transaction: a file is applied and noted, or neither.
    await database
      .batch([...statements, database.prepare(`INSERT INTO ${table} (name) VALUES (?)`).bind(name)])
      .catch((error: unknown) => {
        const reason = error instanceof Error ? error.message : String(error);
        throw new UsageError(`migration ${name} failed: ${reason}`, { cause: error });
      });
  }
  return missing;
}

/** The folder's `.sql` files by their leading number, then by name, as wrangler sorts them. */
async function migrationFiles(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => {
    throw new UsageError(`there is no folder of migrations at ${folder}`);
  });
  return names
    .filter((name) => name.endsWith(".sql"))
    .toSorted((a, b) => leadingNumber(a) - leadingNumber(b) || (a < b ? -1 : 1));
}

function leadingNumber(name: string): number {
  return Number.parseInt(name, 10);
}
