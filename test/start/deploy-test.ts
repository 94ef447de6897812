import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { CloudflareAccount } from "../support/cloudflare-account.ts";
import { projectRoot } from "../support/registry.ts";

/** A command that has ended. */
export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export const wranglerCli = path.join(projectRoot, "node_modules/wrangler/bin/wrangler.js");

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The `test` of deployments. Fixtures: `folder`, the test's own; `account`, one at Cloudflare that has nothing yet; `deploy`,
 * the command of `npm run deploy` on it, with nobody to ask and no password, whose smoke test goes to where the account
 * serves what was uploaded; `wrangler`, by hand.
 */
export const deployTest = test
  .extend("folder", async ({ task: _task }, { onCleanup }) => {
    const folder = await mkdtemp(path.join(tmpdir(), "moorage-test-"));
    onCleanup(() => rm(folder, { recursive: true, force: true }));
    return folder;
  })
  .extend("account", async ({ task: _task }, { onCleanup }) => {
    const account = await CloudflareAccount.open();
    onCleanup(async () => {
      await account.close();
      expect(account.unknown).toEqual([]);
    });
    return account;
  })
  .extend("deploy", ({ account, folder }) => {
    const script = path.join(projectRoot, "scripts/deploy.ts");
    return (args: readonly string[] = [], environment: Environment = {}): Promise<Ran> =>
      runPatiently([script, ...args], {
        ...account.environment,
        // What is left behind by a run is found there.
        TMPDIR: folder,
        ...environment,
      });
  })
  .extend("wrangler", ({ account }) => {
    return (...args: readonly string[]): Promise<Ran> => runPatiently([wranglerCli, ...args], account.environment);
  });

/** Runs node to its end, for commands that run other commands. */
export async function runPatiently(args: readonly string[], environment: Environment = {}): Promise<Ran> {
  const child = spawn(process.execPath, args, {
    cwd: projectRoot,
    env: { ...process.env, WRANGLER_SEND_METRICS: "false", NO_COLOR: "1", ...environment },
    stdio: ["ignore", "pipe", "pipe"],
    // One that hangs must not outlive its test.
    timeout: 200_000,
    killSignal: "SIGKILL",
  });
  const ended = once(child, "close");
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  await ended;
  return { code: child.exitCode, stdout, stderr };
}

/** That it did all that it should. */
export function expectDone(ran: Ran): void {
  expect(ran).toMatchObject({ code: 0, stderr: "" });
}

/** That it ended with 1 and says why. */
export function expectRefused(ran: Ran, reason: RegExp): void {
  expect(ran.stderr).toMatch(reason);
  expect(ran.code).toBe(1);
}

/** What a run left in the folder for temporary files. */
export async function leftBehind(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => name.startsWith("moorage-"));
}
