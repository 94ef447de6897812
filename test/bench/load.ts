import { performance } from "node:perf_hooks";
import { Client } from "./client.ts";

/** One thing that a user of a registry does, over one connection; `index` counts up over all connections. */
export type Operation = (client: Client, index: number) => Promise<void>;

export interface Load {
  readonly connections: number;
  /** how long new operations are begun, or how many there are */
  readonly until: { readonly seconds: number } | { readonly operations: number };
}

export interface Sample {
  readonly operations: number;
  /** from the first operation's beginning to the last one's end */
  readonly seconds: number;
  readonly latenciesMs: readonly number[];
}

let indices = 0;

/** A closed loop: each connection begins its next operation when its last one has ended. */
export async function drive(url: string, operation: Operation, load: Load): Promise<Sample> {
  const { until } = load;
  const latenciesMs: number[] = [];
  const clients = Array.from({ length: load.connections }, () => new Client(url));
  const begun = performance.now();
  let left = "operations" in until ? until.operations : Number.POSITIVE_INFINITY;
  const deadline = "seconds" in until ? begun + until.seconds * 1000 : Number.POSITIVE_INFINITY;
  try {
    await Promise.all(
      clients.map(async (client) => {
        while (left > 0 && performance.now() < deadline) {
          left--;
          const from = performance.now();
          await operation(client, indices++);
          latenciesMs.push(performance.now() - from);
        }
      }),
    );
  } finally {
    for (const client of clients) client.close();
  }
  return { operations: latenciesMs.length, seconds: (performance.now() - begun) / 1000, latenciesMs };
}

/** operations a second */
export function rate(sample: Sample): number {
  return sample.operations / sample.seconds;
}
