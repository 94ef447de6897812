/**
 * What pulls and pushes cost at Cloudflare's prices on the Workers Paid plan: counted operations times prices. Pure, and
 * the source of COSTS.md, which `npx node test/bench/write-costs.ts` writes. test/api/costs.test.ts counts the operations.
 */

/** A thing that is billed by its number. */
export interface Price {
  readonly what: string;
  /** USD for a million, beyond what the plan includes */
  readonly dollarsPerMillion: number;
  /** a month, within the plan's 5 USD */
  readonly included: string;
  /** under developers.cloudflare.com */
  readonly source: string;
}

/** When the prices were read. */
export const pricesOf = "2026-11-21";

export const prices = {
  requests: {
    what: "requests to the Worker",
    dollarsPerMillion: 0.3,
    included: "10 million",
    source: "workers/platform/pricing",
  },
  d1RowsRead: {
    what: "D1 rows read",
    dollarsPerMillion: 0.001,
    included: "25,000 million",
    source: "d1/platform/pricing",
  },
  d1RowsWritten: {
    what: "D1 rows written, indexes too",
    dollarsPerMillion: 1,
    included: "50 million",
    source: "d1/platform/pricing",
  },
  r2ClassA: {
    what: "R2 class A operations (write, list)",
    dollarsPerMillion: 4.5,
    included: "1 million",
    source: "r2/pricing",
  },
  r2ClassB: {
    what: "R2 class B operations (read)",
    dollarsPerMillion: 0.36,
    included: "10 million",
    source: "r2/pricing",
  },
  durableObjectRequests: {
    what: "Durable Object requests",
    dollarsPerMillion: 0.15,
    included: "1 million",
    source: "durable-objects/platform/pricing",
  },
  durableObjectGbSeconds: {
    what: "Durable Object duration, GB-s",
    dollarsPerMillion: 12.5,
    included: "400,000",
    source: "durable-objects/platform/pricing",
  },
  durableObjectRowsWritten: {
    what: "Durable Object rows written",
    dollarsPerMillion: 1,
    included: "50 million",
    source: "durable-objects/platform/pricing",
  },
  dataPoints: {
    what: "Analytics Engine data points (announced, not billed yet)",
    dollarsPerMillion: 0.25,
    included: "10 million",
    source: "analytics/analytics-engine/pricing",
  },
} as const satisfies Record<string, Price>;

export type Billable = keyof typeof prices;

/** How many of what; what is left out is none. */
export type Usage = Readonly<Partial<Record<Billable, number>>>;

const billables = Object.keys(prices).filter((name): name is Billable => name in prices);

/** USD, without what a plan includes: what one more costs. */
export function costOf(usage: Usage): number {
  return billables.reduce((sum, name) => sum + ((usage[name] ?? 0) * prices[name].dollarsPerMillion) / 1e6, 0);
}

export function times(usage: Usage, factor: number): Usage {
  return Object.fromEntries(billables.flatMap((name) => (name in usage ? [[name, (usage[name] ?? 0) * factor]] : [])));
}

export function plus(...usages: readonly Usage[]): Usage {
  return Object.fromEntries(
    billables.flatMap((name) => {
      const sum = usages.reduce((whole, usage) => whole + (usage[name] ?? 0), 0);
      return sum === 0 ? [] : [[name, sum]];
    }),
  );
}

/** Layers of the image; with its config there are so many blobs and one more. */
export const LAYERS = 5;
const BLOBS = LAYERS + 1;

/** A pull is the manifest by its tag, and the config with all layers but one, which the client has. */
export const BLOBS_PULLED = 5;

/**
 * What the counts of requests do not show of an upload that has a ledger. It is billed for 128 MB while a PATCH is under
 * way, and once for its alarm. It writes two tables, an alarm, five rows until the blob stands, and forgets two.
 */
const SECONDS_OF_A_PATCH = 5;
const session: Usage = {
  durableObjectRequests: 1,
  durableObjectGbSeconds: SECONDS_OF_A_PATCH * 0.128,
  durableObjectRowsWritten: 10,
};

/** One of each, as test/api/costs.test.ts counts it. */
export const counted = {
  /** by somebody who may only pull, of what no cache has */
  coldPull: { requests: 6, d1RowsRead: 18, r2ClassB: 5, dataPoints: 6 },
  /** again, where the data centre's cache, or the isolate's memory, has the blobs */
  warmPull: { requests: 6, d1RowsRead: 3, dataPoints: 6 },
  /** GET /v2/ and /token: the audit has a row of it, with its indexes */
  login: { requests: 2, d1RowsRead: 5, d1RowsWritten: 6 },
  /** again from the same address, within five minutes */
  loginAgain: { requests: 2, d1RowsRead: 3 },
  /** HEAD, POST, PATCH, PUT and HEAD of each blob, and the manifest's PUT */
  dockerPush: {
    requests: 31,
    d1RowsRead: 186,
    d1RowsWritten: 110,
    r2ClassA: 6,
    durableObjectRequests: 12,
    dataPoints: 7,
  },
  /** HEAD, POST and PUT of each blob, and the manifest's PUT */
  otherPush: { requests: 19, d1RowsRead: 192, d1RowsWritten: 110, r2ClassA: 6, dataPoints: 7 },
} as const satisfies Record<string, Usage>;

/**
 * cloudflare/serverless-registry at commit 5f97b0e, by its source: R2 is all that it asks, and it caches nothing. A POST
 * opens a multipart upload and writes its state. A PATCH reads that, sends a part and writes it again. The final PUT
 * reads it; after a PATCH it completes the upload, reads the whole object and writes it under its digest. A manifest's
 * PUT looks at three marks of its collector and at each blob, and writes itself by tag and by digest.
 */
export const peer = {
  pull: { requests: 1 + BLOBS_PULLED, r2ClassB: 1 + BLOBS_PULLED },
  dockerPush: plus(times({ requests: 5, r2ClassA: 2 + 2 + 2, r2ClassB: 1 + 1 + 2 + 1 }, BLOBS), {
    requests: 1,
    r2ClassA: 2,
    r2ClassB: 3 + BLOBS,
  }),
  otherPush: plus(times({ requests: 3, r2ClassA: 2 + 1, r2ClassB: 1 + 1 }, BLOBS), {
    requests: 1,
    r2ClassA: 2,
    r2ClassB: 3 + BLOBS,
  }),
} as const satisfies Record<string, Usage>;

/** D1 for a million manifests, as scripts/scale.ts loads and measures them. */
const GB_OF_A_MILLION = 4.72;
const D1_DOLLARS_PER_GB_MONTH = 0.75;

interface Line {
  readonly what: string;
  readonly usage: Usage;
}

const PULLS = 1e6;
const PUSHES = 1000;

export const pullLines: readonly Line[] = [
  { what: "Moorage, warm", usage: times(counted.warmPull, PULLS) },
  { what: "Moorage, cold", usage: times(counted.coldPull, PULLS) },
  { what: "the peer", usage: times(peer.pull, PULLS) },
  { what: "besides, where each begins with a login", usage: times(counted.loginAgain, PULLS) },
  { what: "and each of those is its address's first in five minutes", usage: times(counted.login, PULLS) },
];

export const pushLines: readonly Line[] = [
  { what: "Moorage, POST and PUT", usage: times(counted.otherPush, PUSHES) },
  { what: "the peer, POST and PUT", usage: times(peer.otherPush, PUSHES) },
  { what: "Moorage, docker", usage: times(plus(counted.dockerPush, times(session, BLOBS)), PUSHES) },
  { what: "the peer, docker", usage: times(peer.dockerPush, PUSHES) },
];

/** COSTS.md, but for the width of its tables. */
export function costsDocument(): string {
  return `# What pulls and pushes cost

Written by \`npx node test/bench/write-costs.ts\` from test/bench/costs.ts; test/api/costs.test.ts counts the operations that it
stands on. USD, at what one more costs on the Workers Paid plan: what the plan includes each month is not subtracted.

A pull is a manifest by its tag and ${String(BLOBS_PULLED)} blobs. Cold: no cache has the blobs. Warm: the isolate's memory, or the data centre's
cache, has them, for callers who may only pull, and blobs of at most CACHE_BLOB_MAX_BYTES; larger ones cost as cold ones do. A push is a manifest,
its config and ${String(LAYERS)} layers, all of them new. docker sends each by POST, PATCH and PUT and asks for it before and after;
most others send it by POST and PUT, and ask before. A layer takes docker ${String(SECONDS_OF_A_PATCH)} s to send.

The peer is cloudflare/serverless-registry at commit 5f97b0e; its operations are counted in its source, not measured.

## A million pulls

${dollarTable(pullLines)}

## A thousand pushes

${dollarTable(pushLines)}

The last column is announced, and not billed yet; «in all» is without it. Most of what a push costs here are rows of D1
with their indexes, of which the audit's are ${String(AUDIT_ROWS)} of ${String(counted.otherPush.d1RowsWritten)}; most of what it costs at the peer are writes to R2: the state of each
upload, and with docker each blob a second time.

## What it is made of

${usageTable()}

## Prices

As developers.cloudflare.com had them, read on ${pricesOf}. The Cache API and the rate limiting binding have no price.

${table(
  ["", "USD for a million", "included in a month", "page"],
  billables.map((name) => {
    const { what, dollarsPerMillion, included, source } = prices[name];
    return [what, String(dollarsPerMillion), included, source];
  }),
)}

Not in the tables, for they depend on what is pushed and not on how often: R2 keeps a GB for a month for 0.015 USD, D1 for
${String(D1_DOLLARS_PER_GB_MONTH)}, of which a million manifests take ${String(GB_OF_A_MILLION)} (${(GB_OF_A_MILLION * D1_DOLLARS_PER_GB_MONTH).toFixed(2)} USD; 5 GB are included). Nor is CPU time, which is measured where it runs: 0.02 USD
for a million ms, so ${(((1 + BLOBS_PULLED) * PULLS * 0.02) / 1e6).toFixed(2)} USD for a million pulls for each ms that one request takes.
`;
}

/** Of the rows that a push writes: a record for each blob and for the manifest, as the login's is one. */
const AUDIT_ROWS = (BLOBS + 1) * counted.login.d1RowsWritten;

function dollarTable(lines: readonly Line[]): string {
  const { dataPoints: _points, ...billedNow } = prices;
  const columns = billables.filter((name) => name in billedNow && lines.some(({ usage }) => name in usage));
  return table(
    ["", "in all", ...columns.map((name) => prices[name].what), "Analytics Engine"],
    lines.map(({ what, usage }) => {
      const { dataPoints = 0, ...billed } = usage;
      return [
        what,
        `**${costOf(billed).toFixed(3)}**`,
        ...columns.map((name) => costOf({ [name]: usage[name] ?? 0 }).toFixed(3)),
        costOf({ dataPoints }).toFixed(3),
      ];
    }),
  );
}

function usageTable(): string {
  const rows: readonly (readonly [string, Usage])[] = [
    ["a warm pull", counted.warmPull],
    ["a cold pull", counted.coldPull],
    ["a pull, the peer", peer.pull],
    ["a login, noted", counted.login],
    ["a login from the same address within five minutes", counted.loginAgain],
    ["a push, POST and PUT", counted.otherPush],
    ["a push, POST and PUT, the peer", peer.otherPush],
    ["a push by docker", plus(counted.dockerPush, times(session, BLOBS))],
    ["a push by docker, the peer", peer.dockerPush],
  ];
  return table(
    ["", ...billables.map((name) => prices[name].what)],
    rows.map(([what, usage]) => [what, ...billables.map((name) => String(Math.round((usage[name] ?? 0) * 100) / 100))]),
  );
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  return [header, header.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}
