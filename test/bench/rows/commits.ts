import { performance } from "node:perf_hooks";
import { Client } from "../client.ts";
import { Layer } from "../content.ts";
import { atMost, compare, type Comparison, median } from "../figures.ts";
import { appendChunk, beginUpload, finishUpload } from "../oci.ts";
import { interleave, type Measured } from "../rounds.ts";
import type { Row, Stage } from "../stage.ts";

export const commitRow: Row = { id: "commit", title: "commit (empty final PUT)" };

export const SMALL_COMMIT_BYTES = 1_000_000;
export const LARGE_COMMIT_BYTES = 2_000_000_000;
const QUICK_LARGE_COMMIT_BYTES = 200_000_000;
const WRITES = 10;

/**
 * How long the final PUT takes where the bytes are there: of a small blob, of a large one, and beside ten D1 writes of a
 * bare Worker, one after the other in one request. Of what is quick a round takes several and their median.
 */
export async function runCommit(stage: Stage): Promise<Comparison[]> {
  const { quick, rounds } = stage.options;
  const largeBytes = quick ? QUICK_LARGE_COMMIT_BYTES : LARGE_COMMIT_BYTES;
  return stage.withPair(async ({ registry, bare, content }) => {
    const onRegistry = new Client(registry.url);
    const onBare = new Client(bare.url);
    const commit = async (bytes: number): Promise<number> => commitMs(onRegistry, content.repository, new Layer(bytes));
    const small = async (): Promise<Measured> => medianOf(9, () => commit(SMALL_COMMIT_BYTES));
    const writes = async (): Promise<Measured> => medianOf(9, () => writesMs(onBare));
    const large = async (bytes: number): Promise<Measured> => medianOf(1, () => commit(bytes));
    try {
      // For the compilers: also a commit of several parts.
      await interleave(
        [
          { name: "", measure: small },
          { name: "", measure: writes },
          { name: "", measure: () => large(20_000_000) },
        ],
        2,
      );
      const figures = await interleave(
        [
          { name: "large", measure: () => large(largeBytes) },
          { name: "small", measure: small },
          { name: "writes", measure: writes },
        ],
        rounds,
      );
      const title = `${commitRow.title} of ${quick ? "200 MB" : "2 GB"}`;
      const common = { row: commitRow.id, unit: "ms" };
      const ten = {
        reference: figures.get("writes"),
        referenceName: `bare Worker, ${String(WRITES)} D1 writes`,
        bar: atMost(1),
      };
      return [
        compare({
          ...common,
          title,
          registry: figures.get("large"),
          reference: figures.get("small"),
          referenceName: "the same of 1 MB",
          bar: atMost(1.5),
        }),
        compare({ ...common, title, registry: figures.get("large"), ...ten }),
        compare({ ...common, title: `${commitRow.title} of 1 MB`, registry: figures.get("small"), ...ten }),
      ];
    } finally {
      onRegistry.close();
      onBare.close();
    }
  });
}

/**
 * Sends the layer as one PATCH without a length; only the PUT after it is timed. The first request after a long stream is
 * slower whatever it asks (a small commit is too): one that is not timed goes before.
 */
export async function commitMs(client: Client, repository: string, layer: Layer): Promise<number> {
  const first = await patched(client, repository, new Layer(SMALL_COMMIT_BYTES));
  const timed = await patched(client, repository, layer);
  await finishUpload(client, first.location, first.digest, null);
  const begun = performance.now();
  await finishUpload(client, timed.location, timed.digest, null);
  return performance.now() - begun;
}

async function patched(
  client: Client,
  repository: string,
  layer: Layer,
): Promise<{ readonly location: string; readonly digest: string }> {
  const digest = layer.digest();
  return { digest, location: await appendChunk(client, await beginUpload(client, repository), layer.stream()) };
}

async function writesMs(client: Client): Promise<number> {
  const begun = performance.now();
  await client.request({ method: "POST", path: `/writes/${String(WRITES)}`, expect: [201] });
  return performance.now() - begun;
}

async function medianOf(times: number, measure: () => Promise<number>): Promise<Measured> {
  const figures: number[] = [];
  for (let time = 0; time < times; time++) figures.push(await measure());
  return { figure: median(figures), operations: times };
}
