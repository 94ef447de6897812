#!/usr/bin/env node
/**
 * `npx moorage`: runs moorage.ts with a Node that reads TypeScript. npx puts the project's own on the PATH, where it is
 * started in the project's folder; elsewhere this may be any Node.
 */
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

const main = new URL("moorage.ts", import.meta.url);

if (process.features.typescript) {
  await import(main.href);
} else {
  const node = path.join(createRequire(import.meta.url).resolve("node/package.json"), "../bin/node");
  const { status, error } = spawnSync(node, [fileURLToPath(main), ...process.argv.slice(2)], { stdio: "inherit" });
  if (error !== undefined) throw error;
  process.exitCode = status ?? 1;
}
