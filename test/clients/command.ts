import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** How much of a failed command's output its error quotes, characters from the end. */
const quotedOutput = 8000;

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Written to the command's standard input, which is empty otherwise. */
  readonly input?: string;
}

export interface CommandOutput {
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that ended with another status than 0; the message quotes what it printed. */
export class CommandError extends Error {
  readonly stdout: string;
  readonly stderr: string;

  constructor(commandLine: string, end: string, output: CommandOutput) {
    const quoted = [output.stdout, output.stderr].map((text) => text.slice(-quotedOutput)).join("\n");
    super(`${commandLine}\nended with ${end}:\n${quoted}`);
    this.name = "CommandError";
    this.stdout = output.stdout;
    this.stderr = output.stderr;
  }
}

/** Runs a command to its end. @throws CommandError unless it ends with status 0 */
export async function runCommand(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandOutput> {
  const child = spawn(command, args, { cwd: options.cwd, env: options.env, stdio: ["pipe", "pipe", "pipe"] });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  // A command that does not read its input may end before it is written: that is no failure of the command.
  child.stdin.on("error", () => undefined);
  child.stdin.end(options.input ?? "");
  const [code, signal] = await ended(child);
  const output = { stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
  if (code === 0) return output;
  throw new CommandError([command, ...args].join(" "), signal ?? `status ${String(code)}`, output);
}

/** A process that serves until it is stopped. */
export interface Daemon {
  stop(): Promise<void>;
}

/**
 * Starts a daemon and waits for the line of its standard error or output that says it serves.
 * @throws CommandError where it ends before
 */
export async function startDaemon(
  command: string,
  args: readonly string[],
  options: CommandOptions & { readonly ready: RegExp },
): Promise<Daemon> {
  const child = spawn(command, args, { cwd: options.cwd, env: options.env, stdio: ["ignore", "pipe", "pipe"] });
  const lines: string[] = [];
  const ready = new Promise<void>((resolve) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        lines.push(line);
        if (options.ready.test(line)) resolve();
      });
    }
  });
  const early = ended(child).then(([code, signal]) => {
    throw new CommandError([command, ...args].join(" "), signal ?? `status ${String(code)}`, {
      stdout: "",
      stderr: lines.join("\n"),
    });
  });
  await Promise.race([ready, early]);
  early.catch(() => undefined);
  return {
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const end = once(child, "exit");
      child.kill("SIGTERM");
      await end;
    },
  };
}

async function ended(child: ChildProcess): Promise<[number | null, NodeJS.Signals | null]> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      resolve([code, signal]);
    });
  });
}
