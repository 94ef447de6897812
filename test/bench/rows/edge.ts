import { randomBytes } from "node:crypto";
import type { Content } from "../content.ts";
import { Client } from "../client.ts";
import { atLeast, atMost, type Bar, compare, type Comparison, median } from "../figures.ts";
import { drive, type Operation } from "../load.ts";
import { digestOf, imageManifest, imageManifestOf, layerOf, pushBlob, putManifest } from "../oci.ts";
import { bearer, makePuller } from "../puller.ts";
import { answeringOf, type Contestant, interleave, measureRate } from "../rounds.ts";
import { anonymously, type Server, startRegistry, startWithoutCacheApi } from "../servers.ts";
import type { Other, Row, Stage } from "../stage.ts";
import { residentMiB } from "../workerd.ts";
import { smallPushRow } from "./pushes.ts";

/** What who may only pull gets from the caches. Everybody may pull from the registries of these rows. */

const CONNECTIONS = 16;
const MIB = 1024 * 1024;
const publicPulls = { ANONYMOUS_PULL: "**" };

type Headers = Readonly<Record<string, string>>;

interface Pull extends Row {
  readonly method: "GET" | "HEAD";
  readonly path: (content: Content, index: number) => string;
}

const manifest = (content: Content, index: number): string =>
  `/v2/${content.repository}/manifests/${content.manifests[index % content.manifests.length]?.digest ?? ""}`;
const blob = (content: Content, index: number): string =>
  `/v2/${content.repository}/blobs/${content.blobs[index % content.blobs.length]?.digest ?? ""}`;

const warmManifest: Pull = {
  id: "edge-manifest-get",
  title: "warm manifest by digest, GET",
  method: "GET",
  path: manifest,
};

const pulls: readonly Pull[] = [
  warmManifest,
  { id: "edge-manifest-head", title: "warm manifest by digest, HEAD", method: "HEAD", path: manifest },
  { id: "edge-blob-head", title: "warm blob, HEAD", method: "HEAD", path: blob },
  { id: "edge-blob-get", title: "warm blob of 2 KB, GET", method: "GET", path: blob },
];

export const edgeRows: readonly Row[] = pulls;

/** With a few bytes, which nothing on the platform is quicker than; and with the bytes and headers that a pull needs. */
const bareRoutes = ["hello", "answer"] as const;
type BareRoute = (typeof bareRoutes)[number];
const bareNames: Readonly<Record<BareRoute, string>> = { hello: "hello Worker", answer: "bare Worker, same headers" };

/** Beside Workers that look nothing up. */
export async function runEdge(stage: Stage, ids: readonly string[]): Promise<Comparison[]> {
  return stage.withBare((bare) =>
    stage.withRegistry(async (registry) => {
      const { content } = stage;
      const bearers = await bearersOf(registry, content);
      const comparisons: Comparison[] = [];
      for (const pull of pulls.filter(({ id }) => ids.includes(id))) {
        const ways: readonly {
          readonly name: string;
          readonly headers: (index: number) => Headers;
          readonly bar: Bar;
        }[] = [
          { name: "nobody", headers: fromSomewhere, bar: atLeast(0.85) },
          {
            name: "a bearer",
            headers: (index) => ({ authorization: bearers[index % bearers.length] ?? "" }),
            bar: atLeast(0.7),
          },
        ];
        const contestants = ways.flatMap(({ name, headers }) => [
          ...bareRoutes.map((route) =>
            contestant(stage, `${route} to ${name}`, bare, pullOf(bareOf(route, pull), content, headers)),
          ),
          contestant(stage, name, anonymously(registry), pullOf(pull, content, headers)),
        ]);
        await interleave(contestants, 1);
        const figures = await interleave(contestants, stage.options.rounds);
        for (const { name, bar } of ways) {
          for (const route of bareRoutes) {
            comparisons.push(
              compare({
                row: pull.id,
                title: `${pull.title}, with ${name}`,
                unit: "/s",
                registry: figures.get(name),
                reference: figures.get(`${route} to ${name}`),
                referenceName: bareNames[route],
                bar: route === "hello" ? bar : null,
              }),
            );
          }
        }
      }
      return comparisons;
    }, publicPulls),
  );
}

export const edgeLargeRow: Row = { id: "edge-blob-1mib", title: "warm blob of 1 MiB, GET" };

/** Beside bare Workers that have the same bytes in memory, and in the Cache API: the bar is of the quicker one. */
export async function runEdgeLarge(stage: Stage): Promise<Comparison[]> {
  return stage.withBare((bare) =>
    stage.withRegistry(async (registry) => {
      const { repository } = stage.content;
      const bytes = randomBytes(MIB);
      const { digest } = await pushed(registry.url, repository, bytes);
      const put = new Client(bare.url);
      for (const kind of ["memory", "cache"]) {
        const path = `/${kind}/${digest}`;
        const headers = { "content-length": String(bytes.byteLength) };
        await put.request({ method: "PUT", path, headers, body: bytes, expect: [201] });
      }
      put.close();
      const contestants: readonly Contestant[] = [
        contestant(stage, "registry", anonymously(registry), getOf(`/v2/${repository}/blobs/${digest}`), 8),
        contestant(stage, "memory", bare, getOf(`/memory/${digest}`), 8),
        contestant(stage, "cache", bare, getOf(`/cache/${digest}`), 8),
      ];
      await interleave(contestants, 1);
      const figures = await interleave(contestants, stage.options.rounds);
      const rateOf = (name: string): number => median(figures.get(name)?.figures ?? []);
      const quicker = rateOf("memory") > rateOf("cache") ? "memory" : "cache";
      return ["memory", "cache"].map((name) =>
        compare({
          row: edgeLargeRow.id,
          title: edgeLargeRow.title,
          unit: "/s",
          registry: figures.get("registry"),
          reference: figures.get(name),
          referenceName: `bare Worker, ${name}`,
          bar: name === quicker ? atLeast(0.8) : null,
        }),
      );
    }, publicPulls),
  );
}

export const edgeFillRow: Row = { id: "edge-fill", title: "filling the caches with 10,000 manifests and blobs" };

const FILLED = 5000;
const FILLED_BLOB_BYTES = 8192;
const WARMING_ROUNDS_MAX = 10;

/** Its own count stays under its bound, and the process does not grow by much more. */
export async function runEdgeFill(stage: Stage): Promise<Comparison[]> {
  const { repository, config } = stage.content;
  const count = stage.options.quick ? FILLED / 10 : FILLED;
  const paths: string[] = [];
  const pushOne: Operation = async (client) => {
    const bytes = randomBytes(FILLED_BLOB_BYTES);
    await pushBlob(client, repository, bytes);
    const layer = layerOf(bytes);
    const text = imageManifestOf({ config, layers: [layer] }, 2048);
    const digest = digestOf(text);
    await putManifest(client, repository, digest, text);
    paths.push(`/v2/${repository}/manifests/${digest}`, `/v2/${repository}/blobs/${layer.digest}`);
  };
  const pullOne: Operation = async (client, index) => {
    const path = paths[index % paths.length] ?? "";
    await client.request({ method: "GET", path, headers: fromSomewhere(index), expect: [200] });
  };
  const pullAll = async (url: string, times: number): Promise<void> => {
    await drive(url, pullOne, { connections: CONNECTIONS, until: { operations: times * paths.length } });
  };
  const push = async (registry: Server): Promise<void> => {
    await drive(registry.url, pushOne, { connections: 8, until: { operations: count } });
  };
  const fill = async (registry: Server): Promise<Filled> => {
    // Locally D1 and R2 run in the same process, which grows with what is asked of them whether anything is cached or not:
    // by pulls past the caches (who may push is not answered from them) until it grows no more.
    const coldMiB = residentMiB(registry.pid);
    let steadyMiB = coldMiB;
    for (let round = 0; round < WARMING_ROUNDS_MAX; round++) {
      await pullAll(registry.url, 1);
      const now = residentMiB(registry.pid);
      const isSteady = steadyMiB !== null && now !== null && now < steadyMiB * 1.02;
      steadyMiB = now;
      if (isSteady) break;
    }
    // Once they are filled, once more all of it is replaced: not all that was asked for has room in them.
    await pullAll(anonymously(registry).url, 2);
    const filledMiB = residentMiB(registry.pid);
    return { coldMiB, steadyMiB, filledMiB, countedBytes: await metricOf(registry, "moorage_cache_bytes") };
  };
  const starts = [startRegistry, startWithoutCacheApi].map(
    (start) => async (state: string) => start(state, publicPulls),
  );
  const [whole, withoutCacheApi] = await stage.withPushed(push, starts, fill);
  const { title } = edgeFillRow;
  const row = { row: edgeFillRow.id, unit: "MiB", combine: difference };
  const growth = (what: string, from: number | null | undefined, to: number | null | undefined, bar: Bar | null) =>
    from === null || from === undefined || to === null || to === undefined
      ? []
      : [
          compare({
            ...row,
            title: `${title}: growth of the process`,
            registry: one(to),
            reference: one(from),
            referenceName: what,
            bar,
          }),
        ];
  return [
    compare({
      ...row,
      title: `${title}: its own count`,
      registry: one((whole?.countedBytes ?? 0) / MIB),
      reference: one(0),
      referenceName: "nothing",
      bar: atMost(32),
      isExact: true,
    }),
    ...growth("after pulls past the caches", whole?.steadyMiB, whole?.filledMiB, atMost(96)),
    ...growth("at its start", whole?.coldMiB, whole?.filledMiB, null),
    // What is left where the Cache API, which the platform runs elsewhere, is not asked.
    ...growth("the same without a Cache API", withoutCacheApi?.steadyMiB, withoutCacheApi?.filledMiB, null),
  ];
}

/** What the process holds: at its start, after pulls past the caches, and once they are filled; null where it can't be told. */
interface Filled {
  readonly coldMiB: number | null;
  readonly steadyMiB: number | null;
  readonly filledMiB: number | null;
  /** of the isolate's memory, by its own count */
  readonly countedBytes: number;
}

export const othersRow: Row = { id: "others", title: "beside CNCF distribution and zot" };

/** On the usual port, and on the runtime's own socket without Miniflare before it, which has no bar. */
export async function runOthers(stage: Stage): Promise<Comparison[]> {
  return stage.withRegistry(
    (registry) =>
      stage.withDirect(
        (direct) =>
          stage.withDistribution((distribution) =>
            stage.withZot(async (zot) => {
              if (distribution === null) console.error("  without CNCF distribution: its binary is not there");
              if (zot === null) console.error("  without zot: its binary is not there");
              const others = [distribution, zot, ...(await stage.others())].filter((other) => other !== null);
              const { content } = stage;
              const pullFrom = (of: Content, headers: (index: number) => Headers) => pullOf(warmManifest, of, headers);
              const sides: readonly Contestant[] = [
                contestant(stage, "registry", anonymously(registry), pullFrom(content, fromSomewhere)),
                contestant(stage, "registry, direct socket", anonymously(direct), pullFrom(content, fromSomewhere)),
                ...others.map((other) => contestant(stage, other.name, other, pullFrom(other.content, acceptManifest))),
              ];
              const pushes: readonly Contestant[] = [
                contestant(stage, "registry", registry, smallPushRow.work.oci(content), smallPushRow.connections),
                contestant(
                  stage,
                  "registry, direct socket",
                  direct,
                  smallPushRow.work.oci(content),
                  smallPushRow.connections,
                ),
                ...others.map((other) =>
                  contestant(stage, other.name, other, smallPushRow.work.oci(other.content), smallPushRow.connections),
                ),
              ];
              return [
                ...(await besideOthers(stage, warmManifest.title, sides, others, { distribution: 0.9, zot: 3 })),
                ...(await besideOthers(stage, smallPushRow.title, pushes, others, { zot: 1 })),
              ];
            }),
          ),
        publicPulls,
      ),
    publicPulls,
  );
}

async function besideOthers(
  stage: Stage,
  title: string,
  contestants: readonly Contestant[],
  others: readonly Other[],
  bars: Readonly<Record<string, number>>,
): Promise<Comparison[]> {
  const answering = await answeringOf(contestants);
  const figures = await interleave(answering, stage.options.rounds);
  return ["registry", "registry, direct socket"].flatMap((side) =>
    others
      .filter(({ name }) => figures.has(name))
      .map(({ name }) =>
        compare({
          row: othersRow.id,
          title: side === "registry" ? title : `${title}, direct socket`,
          unit: "/s",
          registry: figures.get(side),
          reference: figures.get(name),
          referenceName: name,
          bar: side === "registry" && bars[name] !== undefined ? atLeast(bars[name]) : null,
        }),
      ),
  );
}

function contestant(
  stage: Stage,
  name: string,
  server: { readonly url: string; readonly pid?: number },
  operation: Operation,
  connections = CONNECTIONS,
): Contestant {
  return {
    name,
    ...(server.pid === undefined ? {} : { pid: server.pid }),
    measure: async () => measureRate(server.url, operation, connections, stage.options.seconds),
  };
}

/** The same request, as long as the registry's: what differs is what the Worker does. */
function bareOf(route: BareRoute, pull: Pull): Pull {
  return {
    ...pull,
    path: (content, index) => `/${route}/${pull.path(content, index).split("/").at(-1) ?? ""}/${content.repository}`,
  };
}

function pullOf({ method, path }: Pull, content: Content, headers: (index: number) => Headers): Operation {
  return async (client, index) => {
    await client.request({ method, path: path(content, index), headers: headers(index), expect: [200] });
  };
}

function getOf(path: string): Operation {
  return async (client, index) => {
    await client.request({ method: "GET", path, headers: fromSomewhere(index), expect: [200] });
  };
}

function difference(ours: number, theirs: number): number {
  return ours - theirs;
}

/** distribution gives an OCI manifest only to who says that it takes one. */
function acceptManifest(): Headers {
  return { accept: imageManifest };
}

/** One address may ask 60,000 times a minute: a bench that asks more often is as many readers. */
function fromSomewhere(index: number): Headers {
  return { "cf-connecting-ip": `10.0.0.${String(index % 64)}` };
}

async function bearersOf(registry: Server, { repository }: Content): Promise<readonly string[]> {
  const bearers: string[] = [];
  for (let index = 0; index < 16; index++) {
    const puller = await makePuller(registry, `puller-${String(index)}`);
    bearers.push(`Bearer ${await bearer(registry, repository, puller)}`);
  }
  return bearers;
}

async function pushed(url: string, repository: string, bytes: Uint8Array) {
  const client = new Client(url);
  await pushBlob(client, repository, bytes);
  client.close();
  return layerOf(bytes);
}

async function metricOf(registry: Server, name: string): Promise<number> {
  const client = new Client(registry.url);
  const { body } = await client.request({ method: "GET", path: "/metrics", expect: [200], keepBody: true });
  client.close();
  const line = body
    .toString("utf8")
    .split("\n")
    .find((each) => each.startsWith(`${name}{`));
  return Number(line?.split(" ").at(-1));
}

function one(figure: number) {
  return { figures: [figure], cpuMs: [] };
}
