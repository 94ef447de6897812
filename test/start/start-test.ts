import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { acquireLock } from "../../scripts/lock.ts";
import { asAdmin } from "../support/credentials.ts";
import { RegistryClient, type RepositoryClient } from "../support/client.ts";
import { projectRoot, type Registry, type RegistryOptions, startRegistry } from "../support/registry.ts";

/** What a command printed, on both streams, and how it ended. */
export interface Ended {
  code: number | null;
  output: string;
}

/**
 * The `test` of this folder. Fixtures: `folder`, the test's own; `stateDir` in it, for one registry after another;
 * `start`, as `startRegistry` on that state, stopped at the end whatever happened.
 */
export const startTest = test
  .extend("folder", async ({ task: _task }, { onCleanup }) => {
    const folder = await mkdtemp(path.join(tmpdir(), "moorage-start-"));
    onCleanup(() => rm(folder, { recursive: true, force: true }));
    return folder;
  })
  .extend("stateDir", async ({ folder }, { onCleanup }) => {
    const stateDir = path.join(folder, "state");
    onCleanup(async () => {
      // Ends the orphan of a test that failed between killing node and starting anew.
      const lock = await acquireLock(stateDir, "a test's end", () => undefined);
      lock.release();
    });
    return stateDir;
  })
  .extend("start", async ({ stateDir }, { onCleanup }) => {
    const started: Registry[] = [];
    onCleanup(async () => {
      await Promise.all(started.map((registry) => registry.stop()));
    });
    return async (options: RegistryOptions = {}): Promise<Registry> => {
      const registry = await startRegistry({ stateDir, ...options });
      started.push(registry);
      return registry;
    };
  });

/** A repository of the registry, to push to and pull from. */
export function repositoryOf(registry: Pick<Registry, "url">, name = "start/test"): RepositoryClient {
  return new RegistryClient(registry.url, fetch, asAdmin).repository(name);
}

/** Runs node to its end, as this project's scripts are run. */
export function runNode(args: readonly string[]): Promise<Ended> {
  return run(process.execPath, args, projectRoot);
}

/** Runs npm to its end, called in `folder`. */
export function runNpm(folder: string, ...args: readonly string[]): Promise<Ended> {
  return run("npm", args, folder);
}

function run(program: string, args: readonly string[], folder: string): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(
      program,
      args,
      {
        cwd: folder,
        env: { ...process.env, WRANGLER_SEND_METRICS: "false", NO_COLOR: "1" },
        // One that hangs must not outlive its test, and may be too busy for another signal.
        timeout: 60_000,
        killSignal: "SIGKILL",
      },
      (_error, stdout, stderr) => {
        resolve({ code: child.exitCode, output: stdout + stderr });
      },
    );
  });
}

export function runWrangler(...args: readonly string[]): Promise<Ended> {
  return runNode([path.join(projectRoot, "node_modules/wrangler/bin/wrangler.js"), ...args]);
}

/**
 * A wrangler.toml in `folder` that serves this project's source, after an edit.
 * @returns its path
 */
export async function writeConfig(folder: string, edit: (text: string) => string): Promise<string> {
  const text = await readFile(path.join(projectRoot, "wrangler.toml"), "utf8");
  const absolute = text.replaceAll(
    /^(main|migrations_dir) = "(.*)"$/gm,
    (_line, name: string, relative: string) => `${name} = ${JSON.stringify(path.join(projectRoot, relative))}`,
  );
  const file = path.join(folder, "wrangler.toml");
  await writeFile(file, edit(absolute));
  return file;
}

/** That a command said why it would not, and ended as wrong usage does, or as is told. */
export function expectRefusal(ended: Ended, message: RegExp, code: 1 | 2 = 2): void {
  expect(ended.output).toMatch(message);
  expect(ended.code).toBe(code);
}
