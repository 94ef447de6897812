/** What wrangler.toml says, in the form that the local run needs it. */
import { existsSync } from "node:fs";
import path from "node:path";
import { unstable_getMiniflareWorkerOptions, unstable_readConfig } from "wrangler";
import { z } from "zod";
import { UsageError } from "./options.ts";

/** The part of wrangler's configuration that is used here; its published types name packages that are not published. */
const configSchema = z.object({
  name: z.string(),
  main: z.string(),
  vars: z.record(z.string(), z.unknown()),
  triggers: z.object({ crons: z.array(z.string()).optional() }),
  d1_databases: z.array(
    z.object({
      binding: z.string(),
      migrations_dir: z.string().default("migrations"),
      migrations_table: z.string().default("d1_migrations"),
    }),
  ),
});

const workerOptionsSchema = z
  .looseObject({
    compatibilityDate: z.string(),
    bindings: z.record(z.string(), z.json()),
    d1Databases: z.record(z.string(), z.object({ id: z.string() })),
  })
  // These two say how wrangler finds modules; here esbuild does, and the paths that it gives are complete.
  .transform(({ modulesRules: _rules, rootPath: _root, ...options }) => options);

export interface D1Migrations {
  binding: string;
  /** Absolute path of the folder with the `.sql` files. */
  folder: string;
  /** The table in which wrangler, too, notes what is applied. */
  table: string;
}

export interface Project {
  /** Goes into the path of Durable Object state: the same name, or `wrangler dev` does not find it. */
  name: string;
  /** Absolute path of the Worker's entry module. */
  main: string;
  crons: readonly string[];
  migrations: readonly D1Migrations[];
  /** Bindings, compatibility date and flags, with the overriding settings in place; no modules. */
  workerOptions: z.infer<typeof workerOptionsSchema>;
  /** What wrangler would replace in the source while bundling. */
  define: Readonly<Record<string, string>>;
}

/** @throws UsageError where wrangler.toml lacks what is needed, or `vars` names a setting that it does not have */
export function readProject(configPath: string, vars: Readonly<Record<string, string>>): Project {
  if (!existsSync(configPath)) throw new UsageError(`there is no ${configPath}`);
  const config = configSchema.safeParse(unstable_readConfig({ config: configPath }, { hideWarnings: true }));
  if (!config.success) throw new UsageError(`${configPath}: ${z.prettifyError(config.error)}`);
  const { name, main, triggers, d1_databases: databases } = config.data;
  requireKnown(vars, Object.keys(config.data.vars), configPath);

  const { workerOptions, define } = unstable_getMiniflareWorkerOptions(configPath);
  const options = workerOptionsSchema.parse(workerOptions);
  // `main` and `migrations_dir` are relative to the file that holds them.
  const folder = path.dirname(configPath);
  return {
    name,
    main: path.resolve(folder, main),
    crons: triggers.crons ?? [],
    migrations: databases.map((database) => ({
      binding: database.binding,
      folder: path.resolve(folder, database.migrations_dir),
      table: database.migrations_table,
    })),
    workerOptions: { ...options, bindings: { ...options.bindings, ...vars } },
    define,
  };
}

/** A misspelt setting that is taken in silence leaves the default in force. */
function requireKnown(vars: Readonly<Record<string, string>>, known: readonly string[], configPath: string): void {
  const unknown = Object.keys(vars).filter((name) => !known.includes(name));
  if (unknown.length === 0) return;
  throw new UsageError(
    `--var: ${unknown.join(", ")} is not a setting; ${path.basename(configPath)} has ${known.toSorted().join(", ")}`,
  );
}
