import { observe, type OperationKind } from "../../src/trace/observed-calls.ts";

/** What a request cost: how often it went over to D1, to R2, to a Durable Object. It holds on any machine. */
export type OperationCounts = Record<OperationKind, number>;

export interface CountedEnv {
  /** the same bindings, counted; what keeps things by binding (a `WeakMap`) sees others than without the count */
  readonly env: Env;
  readonly counts: OperationCounts;
  /** sets every count to 0 */
  reset(): void;
}

/** Bindings that count what is done through them, and do it. Made once for several requests, as `env` itself is. */
export function countOperations(env: Env): CountedEnv {
  const counts: OperationCounts = { d1: 0, r2: 0, durableObjects: 0 };
  const counted = observe(env, (kind) => {
    counts[kind]++;
    return () => undefined;
  });
  return {
    env: counted,
    counts,
    reset() {
      counts.d1 = 0;
      counts.r2 = 0;
      counts.durableObjects = 0;
    },
  };
}
