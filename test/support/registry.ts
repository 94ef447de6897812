/** A registry as its users run it: the command of `npm start`, in a process of its own, on a port and state of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { adminPassword } from "./credentials.ts";

export interface RegistryOptions {
  /** Settings that replace those of wrangler.toml's `[vars]`; without an ADMIN_PASSWORD it is the tests'. undefined: not given. */
  vars?: Record<string, string | undefined>;
  /** A folder of the caller's, kept at stop; without it a temporary one, removed at stop. */
  stateDir?: string;
  /** Without it, any free port. */
  port?: number;
  /** Another wrangler.toml. */
  config?: string;
  /** `dev` runs the command of `npm run dev`; it takes twice as long to start. */
  command?: "start" | "dev";
}

export interface Registry {
  /** `http://localhost:port`, without a slash at its end. */
  url: string;
  /** `localhost:port`, as it opens an image's name. */
  host: string;
  port: number;
  stateDir: string;
  /** The node process; workerd is its child. */
  pid: number;
  /** All that was printed so far, on both streams. */
  output(): string;
  /** Ends it as Ctrl-C would, and resolves when it is gone; may be called again. */
  stop(): Promise<void>;
}

export const projectRoot = path.resolve(import.meta.dirname, "../..");

/** Some 20 times what a start takes on an idle machine; a busy one, or a bare one with cold disks, needs more. */
const readyWithinMs = 60_000;
const stopWithinMs = 10_000;

/** @throws Error with all that was printed, if it ends or says nothing before it is ready */
export async function startRegistry(options: RegistryOptions = {}): Promise<Registry> {
  const stateDir = options.stateDir ?? (await mkdtemp(path.join(tmpdir(), "moorage-state-")));
  const removeState = async () => {
    if (options.stateDir === undefined) {
      await rm(stateDir, { recursive: true, force: true });
    }
  };
  const child = spawn(process.execPath, commandLine(options, stateDir), {
    cwd: projectRoot,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = once(child, "exit");
  const printed = collect(child);
  try {
    const url = await readyAddress(child, printed);
    const { host, port } = new URL(url);
    return {
      url,
      host,
      port: Number(port),
      stateDir,
      pid: child.pid ?? 0,
      output: printed.text,
      async stop() {
        await end(child, exited);
        await removeState();
      },
    };
  } catch (error) {
    await end(child, exited);
    await removeState();
    throw error;
  }
}

/** The arguments to node with which `npm start` would run. */
export function commandLine(options: RegistryOptions, stateDir: string): string[] {
  return [
    path.join(projectRoot, "scripts", `${options.command ?? "start"}.ts`),
    `--port=${options.port ?? 0}`,
    `--state=${stateDir}`,
    ...(options.config === undefined ? [] : [`--config=${options.config}`]),
    ...Object.entries({ ADMIN_PASSWORD: adminPassword, ...options.vars }).flatMap(([name, value]) =>
      value === undefined ? [] : [`--var=${name}=${value}`],
    ),
  ];
}

interface Printed {
  text: () => string;
  /** Called after each piece of output. */
  onMore(listener: () => void): void;
}

function collect(child: ChildProcess): Printed {
  let text = "";
  const listeners: (() => void)[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (piece: string) => {
      text += piece;
      for (const listener of listeners) {
        listener();
      }
    });
  }
  return { text: () => text, onMore: (listener) => listeners.push(listener) };
}

/** Resolves with the address once it is printed, be it by our own line or by wrangler's. */
function readyAddress(child: ChildProcess, printed: Printed): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (reason: string) => {
      clearTimeout(timer);
      reject(new Error(`the registry ${reason}; it printed:\n${printed.text()}`));
    };
    const timer = setTimeout(() => fail(`was not ready within ${readyWithinMs} ms`), readyWithinMs);
    child.once("error", (error) => fail(`did not start: ${error.message}`));
    child.once("exit", (code, signal) => fail(`ended with ${signal ?? code} before it was ready`));
    printed.onMore(() => {
      const port = /ready on http:\/\/[\w.]+:(\d+)/i.exec(printed.text())?.[1];
      if (port !== undefined) {
        clearTimeout(timer);
        resolve(`http://localhost:${port}`);
      }
    });
  });
}

async function end(child: ChildProcess, exited: Promise<unknown>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), stopWithinMs);
  await exited;
  clearTimeout(timer);
}
