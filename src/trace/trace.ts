import { AsyncLocalStorage } from "node:async_hooks";
import { observe, type OperationKind } from "./observed-calls.ts";

/** Where a pull was answered from; `bypass`: the caller may push, or asks by tag, or nothing is cached. */
export type CacheResult = "memory" | "cache" | "miss" | "bypass";

/** What one request did outside of the isolate's memory, and for how long it waited for it. */
export interface Trace {
  readonly d1: Spent;
  readonly r2: Spent;
  readonly durableObjects: Spent;
  /** of a pull */
  cache: CacheResult | null;
  /** until it was known who asks, ms */
  accessMs: number;
}

export interface Spent {
  count: number;
  /** Sum over all, ms; those that run side by side count each. */
  ms: number;
}

const traces = new AsyncLocalStorage<Trace>();

export function newTrace(): Trace {
  return {
    d1: { count: 0, ms: 0 },
    r2: { count: 0, ms: 0 },
    durableObjects: { count: 0, ms: 0 },
    cache: null,
    accessMs: 0,
  };
}

/** What is done in `work`, and in what it leaves for later, is written down in the trace. */
export function traced<T>(trace: Trace, work: () => T): T {
  return traces.run(trace, work);
}

const observed = new WeakMap<object, Env>();

/** The bindings whose calls are written down in the trace of the request that makes them; the same ones each time. */
export function tracedEnv(env: Env): Env {
  const known = observed.get(env);
  if (known !== undefined) return known;
  const made = observe(env, begin);
  observed.set(env, made);
  return made;
}

function begin(kind: OperationKind): () => void {
  const trace = traces.getStore();
  if (trace === undefined) return () => undefined;
  const spent = trace[kind];
  spent.count++;
  const fromMs = Date.now();
  return () => {
    spent.ms += Date.now() - fromMs;
  };
}
