/** What a request cost: how often it went over to D1, to R2, to a Durable Object. It holds on any machine. */

export interface OperationCounts {
  /** round trips: one `batch`, or one `run`, `first`, `all`, `raw` or `exec` outside of a batch */
  d1: number;
  /** calls on the bucket, each part of a multipart upload, its beginning and its end among them */
  r2: number;
  /** calls on a stub; what is called on the object that such a call hands out belongs to the same session */
  durableObjects: number;
}

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
  const count = (kind: keyof OperationCounts) => (): void => {
    counts[kind]++;
  };
  return {
    env: {
      ...env,
      DB: countDatabase(env.DB, count("d1")),
      BLOBS: countBucket(env.BLOBS, count("r2")),
      UPLOADS: countNamespace(env.UPLOADS, count("durableObjects")),
    },
    counts,
    reset() {
      counts.d1 = 0;
      counts.r2 = 0;
      counts.durableObjects = 0;
    },
  };
}

type Call = (args: readonly unknown[]) => unknown;

/**
 * A proxy that hands each call of a method on, by way of `observe`. The method runs on the thing itself: the runtime's
 * own objects refuse to work on a proxy of theirs.
 */
function observeCalls<T extends object>(
  target: T,
  observe: (method: string, call: Call, args: readonly unknown[]) => unknown,
): T {
  return new Proxy(target, {
    get(_, property): unknown {
      const value: unknown = Reflect.get(target, property);
      if (typeof value !== "function" || typeof property === "symbol") return value;
      const call: Call = (args) => Reflect.apply(value, target, args);
      return (...args: readonly unknown[]) => observe(property, call, args);
    },
  });
}

const statementRuns: ReadonlySet<string> = new Set(["run", "first", "all", "raw"]);

function countDatabase(db: D1Database, count: () => void): D1Database {
  // A batch takes the statements themselves, not what was made of them here.
  const statements = new WeakMap<object, D1PreparedStatement>();
  const statement = (inner: D1PreparedStatement): D1PreparedStatement => {
    const outer = observeCalls(inner, (method, call, args) => {
      if (statementRuns.has(method)) count();
      if (method === "bind") return statement(inner.bind(...args));
      return call(args);
    });
    statements.set(outer, inner);
    return outer;
  };
  return observeCalls(db, (method, call, args) => {
    if (method === "prepare") return statement(db.prepare(String(args[0])));
    if (method === "batch" && Array.isArray(args[0])) {
      count();
      return call([args[0].map((each: object) => statements.get(each) ?? each)]);
    }
    if (method === "exec") count();
    return call(args);
  });
}

function countBucket(bucket: R2Bucket, count: () => void): R2Bucket {
  return observeCalls(bucket, (method, call, args) => {
    // Naming an upload that goes on asks R2 nothing; what is called on it then does.
    if (method === "resumeMultipartUpload") return countCalls(call(args), count);
    count();
    if (method === "createMultipartUpload")
      return Promise.resolve(call(args)).then((upload) => countCalls(upload, count));
    return call(args);
  });
}

const stubMakers: ReadonlySet<string> = new Set(["get", "getByName", "getExisting"]);

function countNamespace(namespace: Env["UPLOADS"], count: () => void): Env["UPLOADS"] {
  return observeCalls(namespace, (method, call, args) =>
    stubMakers.has(method) ? countCalls(call(args), count) : call(args),
  );
}

/** Every call of the thing's methods counts: of a multipart upload, or of a stub, whose methods are its object's. */
function countCalls(target: unknown, count: () => void): unknown {
  if (typeof target !== "object" || target === null) return target;
  return observeCalls(target, (_, call, args) => {
    count();
    return call(args);
  });
}
