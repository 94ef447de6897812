/**
 * Serves one Worker of the bench as `npm start` serves the registry: Miniflare's normal port, the bindings of
 * wrangler.toml, the same migrations. Usage: serve-worker.ts <entry module> <state folder> [direct] [NAME=VALUE ...];
 * prints the base URL. `direct`: the runtime's own socket, without Miniflare's before it.
 */
import path from "node:path";
import { bundleWorker } from "../../scripts/bundle.ts";
import { applyMigrations } from "../../scripts/migrations.ts";
import { openMiniflare } from "../../scripts/miniflare.ts";
import { projectRoot } from "../../scripts/options.ts";
import { readProject } from "../../scripts/project.ts";
import { testSecrets } from "../support/credentials.ts";

const [main, stateDir, ...rest] = process.argv.slice(2);
if (main === undefined || stateDir === undefined)
  throw new Error("usage: serve-worker.ts <entry module> <state folder>");

const isDirect = rest[0] === "direct";
const vars = Object.fromEntries(
  rest.slice(isDirect ? 1 : 0).map((text): [string, string] => {
    const [name = "", value = ""] = text.split("=", 2);
    return [name, value];
  }),
);
const project = readProject(path.join(projectRoot, "wrangler.toml"), vars);
const persistPath = path.join(stateDir, "v3");
const bundle = await bundleWorker(path.resolve(main), project.define);
await applyMigrations(project, persistPath);
const miniflare = openMiniflare(project, bundle, { persistPath, host: "127.0.0.1", port: 0, isDirect }, testSecrets);
const stopped = new Promise<void>((resolve) => {
  process.once("SIGTERM", () => resolve());
});
const { port } = await miniflare.ready;
console.log(`serving http://127.0.0.1:${isDirect ? (await miniflare.unsafeGetDirectURL()).port : port}`);
await stopped;
await miniflare.dispose();
process.exit(0);
