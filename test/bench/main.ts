/**
 * `npm run bench`: the registry beside bare Workers that do the least that the same answer needs, row by row. It prints
 * figures and asserts nothing: what a machine reaches is its own, the ratios are the registry's.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { availableParallelism, cpus } from "node:os";
import path from "node:path";
import type { Comparison } from "./figures.ts";
import { drive, rate } from "./load.ts";
import { type Options, parseOptions, usage } from "./options.ts";
import { commitRow, runCommit } from "./rows/commits.ts";
import { layerPullRow, layerWays, runLayerPull, runLayerPushes } from "./rows/layers.ts";
import { credentialsRow, runCredentials } from "./rows/credentials.ts";
import {
  edgeFillRow,
  edgeLargeRow,
  edgeRows,
  othersRow,
  runEdge,
  runEdgeFill,
  runEdgeLarge,
  runOthers,
} from "./rows/edge.ts";
import { memoryRow, runMemory } from "./rows/memory.ts";
import { countOperations, operationsRow } from "./rows/operations.ts";
import { peerRow, runPeer } from "./rows/peer.ts";
import { pullRows, runPull } from "./rows/pulls.ts";
import { runSmallPush, runWideManifest, smallPushRow, wideManifestRow } from "./rows/pushes.ts";
import { referrersRow, runReferrers } from "./rows/referrers.ts";
import { relayRow, runRelay } from "./rows/relay.ts";
import { runScale, scaleRow } from "./rows/scale.ts";
import { type Row, Stage } from "./stage.ts";
import { formatComparisons, formatOperations } from "./table.ts";

interface Runner {
  /** measured together, on the same processes */
  readonly rows: readonly Row[];
  /** @param ids of those of its rows that are wanted */
  readonly run: (stage: Stage, ids: readonly string[]) => Promise<readonly Comparison[]>;
}

const runners: readonly Runner[] = [
  ...pullRows.map((row): Runner => ({ rows: [row], run: async (stage) => runPull(stage, row) })),
  { rows: [smallPushRow], run: runSmallPush },
  { rows: [wideManifestRow], run: runWideManifest },
  { rows: [referrersRow], run: runReferrers },
  { rows: layerWays, run: runLayerPushes },
  { rows: [layerPullRow], run: runLayerPull },
  { rows: [commitRow], run: runCommit },
  { rows: [credentialsRow], run: runCredentials },
  { rows: edgeRows, run: runEdge },
  { rows: [edgeLargeRow], run: runEdgeLarge },
  { rows: [edgeFillRow], run: runEdgeFill },
  { rows: [othersRow], run: runOthers },
  { rows: [relayRow], run: runRelay },
  { rows: [memoryRow], run: runMemory },
  { rows: [peerRow], run: runPeer },
  { rows: [scaleRow], run: runScale },
];

const allRows: readonly Row[] = [operationsRow, ...runners.flatMap(({ rows }) => rows)];

await main();

async function main(): Promise<void> {
  const options = readOptions();
  if (options === null) return;
  const wanted = ({ id }: Row): boolean => options.only.length === 0 || options.only.includes(id);
  const stage = await Stage.create(options);
  try {
    const ceiling = await measureGenerator(stage);
    console.error(ceiling);
    const operations = wanted(operationsRow) ? await countOperations(stage) : [];
    const comparisons: Comparison[] = [];
    for (const { rows, run } of runners) {
      const ids = rows.filter(wanted).map(({ id }) => id);
      if (ids.length === 0 || (rows.includes(peerRow) && options.only.length === 0 && options.peer === null)) continue;
      console.error(ids.join(", "));
      const measured = await run(stage, ids);
      if (measured.length > 0) console.error(`${formatComparisons(measured)}\n`);
      comparisons.push(...measured);
    }
    if (comparisons.length > 0) console.log(`\n${formatComparisons(comparisons)}`);
    if (operations.length > 0) console.log(`\n${formatOperations(operations)}`);
    await write(options, { machine: machine(), ceiling, comparisons, operations });
  } finally {
    await stage.close();
  }
}

/** null: there is nothing to run */
function readOptions(): Options | null {
  try {
    const options = parseOptions(process.argv.slice(2), process.env);
    const unknown = options.only.find((id) => !allRows.some((row) => row.id === id));
    if (unknown !== undefined) throw new Error(`--only: there is no row "${unknown}"`);
    if (!options.help) return options;
    console.log(`${usage}\n\nRows: ${allRows.map(({ id }) => id).join(", ")}`);
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  }
  return null;
}

/** What the load generator reaches where the Worker does nothing: rows near it would measure the generator. */
async function measureGenerator(stage: Stage): Promise<string> {
  return stage.withBare(async ({ url }) => {
    const load = { connections: 16, until: { seconds: stage.options.seconds } };
    const hello = async (): Promise<number> =>
      rate(
        await drive(
          url,
          async (client) => void (await client.request({ method: "GET", path: "/hello", expect: [200] })),
          load,
        ),
      );
    await hello();
    const before = process.cpuUsage();
    const reached = await hello();
    const { user, system } = process.cpuUsage(before);
    const busy = (user + system) / 1e6 / stage.options.seconds;
    return `hello at 16 connections: ${reached.toFixed(0)}/s, with the load generator ${(busy * 100).toFixed(0)} % of a core busy`;
  });
}

function machine() {
  return {
    date: new Date().toISOString(),
    node: process.version,
    cpu: cpus()[0]?.model ?? "",
    cores: availableParallelism(),
  };
}

async function write(options: Options, results: object): Promise<void> {
  await mkdir(path.dirname(options.json), { recursive: true });
  await writeFile(
    options.json,
    `${JSON.stringify({ ...results, rounds: options.rounds, quick: options.quick }, null, 2)}\n`,
  );
  console.error(`figures in ${options.json}`);
}
