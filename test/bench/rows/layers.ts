import { performance } from "node:perf_hooks";
import { Client } from "../client.ts";
import { Layer } from "../content.ts";
import { atLeast, compare, type Comparison } from "../figures.ts";
import { appendChunk, beginUpload, finishUpload, randomText } from "../oci.ts";
import { type Contestant, interleave, type Measured } from "../rounds.ts";
import type { Pair, Stage } from "../stage.ts";

/** A layer that docker would push, and one for a quick look. */
export const LAYER_BYTES = 210_000_000;
export const QUICK_LAYER_BYTES = 42_000_000;
const CHUNK_BYTES = 10 * 1024 * 1024;

/** A way to push a layer; its digest is computed before the clock runs. */
export type LayerPush = (client: Client, repository: string, layer: Layer, digest: string) => Promise<void>;

interface LayerWay {
  readonly id: string;
  readonly title: string;
  readonly bar: number;
  readonly push: LayerPush;
}

export const layerWays: readonly LayerWay[] = [
  {
    id: "layer-put",
    title: "layer of 210 MB, one PUT",
    bar: 0.9,
    push: pushByPut,
  },
  {
    id: "layer-patch",
    title: "layer of 210 MB, one PATCH without a length",
    bar: 0.85,
    push: pushByPatch,
  },
  {
    id: "layer-chunks",
    title: "layer of 210 MB, chunks of 10 MiB",
    bar: 0.65,
    push: pushByChunks(CHUNK_BYTES),
  },
];

/** end-4a, end-6 */
export async function pushByPut(client: Client, repository: string, layer: Layer, digest: string): Promise<void> {
  const location = await beginUpload(client, repository);
  await finishUpload(client, location, digest, { bytes: layer.stream(), length: layer.bytes });
}

/** end-4a, end-5 once, without a length, end-6: as docker does. */
export async function pushByPatch(client: Client, repository: string, layer: Layer, digest: string): Promise<void> {
  const location = await beginUpload(client, repository);
  await finishUpload(client, await appendChunk(client, location, layer.stream()), digest, null);
}

export function pushByChunks(chunkBytes: number): LayerPush {
  return async (client, repository, layer, digest) => {
    let location = await beginUpload(client, repository);
    for (let start = 0; start < layer.bytes; start += chunkBytes) {
      const length = Math.min(chunkBytes, layer.bytes - start);
      location = await appendChunk(client, location, layer.stream(start, start + length), { start, length });
    }
    await finishUpload(client, location, digest, null);
  };
}

/** The same bytes into a bare Worker's `put`, with a length. Answers the key. */
export async function putObject(client: Client, layer: Layer): Promise<string> {
  const key = `bare-${randomText()}`;
  await client.request({
    method: "PUT",
    path: `/object/${key}`,
    headers: { "content-length": String(layer.bytes) },
    body: layer.stream(),
    expect: [201],
  });
  return key;
}

/** Those of the rows that are wanted are measured beside one and the same `put`. */
export async function runLayerPushes(stage: Stage, ids: readonly string[]): Promise<Comparison[]> {
  const ways = layerWays.filter(({ id }) => ids.includes(id));
  const bytes = stage.options.quick ? QUICK_LAYER_BYTES : LAYER_BYTES;
  return stage.withPair(async (pair) => {
    const others = await stage.others();
    const contestants: readonly Contestant[] = [
      {
        name: "bare Worker",
        pid: pair.bare.pid,
        measure: async () => pushOne(pair.bare.url, bytes, async (client, layer) => putObject(client, layer)),
      },
      ...ways.map(({ id, push }) => ({
        pid: pair.registry.pid,
        ...pushing(id, pair.registry.url, pair.content.repository, bytes, push),
      })),
      ...others.flatMap(({ name, url, content }) =>
        ways.map(({ id, push }) => pushing(`${id} ${name}`, url, content.repository, bytes, push)),
      ),
    ];
    await warmUp(pair);
    const figures = await interleave(contestants, stage.options.rounds);
    return ways.flatMap(({ id, title, bar }) =>
      ["bare Worker", ...others.map(({ name }) => `${id} ${name}`)].map((reference, index) =>
        compare({
          row: id,
          title,
          unit: "MiB/s",
          registry: figures.get(id),
          reference: figures.get(reference),
          referenceName: others[index - 1]?.name ?? reference,
          bar: index === 0 ? atLeast(bar) : null,
        }),
      ),
    );
  });
}

export const layerPullRow = { id: "layer-pull", title: "layer of 210 MB, pull" };

export async function runLayerPull(stage: Stage): Promise<Comparison[]> {
  const { quick, rounds } = stage.options;
  const bytes = quick ? QUICK_LAYER_BYTES : LAYER_BYTES;
  return stage.withPair(async (pair) => {
    const layer = new Layer(bytes);
    const digest = layer.digest();
    const pushedTo = async (url: string, repository: string): Promise<string> => {
      await withClient(url, async (client) => pushByPut(client, repository, layer, digest));
      return `/v2/${repository}/blobs/${digest}`;
    };
    const { registry, bare, content } = pair;
    const key = await withClient(bare.url, async (client) => putObject(client, layer));
    const others = await stage.others();
    const contestants = [
      {
        pid: registry.pid,
        ...pulling("registry", registry.url, await pushedTo(registry.url, content.repository), bytes),
      },
      { pid: bare.pid, ...pulling("bare Worker", bare.url, `/object/${key}`, bytes) },
      ...(await Promise.all(
        others.map(async ({ name, url, content: { repository } }) =>
          pulling(name, url, await pushedTo(url, repository), bytes),
        ),
      )),
    ];
    await interleave(contestants, 1);
    const figures = await interleave(contestants, rounds);
    return contestants.slice(1).map(({ name }) =>
      compare({
        row: layerPullRow.id,
        title: layerPullRow.title,
        unit: "MiB/s",
        registry: figures.get("registry"),
        reference: figures.get(name),
        referenceName: name,
        bar: name === "bare Worker" ? atLeast(0.9) : null,
      }),
    );
  });
}

export async function pullWhole(client: Client, target: string, bytes: number): Promise<void> {
  const answer = await client.request({ method: "GET", path: target, expect: [200] });
  if (answer.bodyBytes !== bytes)
    throw new Error(`${target} sent ${String(answer.bodyBytes)} of ${String(bytes)} bytes`);
}

/** A single pull takes a third of a second: several make a figure. */
const PULLS = 4;

function pulling(name: string, url: string, target: string, bytes: number): Contestant {
  return {
    name,
    measure: async () =>
      withClient(url, async (client) => {
        const begun = performance.now();
        for (let pull = 0; pull < PULLS; pull++) await pullWhole(client, target, bytes);
        return { figure: mibs(bytes * PULLS, performance.now() - begun), operations: PULLS };
      }),
  };
}

export function pushing(name: string, url: string, repository: string, bytes: number, push: LayerPush): Contestant {
  return {
    name,
    measure: async () => pushOne(url, bytes, async (client, layer, digest) => push(client, repository, layer, digest)),
  };
}

async function pushOne(
  url: string,
  bytes: number,
  send: (client: Client, layer: Layer, digest: string) => Promise<unknown>,
): Promise<Measured> {
  const layer = new Layer(bytes);
  const digest = layer.digest();
  return withClient(url, async (client) => {
    const begun = performance.now();
    await send(client, layer, digest);
    return { figure: mibs(bytes, performance.now() - begun), operations: 1 };
  });
}

/** A small one each way, for the compilers; the others have run for longer. */
async function warmUp({ registry, bare, content }: Pair): Promise<void> {
  await withClient(bare.url, async (client) => putObject(client, warmUpLayer()));
  await withClient(registry.url, async (client) => {
    for (const { push } of layerWays) {
      const next = warmUpLayer();
      await push(client, content.repository, next, next.digest());
    }
  });
}

async function withClient<T>(url: string, use: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client(url);
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

function mibs(bytes: number, milliseconds: number): number {
  return bytes / (1024 * 1024) / (milliseconds / 1000);
}

function warmUpLayer(): Layer {
  return new Layer(2 * CHUNK_BYTES + 1);
}
