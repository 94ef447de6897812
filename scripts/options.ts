/** The command line that `npm start` and `npm run dev` share. */
import path from "node:path";
import { parseArgs } from "node:util";

/** Wrong usage, or a state of the machine that the user can put right: shown as one line, without a stack. */
export class UsageError extends Error {}

export interface Options {
  /** TCP port on loopback; 0 lets the system choose a free one. */
  port: number;
  /** Absolute path of the folder that holds everything that is pushed. */
  stateDir: string;
  /** Settings that replace those of wrangler.toml's `[vars]`, by name. */
  vars: Readonly<Record<string, string>>;
  /** Absolute path of the wrangler.toml to serve. */
  configPath: string;
  help: boolean;
}

export const projectRoot = path.resolve(import.meta.dirname, "..");

export const defaultPort = 8787;
export const defaultStateDir = path.join(projectRoot, ".moorage");

export function usage(command: string): string {
  return `Usage: ${command} -- [options]

  --port N           port on localhost (default ${defaultPort}; 0: any free one)
  --state DIR        folder that keeps what is pushed (default .moorage beside package.json)
  --var NAME=VALUE   a setting of wrangler.toml's [vars]; may be repeated
  --config FILE      another wrangler.toml
  --help             this text

DIR and FILE may be relative to the folder in which npm was called.`;
}

/** @throws UsageError for an unknown option or a value that can't be used */
export function parseOptions(argv: readonly string[]): Options {
  const values = parse(argv);
  return {
    port: parsePort(values.port ?? String(defaultPort)),
    stateDir: parsePath("state", values.state ?? defaultStateDir),
    vars: Object.fromEntries((values.var ?? []).map(parseVar)),
    configPath: parsePath("config", values.config ?? path.join(projectRoot, "wrangler.toml")),
    help: values.help ?? false,
  };
}

function parse(argv: readonly string[]) {
  return orUsage("npm start", "--port 5000", () =>
    parseArgs({
      args: [...argv],
      options: {
        port: { type: "string" },
        state: { type: "string" },
        var: { type: "string", multiple: true },
        config: { type: "string" },
        help: { type: "boolean" },
      },
    }),
  ).values;
}

/**
 * npm takes options for its own that do not come after `--`, and passes on their values alone.
 * @param example options that the command takes
 * @throws UsageError for what the arguments' parser refuses
 */
export function orUsage<T>(command: string, example: string, parseArguments: () => T): T {
  try {
    return parseArguments();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const stray = /^Unexpected argument '(.*?)'\./.exec(message)?.[1];
    throw new UsageError(
      stray === undefined
        ? `${message}; ${command} -- --help lists what there is`
        : `options come after --, as in: ${command} -- ${example}; "${stray}" is none`,
    );
  }
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) {
    throw new UsageError(`--port takes a number from 0 to 65535, not "${text}"`);
  }
  return port;
}

/** npm runs the scripts in the project's folder, wherever its user is (`npm --prefix`), and keeps that in INIT_CWD. */
export function parsePath(option: string, text: string): string {
  if (text === "") throw new UsageError(`--${option} takes a path, and was given an empty one`);
  return path.resolve(process.env["INIT_CWD"] ?? process.cwd(), text);
}

function parseVar(text: string): [name: string, value: string] {
  const separator = text.indexOf("=");
  if (separator < 1) throw new UsageError(`--var takes NAME=VALUE, not "${text}"`);
  return [text.slice(0, separator), text.slice(separator + 1)];
}
