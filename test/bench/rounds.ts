import { type Bar, compare, type Comparison, type Figures } from "./figures.ts";
import { drive, type Operation, rate } from "./load.ts";
import type { Other, Pair, Row, Stage, Work } from "./stage.ts";
import { cpuMs } from "./workerd.ts";

export interface Measured {
  readonly figure: number;
  /** that the figure was made of */
  readonly operations: number;
}

/** One side of a row. */
export interface Contestant {
  readonly name: string;
  /** of the script whose workerd serves it; absent where it is none of ours */
  readonly pid?: number;
  readonly measure: () => Promise<Measured>;
}

/** A B C A B C …: what disturbs the machine for a while disturbs all sides alike. */
export async function interleave(
  contestants: readonly Contestant[],
  rounds: number,
): Promise<ReadonlyMap<string, Figures>> {
  const sides = contestants.map((contestant) => ({
    ...contestant,
    figures: new Array<number>(),
    cpuMs: new Array<number>(),
  }));
  for (let round = 0; round < rounds; round++) {
    for (const side of sides) {
      const before = side.pid === undefined ? null : cpuMs(side.pid);
      const { figure, operations } = await side.measure();
      const after = side.pid === undefined ? null : cpuMs(side.pid);
      side.figures.push(figure);
      if (before !== null && after !== null) side.cpuMs.push((after - before) / operations);
    }
  }
  return new Map(sides.map(({ name, figures, cpuMs: cpu }) => [name, { figures, cpuMs: cpu }]));
}

export interface RateRow extends Row {
  readonly connections: number;
  readonly bar: Bar;
  readonly work: Work;
}

/** Operations a second of the registry, of the bare Worker, and of the others, which have no bar. */
export async function measureRates(
  stage: Stage,
  row: RateRow,
  pair: Pair,
  others: readonly Other[],
): Promise<Comparison[]> {
  const { connections, work } = row;
  const { registry, bare, content } = pair;
  const { rounds, seconds } = stage.options;
  const side = (
    name: string,
    server: { readonly url: string; readonly pid?: number },
    operation: Operation,
  ): Contestant => ({
    name,
    ...(server.pid === undefined ? {} : { pid: server.pid }),
    measure: async () => measureRate(server.url, operation, connections, seconds),
  });
  const contestants = [
    side("registry", registry, work.oci(content)),
    side("bare Worker", bare, work.bare(content)),
    ...others.map((other) => side(other.name, { url: other.url }, work.oci(other.content))),
  ];
  // The first round is for the compilers, the connections and the page cache of every side.
  const answering = await answeringOf(contestants);
  const figures = await interleave(answering, rounds);
  return answering
    .filter(({ name }) => name !== "registry")
    .map(({ name }) =>
      compare({
        row: row.id,
        title: row.title,
        unit: "/s",
        registry: figures.get("registry"),
        reference: figures.get(name),
        referenceName: name,
        bar: name === "bare Worker" ? row.bar : null,
      }),
    );
}

/** Operations a second. */
export async function measureRate(
  url: string,
  operation: Operation,
  connections: number,
  seconds: number,
): Promise<Measured> {
  const sample = await drive(url, operation, { connections, until: { seconds } });
  return { figure: rate(sample), operations: sample.operations };
}

/** Those that can do the thing at all: another registry may lack an endpoint, the first two may not. */
export async function answeringOf(contestants: readonly Contestant[]): Promise<readonly Contestant[]> {
  const answering: Contestant[] = [];
  for (const contestant of contestants) {
    try {
      await contestant.measure();
      answering.push(contestant);
    } catch (error) {
      if (contestant.name === "registry" || contestant.name === "bare Worker") throw error;
      console.error(`  ${contestant.name} is left out: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return answering;
}
