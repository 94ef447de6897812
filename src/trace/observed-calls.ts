/**
 * Bindings that tell of each call over to D1, R2 and the Durable Objects. A round trip is one: a `batch`, or one `run`,
 * `first`, `all`, `raw` or `exec` outside of a batch; a call on the bucket, each part of a multipart upload, its
 * beginning and its end among them; a call on a stub.
 */

export type OperationKind = "d1" | "r2" | "durableObjects";

/** Told before a round trip begins. What it returns is called when that has ended, one way or the other. */
export type Listener = (kind: OperationKind) => () => void;

/** The same bindings, listened to. What keeps things by binding (a `WeakMap`) sees others than without. */
export function observe<T extends Pick<Env, "DB" | "BLOBS" | "UPLOADS">>(env: T, listener: Listener): T {
  const observed = new Map<PropertyKey, unknown>([
    ["DB", observeDatabase(env.DB, listener)],
    ["BLOBS", observeBucket(env.BLOBS, listener)],
    ["UPLOADS", observeNamespace(env.UPLOADS, listener)],
  ]);
  return new Proxy(env, { get: (bindings, name): unknown => observed.get(name) ?? Reflect.get(bindings, name) });
}

type Call = (args: readonly unknown[]) => unknown;

/**
 * A proxy that hands each call of a method on, by way of `through`. The method runs on the thing itself: the runtime's
 * own objects refuse to work on a proxy of theirs.
 */
function observeCalls<T extends object>(
  target: T,
  through: (method: string, call: Call, args: readonly unknown[]) => unknown,
): T {
  return new Proxy(target, {
    get(_, property): unknown {
      const value: unknown = Reflect.get(target, property);
      if (typeof value !== "function" || typeof property === "symbol") return value;
      const call: Call = (args) => Reflect.apply(value, target, args);
      return (...args: readonly unknown[]) => through(property, call, args);
    },
  });
}

function listenTo(listener: Listener, kind: OperationKind, call: Call, args: readonly unknown[]): unknown {
  const ended = listener(kind);
  const result = call(args);
  if (!(result instanceof Promise)) {
    ended();
    return result;
  }
  void result.then(ended, ended);
  return result;
}

const statementRuns: ReadonlySet<string> = new Set(["run", "first", "all", "raw"]);

function observeDatabase<T extends D1Database | D1DatabaseSession>(db: T, listener: Listener): T {
  // A batch takes the statements themselves, not what was made of them here.
  const statements = new WeakMap<object, D1PreparedStatement>();
  const statement = (inner: D1PreparedStatement): D1PreparedStatement => {
    const outer = observeCalls(inner, (method, call, args) => {
      if (statementRuns.has(method)) return listenTo(listener, "d1", call, args);
      return method === "bind" ? statement(inner.bind(...args)) : call(args);
    });
    statements.set(outer, inner);
    return outer;
  };
  return observeCalls(db, (method, call, args) => {
    switch (method) {
      case "prepare":
        return statement(db.prepare(String(args[0])));
      case "batch": {
        const [given] = args;
        if (!Array.isArray(given)) return call(args);
        return listenTo(listener, "d1", call, [given.map((each: object) => statements.get(each) ?? each)]);
      }
      case "exec":
        return listenTo(listener, "d1", call, args);
      case "withSession": {
        return "withSession" in db ? observeDatabase(db.withSession(...args.map(String)), listener) : call(args);
      }
      default:
        return call(args);
    }
  });
}

function observeBucket(bucket: R2Bucket, listener: Listener): R2Bucket {
  return observeCalls(bucket, (method, call, args) => {
    // Naming an upload that goes on asks R2 nothing; what is called on it then does.
    if (method === "resumeMultipartUpload") return observeAll(call(args), "r2", listener);
    const result = listenTo(listener, "r2", call, args);
    if (method !== "createMultipartUpload") return result;
    return Promise.resolve(result).then((upload) => observeAll(upload, "r2", listener));
  });
}

const stubMakers: ReadonlySet<string> = new Set(["get", "getByName", "getExisting"]);

function observeNamespace(namespace: Env["UPLOADS"], listener: Listener): Env["UPLOADS"] {
  return observeCalls(namespace, (method, call, args) =>
    stubMakers.has(method) ? observeAll(call(args), "durableObjects", listener) : call(args),
  );
}

/** Every call of the thing's methods is one: of a multipart upload, or of a stub, whose methods are its object's. */
function observeAll(target: unknown, kind: OperationKind, listener: Listener): unknown {
  if (typeof target !== "object" || target === null) return target;
  return observeCalls(target, (_, call, args) => listenTo(listener, kind, call, args));
}
