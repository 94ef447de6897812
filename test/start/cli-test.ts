import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import type { z } from "zod";
import { adminPassword } from "../support/credentials.ts";
import { projectRoot, type Registry, startRegistry } from "../support/registry.ts";

/** A command that has ended. */
export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** undefined: not set, whatever this process has */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** standard input; nothing without it */
  readonly input?: string;
  /** in place of node with moorage.ts */
  readonly program?: readonly [string, ...string[]];
  readonly folder?: string;
  /** Once it resolves comes Ctrl-C, which a terminal sends to all that runs there. */
  readonly interrupted?: Promise<void>;
}

/** A command as it is started where Node does not read TypeScript: launch.js starts another Node that does. */
export const launched = [
  process.execPath,
  "--no-experimental-strip-types",
  path.join(projectRoot, "scripts/launch.js"),
] as const;

/** Variables by which the machine of the tests could have its say. */
const unset = [
  "MOORAGE_REGISTRY",
  "MOORAGE_USER",
  "MOORAGE_PASSWORD",
  "DOCKER_AUTH_CONFIG",
  "INIT_CWD",
  "NODE_OPTIONS",
  "NODE_USE_ENV_PROXY",
];

/** A folder that nobody makes: the logins of whoever runs the tests are not theirs. */
const noDockerConfig = path.join(tmpdir(), `moorage-no-docker-${crypto.randomUUID()}`);

/** Runs the real command to its end. */
export async function moorage(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { env = {}, input = "", folder = projectRoot, interrupted } = options;
  const [program, ...first] = options.program ?? [process.execPath, path.join(projectRoot, "scripts/moorage.ts")];
  const child = spawn(program, [...first, ...args], {
    cwd: folder,
    env: {
      ...process.env,
      ...Object.fromEntries(unset.map((name) => [name, undefined])),
      DOCKER_CONFIG: noDockerConfig,
      NO_COLOR: "1",
      ...env,
    },
    // One that hangs must not outlive its test.
    timeout: 60_000,
    killSignal: "SIGKILL",
    detached: interrupted !== undefined,
  });
  void interrupted?.then(() => process.kill(-(child.pid ?? 0), "SIGINT"));
  // Who reads no input may have ended before it is written.
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const ended = once(child, "close");
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  await ended;
  return { code: child.exitCode, stdout, stderr };
}

export type Run = (args: readonly string[], options?: RunOptions) => Promise<Ran>;

/**
 * The `test` of the command line. Fixtures: `registry`, one for the file; `run`, a command for it as administrator;
 * `folder`, the test's own; `serve`, which answers on a port of loopback in place of a registry, and returns its URL.
 */
export const cliTest = test
  .extend("vars", { scope: "file" }, (): Record<string, string> => ({}))
  .extend("registry", { scope: "file" }, async ({ vars }, { onCleanup }): Promise<Registry> => {
    const registry = await startRegistry({ vars });
    onCleanup(() => registry.stop());
    return registry;
  })
  .extend("run", ({ registry }): Run => {
    const own = { MOORAGE_REGISTRY: registry.url, MOORAGE_PASSWORD: adminPassword };
    return (args, options = {}) => moorage(args, { ...options, env: { ...own, ...options.env } });
  })
  .extend("folder", async ({ task: _task }, { onCleanup }) => {
    const folder = await mkdtemp(path.join(tmpdir(), "moorage-cli-"));
    onCleanup(() => rm(folder, { recursive: true, force: true }));
    return folder;
  })
  .extend("serve", async ({ task: _task }, { onCleanup }) => {
    const servers: ReturnType<typeof createServer>[] = [];
    onCleanup(() => {
      for (const server of servers) server.close().closeAllConnections();
    });
    return async (listener: RequestListener): Promise<string> => {
      const server = createServer(listener);
      servers.push(server);
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      const address = server.address();
      if (address === null || typeof address === "string") throw new Error("a TCP server has an address with a port");
      return `http://127.0.0.1:${String(address.port)}`;
    };
  });

/** That it did what it was told, and what it printed as JSON. */
export function readJson<T>(ran: Ran, schema: z.ZodType<T>): T {
  expect(ran).toMatchObject({ code: 0 });
  return schema.parse(JSON.parse(ran.stdout));
}

/** That it ended so, with one line that says why, and nothing else. */
export function expectLine(ran: Ran, code: 1 | 2, message: RegExp): void {
  expect(ran).toMatchObject({ code, stdout: "" });
  expect(ran.stderr).toMatch(/^moorage: [^\n]+\n$/);
  expect(ran.stderr).toMatch(message);
}

/** A name that no other test has. */
export function freshName(): string {
  return `user-${crypto.randomUUID()}`;
}
