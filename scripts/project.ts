/** What wrangler.toml says, in the form that the local run needs it. */
import { statSync } from "node:fs";
import path from "node:path";
import { unstable_getMiniflareWorkerOptions, unstable_readConfig } from "wrangler";
import { z } from "zod";
import { cronRefusal } from "./crons.ts";
import { secretNames } from "../src/access/secrets.ts";
import { UsageError } from "./options.ts";
import { requireSettings } from "./settings.ts";

/** The part of wrangler's configuration that is used here; its published types name packages that are not published. */
const configSchema = z.object({
  name: z.string(),
  /** Absolute: wrangler has resolved it against the file's folder. */
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
    r2Buckets: z.record(z.string(), z.looseObject({ id: z.string() })),
    durableObjects: z.record(z.string(), z.looseObject({ className: z.string() })),
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
  /** What the entry module must export. */
  exports: readonly string[];
  crons: readonly string[];
  migrations: readonly D1Migrations[];
  /** Bindings, compatibility date and flags, with the overriding settings in place; no modules. */
  workerOptions: z.infer<typeof workerOptionsSchema>;
  /** What wrangler would replace in the source while bundling. */
  define: Readonly<Record<string, string>>;
}

/**
 * Everything that can be wrong with it is found here, before anything is started.
 *
 * @throws UsageError, one line, where the file can't be read or lacks what the Worker needs, or `vars` names a setting
 * that it does not have or gives one a value that can't be
 */
export function readProject(configPath: string, vars: Readonly<Record<string, string>>): Project {
  if (!isFile(configPath)) throw new UsageError(`there is no file ${configPath}`);
  const { config, options, define } = readWranglerConfig(configPath);
  requireKnown(vars, [...Object.keys(config.vars), ...secretNames], configPath);
  const settings = { ...withoutPlaceholders(options.bindings), ...vars };
  requireSettings(settings);
  const problem = problemOf(config, options);
  if (problem !== null) throw new UsageError(`${configPath}: ${problem}`);

  return {
    name: config.name,
    main: config.main,
    exports: ["default", ...Object.values(options.durableObjects).map(({ className }) => className)],
    crons: config.triggers.crons ?? [],
    migrations: config.d1_databases.map((database) => ({
      binding: database.binding,
      // Relative to the file that holds it.
      folder: path.resolve(path.dirname(configPath), database.migrations_dir),
      table: database.migrations_table,
    })),
    workerOptions: { ...options, bindings: settings },
    define,
  };
}

function readWranglerConfig(configPath: string) {
  try {
    const config = configSchema.parse(unstable_readConfig({ config: configPath }, { hideWarnings: true }));
    const { workerOptions, define } = withPlaceholders(() => unstable_getMiniflareWorkerOptions(configPath));
    return { config, options: workerOptionsSchema.parse(workerOptions), define };
  } catch (error) {
    throw configRefusal(configPath, error);
  }
}

/**
 * Runs it with a placeholder for each secret in the environment, where wrangler looks for them: it warns of those that
 * are missing, which the local run makes for itself, and takes those that the user's shell has for other programs.
 */
function withPlaceholders<T>(work: () => T): T {
  const replaced = { ...Object.fromEntries(secretNames.map((name) => [name, ""])), WRANGLER_LOG: "warn" };
  const before = Object.keys(replaced).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, replaced);
  try {
    return work();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = value;
    }
  }
}

function withoutPlaceholders<T>(bindings: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(
    Object.entries(bindings).filter(([name, value]) => value !== "" || !secretNames.includes(name)),
  );
}

/** What wrangler throws where its user is to blame: a mistake in the syntax has a place, one in the meaning does not. */
const wranglerErrorSchema = z.object({
  message: z.string(),
  telemetryMessage: z.unknown().refine((value) => value !== undefined),
  location: z.object({ line: z.number() }).optional(),
  notes: z.array(z.object({ text: z.string() })).default([]),
});

function configRefusal(configPath: string, error: unknown): unknown {
  if (error instanceof z.ZodError) {
    const issues = error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
    return new UsageError(`${configPath}: ${issues.join("; ")}`, { cause: error });
  }
  const known = wranglerErrorSchema.safeParse(error);
  if (!known.success) return error;
  const { message, location, notes } = known.data;
  const place = location === undefined ? configPath : `${configPath}:${location.line}`;
  const reasons = [message.replace(/^Processing .* configuration:\n/, ""), ...notes.map(({ text }) => text)];
  const lines = reasons.flatMap((reason) => reason.split("\n")).map((line) => line.replace(/^[\s-]+/, ""));
  return new UsageError(`${place}: ${lines.filter((line) => line !== "").join(" ")}`, { cause: error });
}

/** What the Worker could be started without, and would then fail by at the first request, or never collect. */
function problemOf(
  { main, triggers }: z.infer<typeof configSchema>,
  { r2Buckets, d1Databases, durableObjects }: z.infer<typeof workerOptionsSchema>,
): string | null {
  if (!isFile(main)) return `main: there is no file ${main}`;
  if (!("BLOBS" in r2Buckets)) return "[[r2_buckets]] has no binding BLOBS";
  if (!("DB" in d1Databases)) return "[[d1_databases]] has no binding DB";
  if (!("UPLOADS" in durableObjects)) return "[[durable_objects.bindings]] has no name UPLOADS";
  const stateless = Object.values(durableObjects).find((object) => object["useSQLite"] !== true);
  if (stateless !== undefined) return `[[migrations]] has no new_sqlite_classes with ${stateless.className}`;
  const crons = triggers.crons ?? [];
  if (crons.length === 0) return "[triggers] has no crons: nothing that is deleted would ever be collected";
  const refusals = crons.flatMap((cron) => cronRefusal(cron) ?? []);
  return refusals.length === 0 ? null : `crons: ${refusals.join("; ")}`;
}

/** A misspelt setting that is taken in silence leaves the default in force. */
function requireKnown(vars: Readonly<Record<string, string>>, known: readonly string[], configPath: string): void {
  const unknown = Object.keys(vars).filter((name) => !known.includes(name));
  if (unknown.length === 0) return;
  throw new UsageError(
    `--var: ${unknown.join(", ")} is not a setting; ${path.basename(configPath)} has ${known.toSorted().join(", ")}`,
  );
}

function isFile(name: string): boolean {
  return statSync(name, { throwIfNoEntry: false })?.isFile() ?? false;
}
