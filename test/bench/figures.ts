/** Medians, ratios and what they say about a bar. */

export interface Bar {
  readonly relation: "at least" | "at most";
  readonly value: number;
}

export type Verdict = "meets" | "misses" | "undecided";

/** One figure of one row beside its bar. */
export interface Comparison {
  readonly row: string;
  /** what is compared with what */
  readonly title: string;
  readonly unit: string;
  /** one figure a round, of the registry and of what it is compared with */
  readonly registry: readonly number[];
  readonly reference: readonly number[];
  readonly referenceName: string;
  /** one figure a round: both sides were measured one right after the other */
  readonly ratios: readonly number[];
  readonly ratio: number;
  /**
   * Processor time of the registry's workerd for one operation, as a multiple of the reference's; null where one is not
   * known. No bar is about it, but other load on the machine disturbs it less than the clock.
   */
  readonly cpuRatio: number | null;
  /** null: printed only */
  readonly bar: Bar | null;
  readonly verdict: Verdict | null;
}

/** What one side's rounds gave. */
export interface Figures {
  /** one a round */
  readonly figures: readonly number[];
  /** processor time of workerd for one operation, in ms, one a round; empty where it is not known */
  readonly cpuMs: readonly number[];
}

export interface Compared {
  readonly row: string;
  readonly title: string;
  readonly unit: string;
  readonly registry: Figures | undefined;
  readonly reference: Figures | undefined;
  readonly referenceName: string;
  readonly bar: Bar | null;
  /** how one round's two figures make the one that the bar is about; their ratio by default */
  readonly combine?: (registry: number, reference: number) => number;
  /** Counted, not measured: the same in the next run. */
  readonly isExact?: boolean;
}

const none: Figures = { figures: [], cpuMs: [] };

export function compare(compared: Compared): Comparison {
  const {
    combine = (registry, reference) => registry / reference,
    registry = none,
    reference = none,
    isExact = false,
    ...rest
  } = compared;
  const ratios = zip(registry.figures, reference.figures, combine);
  const ratio = median(ratios);
  const cpuRatios = zip(registry.cpuMs, reference.cpuMs, (ours, theirs) => ours / theirs);
  return {
    ...rest,
    registry: registry.figures,
    reference: reference.figures,
    ratios,
    ratio,
    cpuRatio: cpuRatios.length === 0 ? null : median(cpuRatios),
    verdict: compared.bar === null ? null : judge(ratio, compared.bar, isExact ? 0 : UNCERTAIN),
  };
}

function zip(
  ours: readonly number[],
  theirs: readonly number[],
  combine: (our: number, their: number) => number,
): readonly number[] {
  return ours.flatMap((our, round) => {
    const their = theirs[round];
    return their === undefined ? [] : [combine(our, their)];
  });
}

/** Of the bar: what is closer to it could be on its other side in the next run. */
const UNCERTAIN = 0.1;

/** @param uncertain part of the bar that the figure may be wrong by */
export function judge(figure: number, bar: Bar, uncertain = UNCERTAIN): Verdict {
  if (Math.abs(figure - bar.value) < bar.value * uncertain) return "undecided";
  const isKept = bar.relation === "at least" ? figure >= bar.value : figure <= bar.value;
  return isKept ? "meets" : "misses";
}

/** NaN of nothing. */
export function median(figures: readonly number[]): number {
  const sorted = figures.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export function atLeast(value: number): Bar {
  return { relation: "at least", value };
}

export function atMost(value: number): Bar {
  return { relation: "at most", value };
}
