import type { Client } from "../client.ts";
import { type Content, Layer } from "../content.ts";
import { atMost, compare, type Comparison } from "../figures.ts";
import { drive, type Operation } from "../load.ts";
import type { Row, Stage, Work } from "../stage.ts";
import { peakMemoryMiB } from "../workerd.ts";
import { commitMs, LARGE_COMMIT_BYTES, SMALL_COMMIT_BYTES } from "./commits.ts";
import { LAYER_BYTES, layerWays, pullWhole, pushByPut, putObject, QUICK_LAYER_BYTES } from "./layers.ts";
import { pullRows } from "./pulls.ts";
import { smallPushRow, wideManifest } from "./pushes.ts";
import { referrersRow } from "./referrers.ts";

export const memoryRow: Row = { id: "memory", title: "workerd's peak memory over all of it" };

interface Phase {
  readonly name: string;
  readonly connections: number;
  readonly operations: number;
  readonly work: Work;
}

/**
 * Every row's requests, as many for the one as for the other, each side in a fresh process. Peaks are compared by their
 * difference, in MiB. What each phase added to the peak is printed, for whoever wants to know where it comes from.
 */
export async function runMemory(stage: Stage): Promise<Comparison[]> {
  const phases = phasesOf(stage.options.quick);
  const peaks = { registry: new Array<number>(), bare: new Array<number>() };
  for (let round = 0; round < stage.options.rounds; round++) {
    for (const side of ["registry", "bare"] as const) {
      const start = side === "registry" ? stage.withRegistry.bind(stage) : stage.withBare.bind(stage);
      const peak = await start(async ({ url, pid }) => {
        const grown = [`${side}: idle ${String(Math.round(peakMemoryMiB(pid) ?? 0))}`];
        for (const { name, connections, operations, work } of phases) {
          const operation = side === "registry" ? work.oci(stage.content) : work.bare(stage.content);
          await drive(url, operation, { connections, until: { operations } });
          grown.push(`${name} ${String(Math.round(peakMemoryMiB(pid) ?? 0))}`);
        }
        console.error(`  ${grown.join(", ")}`);
        return peakMemoryMiB(pid);
      });
      if (peak === null) {
        console.error("  there is no /proc here that tells a process's peak memory");
        return [];
      }
      peaks[side].push(peak);
    }
  }
  return [
    compare({
      row: memoryRow.id,
      title: memoryRow.title,
      unit: "MiB",
      registry: { figures: peaks.registry, cpuMs: [] },
      reference: { figures: peaks.bare, cpuMs: [] },
      referenceName: "bare Worker",
      bar: atMost(96),
      combine: (registry, bare) => registry - bare,
    }),
  ];
}

function phasesOf(quick: boolean): readonly Phase[] {
  const share = quick ? 0.2 : 1;
  const layerBytes = quick ? QUICK_LAYER_BYTES : LAYER_BYTES;
  return [
    ...pullRows.map(({ id, connections, work }) => ({ name: id, connections, operations: 1500 * share, work })),
    { name: smallPushRow.id, connections: smallPushRow.connections, operations: 400 * share, work: smallPushRow.work },
    { name: "manifest-60", connections: 1, operations: 150 * share, work: wideManifest },
    ...layerWays.map(({ id, push }) => ({
      name: id,
      connections: 1,
      operations: 1,
      work: {
        oci:
          ({ repository }: Content): Operation =>
          async (client) => {
            const layer = new Layer(layerBytes);
            await push(client, repository, layer, layer.digest());
          },
        bare: (): Operation => async (client) => {
          await putObject(client, new Layer(layerBytes));
        },
      },
    })),
    { name: "commit of 1 MB", connections: 1, operations: 20, work: commitOf(SMALL_COMMIT_BYTES) },
    ...(quick ? [] : [{ name: "commit of 2 GB", connections: 1, operations: 1, work: commitOf(LARGE_COMMIT_BYTES) }]),
    { name: "layer-pull", connections: 1, operations: 5, work: pullOf(layerBytes) },
    { name: referrersRow.id, connections: referrersRow.connections, operations: 200 * share, work: referrersRow.work },
  ];
}

/** Beside a commit the bare Worker stores the same bytes and makes the blob's rows. */
function commitOf(bytes: number): Work {
  return {
    oci:
      ({ repository }) =>
      async (client) => {
        await commitMs(client, repository, new Layer(bytes));
      },
    bare:
      ({ repository }) =>
      async (client) => {
        const layer = new Layer(bytes);
        await client.request({
          method: "PUT",
          path: `/upload/${crypto.randomUUID()}/${repository}?digest=${layer.digest()}`,
          headers: { "content-length": String(bytes) },
          body: layer.stream(),
          expect: [201],
        });
      },
  };
}

/** Each pull is of one layer, which the first one pushes. */
function pullOf(bytes: number): Work {
  const pulling = (push: (client: Client) => Promise<string>): Operation => {
    let target: Promise<string> | null = null;
    return async (client) => {
      target ??= push(client);
      await pullWhole(client, await target, bytes);
    };
  };
  return {
    oci: ({ repository }) =>
      pulling(async (client) => {
        const layer = new Layer(bytes);
        const digest = layer.digest();
        await pushByPut(client, repository, layer, digest);
        return `/v2/${repository}/blobs/${digest}`;
      }),
    bare: () => pulling(async (client) => `/object/${await putObject(client, new Layer(bytes))}`),
  };
}
