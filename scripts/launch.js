#!/usr/bin/env node
/**
 * `npx moorage`. In the package: the JavaScript that `npm pack` made. In the project's own folder: moorage.ts, with a Node
 * that reads TypeScript. npx puts the project's on the PATH, where it is started in that folder; elsewhere this may be any.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { constants } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const source = new URL("moorage.ts", import.meta.url);

// An older build may lie beside the source.
if (!existsSync(source)) await import(new URL("../dist/moorage.js", import.meta.url).href);
else if (process.features.typescript) await import(source.href);
else run(path.join(createRequire(import.meta.url).resolve("node/package.json"), "../bin/node"));

/** @param {string} node */
function run(node) {
  const child = spawn(node, [fileURLToPath(source), ...process.argv.slice(2)], { stdio: "inherit" });
  // What ends this one is to end the other. A terminal sends its own to both, which then hears it twice.
  /** @type {NodeJS.Signals[]} */
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) process.on(signal, () => child.kill(signal));
  child.once("error", (error) => {
    throw error;
  });
  child.once("exit", (code, signal) => {
    // At once, as npm may have another one on its way: see cli/stop-signal.ts.
    process.exit(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
  });
}
