/** The command line of `npm run bench`. */
import { accessSync, constants } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

export interface NamedUrl {
  readonly name: string;
  /** base URL, with `user:password@` where the registry asks for it */
  readonly url: string;
}

export interface Options {
  readonly help: boolean;
  /** how often each side of a row is measured; the median counts */
  readonly rounds: number;
  /** how long one measurement of a rate takes */
  readonly seconds: number;
  readonly quick: boolean;
  /** row ids; empty: all */
  readonly only: readonly string[];
  /** where the figures go, as JSON */
  readonly json: string;
  /** registries that are measured beside, without a bar */
  readonly others: readonly NamedUrl[];
  /** cloudflare/serverless-registry under its own `wrangler dev`, and this registry under `npm run dev` */
  readonly peer: string | null;
  readonly dev: string | null;
  /** state that scripts/scale.ts has loaded */
  readonly scale: string | null;
  /** CNCF distribution's binary */
  readonly distribution: string | null;
  /** zot's binary */
  readonly zot: string | null;
}

export const usage = `Usage: npm run bench -- [options]

  --quick          a short run: few rounds, smaller bodies; for a look, not for the record
  --only ROW       this row alone; may be repeated
  --rounds N       measurements of each side of a row (default 7; 3 with --quick)
  --seconds S      length of one measurement of a rate (default 2; 0.7 with --quick)
  --json FILE      where the figures go (default test/results/bench.json)
  --url NAME=URL   another registry to measure beside, without a bar; may be repeated
  --peer URL       cloudflare/serverless-registry under wrangler dev (http://user:password@localhost:PORT)
  --dev URL        this registry under npm run dev (http://admin:password@localhost:PORT); --peer is compared with it
  --scale DIR      a state that scripts/scale.ts has loaded, for the row scale; without it --only scale loads one
  --help           this text

MOORAGE_BENCH_DISTRIBUTION names CNCF distribution's binary; MOORAGE_BENCH_ZOT zot's; without
them \`registry\` (or Debian's \`docker-registry\`) and \`zot\` are looked for on the PATH.`;

/** @throws Error that says which argument is wrong */
export function parseOptions(argv: readonly string[], environment: NodeJS.ProcessEnv): Options {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      quick: { type: "boolean", default: false },
      only: { type: "string", multiple: true, default: [] },
      rounds: { type: "string" },
      seconds: { type: "string" },
      json: { type: "string", default: path.join(import.meta.dirname, "../results/bench.json") },
      url: { type: "string", multiple: true, default: [] },
      peer: { type: "string" },
      dev: { type: "string" },
      scale: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  return {
    help: values.help,
    rounds: positive("--rounds", values.rounds ?? (values.quick ? "3" : "7")),
    seconds: positive("--seconds", values.seconds ?? (values.quick ? "0.7" : "2")),
    quick: values.quick,
    only: values.only,
    json: path.resolve(values.json),
    others: values.url.map(namedUrl),
    peer: values.peer ?? null,
    dev: values.dev ?? null,
    scale: values.scale === undefined ? null : path.resolve(values.scale),
    distribution: environment["MOORAGE_BENCH_DISTRIBUTION"] ?? findOnPath(["registry", "docker-registry"], environment),
    zot: environment["MOORAGE_BENCH_ZOT"] ?? findOnPath(["zot"], environment),
  };
}

function positive(option: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new Error(`${option} takes a number above 0, not "${text}"`);
  return value;
}

function namedUrl(text: string): NamedUrl {
  const separator = text.indexOf("=");
  if (separator < 1) throw new Error(`--url takes NAME=URL, not "${text}"`);
  return { name: text.slice(0, separator), url: text.slice(separator + 1) };
}

function findOnPath(programs: readonly string[], environment: NodeJS.ProcessEnv): string | null {
  const folders = (environment["PATH"] ?? "").split(path.delimiter);
  const candidates = programs.flatMap((program) => folders.map((folder) => path.join(folder, program)));
  return candidates.find(isExecutable) ?? null;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
