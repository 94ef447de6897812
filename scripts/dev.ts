/**
 * `npm run dev`: `wrangler dev` on the state folder of `npm start`, with its lock and its migrations, so that the two
 * can take turns but never meet. It reloads when the source changes; small requests take five times as long.
 */
import Module, { createRequire } from "node:module";
import path from "node:path";
import { failByKind, report } from "./console.ts";
import { listenHost, requireFree } from "./host.ts";
import { acquireLock } from "./lock.ts";
import { applyMigrations } from "./migrations.ts";
import { type Options, parseOptions, usage } from "./options.ts";
import { readProject } from "./project.ts";
import { localSecrets } from "./secrets.ts";

await main().catch(failByKind);

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) {
    console.log(usage("npm run dev"));
    return;
  }
  const project = readProject(options.configPath, options.vars);
  const lock = await acquireLock(options.stateDir, "npm run dev", report);
  const secrets = localSecrets(options.stateDir, project.workerOptions.bindings);
  await applyMigrations(project, path.join(options.stateDir, "v3"));
  const host = await listenHost(options.port);
  // wrangler stays where its port is another's, whom the lock would then name.
  await requireFree(host, options.port);
  // Which free one it takes is not known here.
  if (options.port !== 0) lock.noteAddress({ host, port: options.port });
  becomeWrangler(["dev", ...wranglerOptions(options, host), `--env-file=${secrets.file}`]);
}

function wranglerOptions(options: Options, host: string): string[] {
  return [
    `--config=${options.configPath}`,
    `--persist-to=${options.stateDir}`,
    `--ip=${host}`,
    `--port=${options.port}`,
    "--var=LOCAL_RUN:1",
    ...Object.entries(options.vars).map(([name, value]) => `--var=${name}:${value}`),
  ];
}

/**
 * Goes on as wrangler's command line in this very process: the lock's owner is then the process that serves, sees the
 * workerds that wrangler starts (two, and new ones at each reload) and gives the state free when it ends.
 */
function becomeWrangler(argv: readonly string[]): void {
  // Neither a sample of request.cf, nor usage figures, nor news of a later wrangler are worth a connection to the outside.
  process.env["CLOUDFLARE_CF_FETCH_ENABLED"] = "false";
  process.env["WRANGLER_SEND_METRICS"] = "false";
  process.env["WRANGLER_HIDE_BANNER"] = "true";
  const require = createRequire(import.meta.url);
  const cli = require.resolve("wrangler");
  // wrangler runs its command line only as the main module, and was imported as a library above.
  Reflect.deleteProperty(require.cache, cli);
  process.argv = [process.execPath, cli, ...argv];
  Module.runMain();
}
