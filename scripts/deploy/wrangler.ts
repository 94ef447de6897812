/** The one place that runs wrangler: the project's own, as a program of its own that can ask nothing. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";
import { stripVTControlCharacters } from "node:util";
import type { z } from "zod";

/** wrangler ended with an error. */
export class WranglerFailure extends Error {
  /** What it was called for, without the options that all calls have. */
  readonly command: string;
  /** What it said on standard error, without its decoration; may have several lines. */
  readonly reason: string;
  readonly stdout: string;

  constructor(command: string, reason: string, stdout: string) {
    super(`wrangler ${command}: ${reason}`);
    this.command = command;
    this.reason = reason;
    this.stdout = stdout;
  }
}

export class Wrangler {
  readonly #configPath: string;
  readonly #environment: NodeJS.ProcessEnv;

  /**
   * @param configPath the wrangler.toml of every call
   * @param accountId for calls that do not read it from there, as those for R2; undefined: wrangler finds it
   */
  constructor(configPath: string, accountId?: string) {
    // No secret goes to where it is not needed.
    const { ADMIN_PASSWORD: _password, MOORAGE_PASSWORD: _same, ...environment } = process.env;
    this.#configPath = configPath;
    this.#environment = {
      ...environment,
      WRANGLER_SEND_METRICS: "false",
      WRANGLER_HIDE_BANNER: "true",
      NO_COLOR: "1",
      FORCE_COLOR: "0",
      ...(accountId === undefined ? {} : { CLOUDFLARE_ACCOUNT_ID: accountId }),
    };
  }

  /**
   * @returns what it printed on standard output
   * @throws WranglerFailure
   */
  async run(command: readonly string[], options: readonly string[] = []): Promise<string> {
    const cli = createRequire(import.meta.url).resolve("wrangler");
    const child = spawn(process.execPath, [cli, ...command, ...options, `--config=${this.#configPath}`], {
      env: this.#environment,
      // Without a terminal it takes each question's default, and fails where there is none: it never waits.
      stdio: ["ignore", "pipe", "pipe"],
    });
    const ended = once(child, "close");
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
    if (child.exitCode === 0) return stdout;
    throw new WranglerFailure(command.join(" "), reasonIn(stderr) || reasonIn(stdout) || "it failed", stdout);
  }

  /** @throws WranglerFailure, or Error where it answers in another form */
  async read<T>(schema: z.ZodType<T>, command: readonly string[], options: readonly string[] = []): Promise<T> {
    return parseAnswer(schema, command.join(" "), await this.run(command, options));
  }
}

/** @throws Error */
export function parseAnswer<T>(schema: z.ZodType<T>, command: string, stdout: string): T {
  try {
    return schema.parse(JSON.parse(stdout));
  } catch (error) {
    throw new Error(`wrangler ${command} answers in a form that is not known here:\n${stdout}`, { cause: error });
  }
}

/** What follows the first [ERROR]; all of it where there is none. */
function reasonIn(output: string): string {
  const plain = stripVTControlCharacters(output);
  return plain
    .slice(Math.max(0, plain.indexOf("[ERROR]")))
    .split("\n")
    .map((line) => line.replace(/^.*\[(?:ERROR|WARNING)\]/, "").trim())
    .filter((line) => line !== "" && !/Logs were written to|If you think this is a bug/.test(line))
    .join("\n");
}
