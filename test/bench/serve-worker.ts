/**
 * Serves one Worker of the bench as `npm start` serves the registry: Miniflare's normal port, the bindings of
 * wrangler.toml, the same migrations. Usage: serve-worker.ts <entry module> <state folder>; prints the base URL.
 */
import path from "node:path";
import { bundleWorker } from "../../scripts/bundle.ts";
import { applyMigrations } from "../../scripts/migrations.ts";
import { openMiniflare } from "../../scripts/miniflare.ts";
import { projectRoot } from "../../scripts/options.ts";
import { readProject } from "../../scripts/project.ts";
import { testSecrets } from "../support/credentials.ts";

const [main, stateDir] = process.argv.slice(2);
if (main === undefined || stateDir === undefined)
  throw new Error("usage: serve-worker.ts <entry module> <state folder>");

const project = readProject(path.join(projectRoot, "wrangler.toml"), {});
const persistPath = path.join(stateDir, "v3");
const bundle = await bundleWorker(path.resolve(main), project.define);
await applyMigrations(project, persistPath);
const miniflare = openMiniflare(project, bundle, { persistPath, host: "127.0.0.1", port: 0 }, testSecrets);
const stopped = new Promise<void>((resolve) => {
  process.once("SIGTERM", () => resolve());
});
console.log(`serving http://127.0.0.1:${(await miniflare.ready).port}`);
await stopped;
await miniflare.dispose();
process.exit(0);
