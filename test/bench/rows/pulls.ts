import { createHash } from "node:crypto";
import { Client } from "../client.ts";
import type { Content } from "../content.ts";
import { atLeast, type Comparison } from "../figures.ts";
import type { Operation } from "../load.ts";
import { measureRates, type RateRow } from "../rounds.ts";
import type { Pair, Stage } from "../stage.ts";

const CONNECTIONS = 16;
const RANGE_BYTES = 64 * 1024;

interface Pull {
  readonly id: string;
  readonly title: string;
  readonly method: "GET" | "HEAD";
  /** bar of the ratio to the bare Worker */
  readonly bar: number;
  /** what the request names, among those of its kind */
  readonly reference: (content: Content, index: number) => string;
  readonly kind: "manifests" | "blobs";
  readonly range?: (content: Content, index: number) => string;
}

const tagOf = (content: Content, index: number): string => pick(content.tags, index);
const manifestOf = (content: Content, index: number): string => pick(content.manifests, index).digest;
const blobOf = (content: Content, index: number): string => pick(content.blobs, index).digest;

const pulls: readonly Pull[] = [
  {
    id: "manifest-tag-get",
    title: "manifest by tag, GET",
    method: "GET",
    bar: 0.85,
    reference: tagOf,
    kind: "manifests",
  },
  {
    id: "manifest-tag-head",
    title: "manifest by tag, HEAD",
    method: "HEAD",
    bar: 0.85,
    reference: tagOf,
    kind: "manifests",
  },
  {
    id: "manifest-digest-get",
    title: "manifest by digest, GET",
    method: "GET",
    bar: 0.85,
    reference: manifestOf,
    kind: "manifests",
  },
  {
    id: "manifest-digest-head",
    title: "manifest by digest, HEAD",
    method: "HEAD",
    bar: 0.85,
    reference: manifestOf,
    kind: "manifests",
  },
  { id: "blob-head", title: "blob, HEAD", method: "HEAD", bar: 0.85, reference: blobOf, kind: "blobs" },
  { id: "blob-get", title: "blob of 2 KB, GET", method: "GET", bar: 0.8, reference: blobOf, kind: "blobs" },
  {
    id: "blob-range",
    title: "64 KB range of a blob",
    method: "GET",
    bar: 0.8,
    reference: (content) => content.large.digest,
    kind: "blobs",
    range: (content, index) => {
      // Spread over the blob, each from a byte that no page begins with.
      const start = (index * 7 * RANGE_BYTES + 1234) % (content.large.size - RANGE_BYTES);
      return `bytes=${String(start)}-${String(start + RANGE_BYTES - 1)}`;
    },
  },
];

export const pullRows: readonly RateRow[] = pulls.map((pull) => ({
  id: pull.id,
  title: pull.title,
  connections: CONNECTIONS,
  bar: atLeast(pull.bar),
  work: {
    oci: (content) => request(pull, content, (reference) => `/v2/${content.repository}/${pull.kind}/${reference}`),
    bare: (content) =>
      request(pull, content, (reference) => `/${pull.kind.slice(0, -1)}/${reference}/${content.repository}`),
  },
}));

export async function runPull(stage: Stage, row: RateRow): Promise<Comparison[]> {
  return stage.withPair(async (pair) => {
    await requireSameBytes(row, pair);
    return measureRates(stage, row, pair, await stage.others());
  });
}

function request(pull: Pull, content: Content, pathOf: (reference: string) => string): Operation {
  return async (client, index) => {
    const range = pull.range?.(content, index);
    await client.request({
      method: pull.method,
      path: pathOf(pull.reference(content, index)),
      headers: range === undefined ? {} : { range },
      expect: [range === undefined ? 200 : 206],
    });
  };
}

/** A bare Worker that answers with something else would be no measure. */
async function requireSameBytes(row: RateRow, { registry, bare, content }: Pair): Promise<void> {
  const hashes = new Set<string>();
  for (const [url, operation] of [
    [registry.url, row.work.oci(content)],
    [bare.url, row.work.bare(content)],
  ] as const) {
    const client = new BodyHash(url);
    await operation(client, 1);
    hashes.add(client.seen);
    client.close();
  }
  if (hashes.size !== 1) throw new Error(`${row.id}: registry and bare Worker answer with different bytes`);
}

class BodyHash extends Client {
  seen = "";

  override async request(sent: Parameters<Client["request"]>[0]): ReturnType<Client["request"]> {
    const answer = await super.request({ ...sent, keepBody: true });
    const length = answer.headers["content-length"] ?? "";
    this.seen = `${length} ${createHash("sha256").update(answer.body).digest("hex")}`;
    return answer;
  }
}

function pick<T>(from: readonly T[], index: number): T {
  const picked = from[index % from.length];
  if (picked === undefined) throw new Error("nothing to pick from");
  return picked;
}
