/** What the platform bills of a request, beside its time: rows, operations by their class, requests to Durable Objects. */
export interface Billed {
  d1RowsRead: number;
  d1RowsWritten: number;
  /** what writes, and lists: developers.cloudflare.com/r2/pricing */
  r2ClassA: number;
  /** what reads; deletions are free */
  r2ClassB: number;
  /** sessions of RPC: what is called on the object that a call hands out belongs to the same one */
  durableObjectRequests: number;
  /** of Analytics Engine */
  dataPoints: number;
}

export interface BilledEnv {
  /** the same bindings, with an eye on each */
  readonly env: Env;
  readonly billed: Readonly<Billed>;
  /** sets everything to 0 */
  reset(): void;
}

const nothing: Readonly<Billed> = {
  d1RowsRead: 0,
  d1RowsWritten: 0,
  r2ClassA: 0,
  r2ClassB: 0,
  durableObjectRequests: 0,
  dataPoints: 0,
};

export function billOperations(env: Env): BilledEnv {
  const billed: Billed = { ...nothing };
  const add = (kind: keyof Billed, amount = 1): void => {
    billed[kind] += amount;
  };
  return {
    env: {
      ...env,
      DB: billDatabase(env.DB, add),
      BLOBS: billBucket(env.BLOBS, add),
      UPLOADS: billNamespace(env.UPLOADS, add),
      PULLS: billDataset(env.PULLS, add),
    },
    billed,
    reset() {
      Object.assign(billed, nothing);
    },
  };
}

type Add = (kind: keyof Billed, amount?: number) => void;
type Method = (...values: readonly never[]) => unknown;

/** The thing with some of its methods replaced; the others run on itself, for the runtime's own refuse a proxy. */
function withMethods<T extends object>(target: T, methods: Readonly<Record<string, Method>>): T {
  return new Proxy(target, {
    get(_, property): unknown {
      if (typeof property === "string" && Object.hasOwn(methods, property)) return methods[property];
      const value: unknown = Reflect.get(target, property);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function billDatabase<T extends D1Database | D1DatabaseSession>(db: T, add: Add): T {
  const own = new WeakMap<D1PreparedStatement, D1PreparedStatement>();
  const note = <R extends { readonly meta: D1Meta }>(result: R): R => {
    add("d1RowsRead", result.meta.rows_read);
    add("d1RowsWritten", result.meta.rows_written);
    return result;
  };
  const statement = (inner: D1PreparedStatement): D1PreparedStatement => {
    const outer = withMethods(inner, {
      bind: (...values) => statement(inner.bind(...values)),
      all: async () => note(await inner.all()),
      run: async () => note(await inner.run()),
      // Its answer does not tell what it read.
      first: async (column?: string) => {
        const [row] = note(await inner.all()).results;
        if (row === undefined) return null;
        return column === undefined ? row : row[column];
      },
    });
    own.set(outer, inner);
    return outer;
  };
  return withMethods<T>(db, {
    prepare: (sql: string) => statement(db.prepare(sql)),
    batch: async (statements: readonly D1PreparedStatement[]) =>
      (await db.batch(statements.map((each) => own.get(each) ?? each))).map(note),
    withSession: (from?: string) => ("withSession" in db ? billDatabase(db.withSession(from), add) : undefined),
  });
}

function billBucket(bucket: R2Bucket, add: Add): R2Bucket {
  const counted = (target: object, kind: "r2ClassA" | "r2ClassB", ...names: readonly string[]) =>
    Object.fromEntries(
      names.map((name) => [
        name,
        (...values: readonly never[]) => {
          add(kind);
          return call(target, name, values);
        },
      ]),
    );
  const upload = (inner: R2MultipartUpload): R2MultipartUpload =>
    withMethods(inner, counted(inner, "r2ClassA", "uploadPart", "complete"));
  return withMethods(bucket, {
    ...counted(bucket, "r2ClassA", "put", "list"),
    ...counted(bucket, "r2ClassB", "get", "head"),
    createMultipartUpload: async (key: string, options?: R2MultipartOptions) => {
      add("r2ClassA");
      return upload(await bucket.createMultipartUpload(key, options));
    },
    resumeMultipartUpload: (key: string, id: string) => upload(bucket.resumeMultipartUpload(key, id)),
  });
}

function billNamespace(namespace: Env["UPLOADS"], add: Add): Env["UPLOADS"] {
  return withMethods(namespace, {
    getByName: (name: string) => {
      const stub = namespace.getByName(name);
      return new Proxy(stub, {
        get(_, property): unknown {
          const value: unknown = Reflect.get(stub, property);
          if (typeof value !== "function") return value;
          return (...values: readonly unknown[]): unknown => {
            add("durableObjectRequests");
            return Reflect.apply(value, stub, values);
          };
        },
      });
    },
  });
}

function billDataset(dataset: Env["PULLS"], add: Add): Env["PULLS"] {
  return withMethods(dataset, {
    writeDataPoint: (point?: AnalyticsEngineDataPoint) => {
      add("dataPoints");
      dataset.writeDataPoint(point);
    },
  });
}

function call(target: object, name: string, values: readonly unknown[]): unknown {
  const value: unknown = Reflect.get(target, name);
  if (typeof value !== "function") throw new TypeError(`no method ${name}`);
  return Reflect.apply(value, target, values);
}
