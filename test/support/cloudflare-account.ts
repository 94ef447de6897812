/**
 * An account at Cloudflare, as far as a deployment asks for it: the part of Cloudflare's API that wrangler calls, on
 * loopback, so that the real wrangler runs against it. What it is told to create is there: its databases take SQL, and
 * a Worker that is uploaded to it is served, by Miniflare, with the very modules, settings and secrets of the upload.
 *
 * What the API answers is written down from what wrangler reads of it; what only Cloudflare can say (limits, checks of a
 * binding, a token's rights) it does not say.
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { buffer } from "node:stream/consumers";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import { unstable_splitSqlQuery } from "wrangler";
import { z } from "zod";
import { freePort } from "./free-port.ts";

const bindingSchema = z.looseObject({ name: z.string(), type: z.string() });

type Binding = z.infer<typeof bindingSchema>;

const metadataSchema = z.object({
  main_module: z.string(),
  compatibility_date: z.string(),
  compatibility_flags: z.array(z.string()).default([]),
  bindings: z.array(bindingSchema),
  migrations: z
    .object({ new_tag: z.string(), steps: z.array(z.object({ new_sqlite_classes: z.array(z.string()).default([]) })) })
    .optional(),
  annotations: z.record(z.string(), z.string()).default({}),
});

const textBindingSchema = z.object({ name: z.string(), text: z.string() });
const bucketBindingSchema = z.object({ name: z.string(), bucket_name: z.string() });
const databaseBindingSchema = z.object({ name: z.string(), id: z.string() });
const objectBindingSchema = z.object({ name: z.string(), class_name: z.string() });
const datasetBindingSchema = z.object({ name: z.string(), dataset: z.string() });
const limitBindingSchema = z.object({
  name: z.string(),
  namespace_id: z.string(),
  simple: z.object({ limit: z.number(), period: z.union([z.literal(10), z.literal(60)]) }),
});

export interface Version {
  readonly id: string;
  readonly tag: string | undefined;
  /** plain_text bindings */
  readonly vars: Readonly<Record<string, string>>;
  readonly databaseIds: readonly string[];
}

interface Upload {
  readonly metadata: z.infer<typeof metadataSchema>;
  readonly modules: readonly { readonly name: string; readonly contents: string }[];
}

interface Worker {
  readonly name: string;
  readonly versions: Version[];
  readonly secrets: Map<string, string>;
  migrationTag: string | undefined;
  readonly sqliteClasses: Set<string>;
  crons: readonly string[];
  upload: Upload;
}

export interface Bucket {
  readonly name: string;
  readonly location: string | undefined;
}

export interface Database {
  readonly uuid: string;
  readonly name: string;
  readonly location: string | undefined;
}

/** What a request is answered with in place of what it asks for, as often as it is asked. */
export interface Fault {
  /** `PUT /workers/scripts/moorage/schedules`: the method, and the path after the account, where it has one */
  readonly request: RegExp;
  readonly status: number;
  readonly code: number;
  readonly message: string;
}

class ApiError extends Error {
  readonly status: number;
  readonly code: number;

  constructor(status: number, code: number, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** As many as one page of the list of buckets shows. */
const bucketsInList = 20;

export class CloudflareAccount {
  readonly buckets: Bucket[] = [];
  readonly databases: Database[] = [];
  readonly queues: string[] = [];
  readonly faults: Fault[] = [];
  /** Each change, as `POST /r2/buckets`: what only reads is not among them. */
  readonly changes: string[] = [];
  /** How many requests there were of any kind. */
  requests = 0;
  /** Requests that this account does not know how to answer. */
  readonly unknown: string[] = [];
  /** Where the Worker is served, once there is one. */
  readonly registry: string;
  readonly token = "a token of the account's owner";
  accounts = [{ id: "0123456789abcdef0123456789abcdef", name: "Harbour" }];
  worker: Worker | null = null;
  /** Whether requests go to the newest two versions, half of them to each. */
  isSplit = false;
  readonly #server: Server;
  readonly #folder: string;
  readonly #port: number;
  #miniflare: Miniflare | null = null;

  private constructor(server: Server, folder: string, port: number) {
    this.#server = server;
    this.#folder = folder;
    this.#port = port;
    this.registry = `http://localhost:${String(port)}`;
  }

  static async open(): Promise<CloudflareAccount> {
    const folder = await mkdtemp(path.join(tmpdir(), "moorage-account-"));
    const server = createServer();
    const account = new CloudflareAccount(server, folder, await freePort());
    server.on("request", (request, response) => {
      account.requests++;
      void account.#respond(request, response);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return account;
  }

  /** What makes wrangler talk to this account, and to nothing of whoever runs the tests. */
  get environment(): Readonly<Record<string, string | undefined>> {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("a TCP server has an address with a port");
    return {
      CLOUDFLARE_API_BASE_URL: `http://127.0.0.1:${String(address.port)}/client/v4`,
      CLOUDFLARE_API_TOKEN: this.token,
      CLOUDFLARE_ACCOUNT_ID: undefined,
      WRANGLER_CACHE_DIR: path.join(this.#folder, "cache"),
      XDG_CONFIG_HOME: path.join(this.#folder, "config"),
      ADMIN_PASSWORD: undefined,
      MOORAGE_PASSWORD: undefined,
      INIT_CWD: undefined,
      CI: undefined,
    };
  }

  /** The version that answers requests. */
  get version(): Version | undefined {
    return this.worker?.versions.at(-1);
  }

  async query(uuid: string, sql: string): Promise<unknown[][]> {
    const miniflare = await this.#runtime();
    const database = await miniflare.getD1Database(bindingOf(uuid));
    const statements = unstable_splitSqlQuery(sql).map((query) => database.prepare(query));
    return (await database.batch(statements)).map(({ results }) => results);
  }

  async close(): Promise<void> {
    this.#server.close().closeAllConnections();
    await this.#miniflare?.dispose();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { status, body } = await this.#answer(request);
    response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
  }

  async #answer(request: IncomingMessage): Promise<{ status: number; body: object }> {
    try {
      const url = new URL(request.url ?? "", "http://account");
      const result = await this.#result(request, url.pathname.replace("/client/v4", ""), url.searchParams);
      return { status: 200, body: { success: true, errors: [], messages: [], result } };
    } catch (error) {
      const status = error instanceof ApiError ? error.status : 500;
      const code = error instanceof ApiError ? error.code : 7500;
      const message = error instanceof Error ? error.message : String(error);
      return { status, body: { success: false, errors: [{ code, message }], messages: [], result: null } };
    }
  }

  async #result(request: IncomingMessage, pathname: string, query: URLSearchParams): Promise<unknown> {
    const method = request.method ?? "GET";
    const body = await buffer(request);
    if (request.headers.authorization !== `Bearer ${this.token}`) throw new ApiError(403, 9109, "Invalid access token");
    const [, accountId, rest] = /^\/accounts\/([^/]+)(\/.*)$/.exec(pathname) ?? [];
    if (rest === undefined) {
      this.#fail(`${method} ${pathname}`);
      return this.#loginResult(pathname);
    }
    if (!this.accounts.some(({ id }) => id === accountId)) throw new ApiError(403, 10000, "Authentication error");
    const asked = `${method} ${rest}`;
    this.#fail(asked);
    const isRead = method === "GET" || rest.endsWith("/query");
    if (!isRead) this.changes.push(asked);
    return rest.startsWith("/workers/")
      ? this.#workerResult(asked, request, body)
      : this.#storageResult(asked, query, body.length === 0 ? {} : JSON.parse(body.toString()));
  }

  #fail(asked: string): void {
    const fault = this.faults.find((one) => one.request.test(asked));
    if (fault !== undefined) throw new ApiError(fault.status, fault.code, fault.message);
  }

  #loginResult(pathname: string): unknown {
    switch (pathname) {
      case "/user/tokens/verify":
        return { id: "token", status: "active" };
      case "/user":
        return { email: "owner@example.com" };
      case "/accounts":
        return this.accounts;
      case "/memberships":
        return this.accounts.map((account) => ({ id: account.id, account }));
      default:
        return this.#isUnknown(pathname);
    }
  }

  async #storageResult(asked: string, query: URLSearchParams, body: unknown): Promise<unknown> {
    const named = /^GET \/(r2\/buckets|d1\/database)\/([^/]+)$/.exec(asked);
    if (named !== null)
      return named[1] === "r2/buckets" ? this.#bucket(named[2] ?? "") : this.#database(named[2] ?? "");
    const queried = /^POST \/d1\/database\/([^/]+)\/query$/.exec(asked);
    if (queried !== null) {
      const { sql } = z.object({ sql: z.string() }).parse(body);
      const results = await this.query(this.#database(queried[1] ?? "").uuid, sql).catch((error: unknown) => {
        throw new ApiError(400, 7500, error instanceof Error ? error.message : String(error));
      });
      return results.map((rows) => ({ results: rows, success: true, meta: { duration: 1 } }));
    }
    switch (asked) {
      case "GET /r2/buckets":
        return { buckets: this.buckets.slice(0, bucketsInList).map(bucketResult) };
      case "POST /r2/buckets": {
        const { name, locationHint } = z.object({ name: z.string(), locationHint: z.string().optional() }).parse(body);
        if (this.buckets.some((bucket) => bucket.name === name)) {
          throw new ApiError(409, 10004, "The bucket you tried to create already exists, and you own it.");
        }
        this.buckets.push({ name, location: locationHint });
        return { name, location: locationHint?.toUpperCase() };
      }
      case "GET /d1/database":
        return pageOf(this.databases, query);
      case "POST /d1/database": {
        const schema = z.object({ name: z.string(), primary_location_hint: z.string().optional() });
        const { name, primary_location_hint } = schema.parse(body);
        const database = { uuid: randomUUID(), name, location: primary_location_hint };
        this.databases.push(database);
        await this.#restart();
        return database;
      }
      case "GET /queues":
        return this.queues
          .filter((name) => query.get("name") === null || query.getAll("name").includes(name))
          .map(queueResult);
      case "POST /queues": {
        const { queue_name } = z.object({ queue_name: z.string() }).parse(body);
        this.queues.push(queue_name);
        return queueResult(queue_name);
      }
      default:
        return this.#isUnknown(asked);
    }
  }

  #bucket(name: string): object {
    const bucket = this.buckets.find((one) => one.name === name);
    if (bucket === undefined) throw new ApiError(404, 10006, "The specified bucket does not exist.");
    return bucketResult(bucket);
  }

  /** By its id or its name, as the API takes both. */
  #database(idOrName: string): Database {
    const database = this.databases.find(({ uuid, name }) => uuid === idOrName || name === idOrName);
    if (database === undefined) throw new ApiError(404, 7404, "The database could not be found");
    return database;
  }

  async #workerResult(asked: string, request: IncomingMessage, body: Buffer): Promise<unknown> {
    if (asked === "GET /workers/subdomain") return { subdomain: "harbour" };
    const [, method = "", name = "", rest = ""] =
      /^(\w+) \/workers\/(?:scripts|services|workers)\/([^/]+)(\/.*)?$/.exec(asked) ?? [];
    if (`${method} ${rest}` === "PUT ") return this.#deploy(name, await uploadOf(request, body));
    const { worker } = this;
    if (worker?.name !== name) throw new ApiError(404, 10007, "This Worker does not exist on your account.");
    if (`${method} ${rest}` === "POST /versions") return this.#deploy(name, await uploadOf(request, body));
    const viewed = worker.versions.find(({ id }) => rest === `/versions/${id}`);
    if (viewed !== undefined) return versionResult(viewed);
    switch (`${method} ${rest}`) {
      case "GET ":
        return {
          default_environment: { environment: "production", script: scriptResult(worker) },
          subdomain: { enabled: true, previews_enabled: true },
        };
      case "GET /secrets":
        return [...worker.secrets.keys()].map((secret) => ({ name: secret, type: "secret_text" }));
      case "GET /settings":
        return { bindings: worker.upload.metadata.bindings.map(withoutText) };
      case "GET /deployments":
        return { deployments: deploymentsOf(worker, this.isSplit) };
      case "POST /deployments":
      case "PATCH /script-settings":
        return {};
      case "GET /subdomain":
      case "POST /subdomain":
        return { enabled: true, previews_enabled: true };
      case "PUT /schedules": {
        const crons = z.array(z.object({ cron: z.string() })).parse(JSON.parse(body.toString()));
        worker.crons = crons.map(({ cron }) => cron);
        return { schedules: crons };
      }
      default:
        return this.#isUnknown(asked);
    }
  }

  #isUnknown(asked: string): never {
    this.unknown.push(asked);
    throw new ApiError(404, 7003, `Could not route to ${asked}`);
  }

  async #deploy(name: string, upload: Upload): Promise<object> {
    const { migrations, annotations } = upload.metadata;
    const bindings = upload.metadata.bindings.map((binding) =>
      binding.type === "inherit" ? this.#inherited(binding.name) : binding,
    );
    const secrets = new Map(this.worker?.secrets);
    for (const binding of bindings) {
      if (binding.type === "secret_text") secrets.set(binding.name, textBindingSchema.parse(binding).text);
    }
    const of = <T>(type: string, schema: z.ZodType<T>): T[] =>
      bindings.filter((binding) => binding.type === type).map((binding) => schema.parse(binding));
    for (const { bucket_name } of of("r2_bucket", bucketBindingSchema)) this.#bucket(bucket_name);
    const databaseIds = of("d1", databaseBindingSchema).map(({ id }) => this.#database(id).uuid);
    const version = {
      id: randomUUID(),
      tag: annotations["workers/tag"],
      vars: Object.fromEntries(of("plain_text", textBindingSchema).map((binding) => [binding.name, binding.text])),
      databaseIds,
    };
    const newClasses = migrations?.steps.flatMap((step) => step.new_sqlite_classes) ?? [];
    this.worker = {
      name,
      versions: [...(this.worker?.versions ?? []), version],
      secrets,
      migrationTag: migrations?.new_tag ?? this.worker?.migrationTag,
      sqliteClasses: new Set([...(this.worker?.sqliteClasses ?? []), ...newClasses]),
      crons: this.worker?.crons ?? [],
      upload: { ...upload, metadata: { ...upload.metadata, bindings } },
    };
    await this.#restart();
    const script = { etag: version.id, handlers: ["fetch", "scheduled"] };
    return {
      ...versionResult(version),
      ...script,
      deployment_id: version.id,
      resources: { script },
      startup_time_ms: 1,
    };
  }

  /** What the version before has under the name. */
  #inherited(name: string): Binding {
    const text = this.worker?.secrets.get(name);
    const before = this.worker?.upload.metadata.bindings.find((binding) => binding.name === name);
    if (text !== undefined) return { name, type: "secret_text", text };
    if (before === undefined) throw new ApiError(400, 10057, `inherit binding '${name}' is invalid`);
    return before;
  }

  /** The same port, with what there is now. */
  async #restart(): Promise<void> {
    if (this.#miniflare === null) await this.#runtime();
    else await this.#miniflare.setOptions(this.#options());
  }

  async #runtime(): Promise<Miniflare> {
    this.#miniflare ??= new Miniflare(this.#options());
    await this.#miniflare.ready;
    return this.#miniflare;
  }

  #options() {
    const { worker } = this;
    return {
      ...convertV4MiniflareOptions({
        name: worker?.name ?? "none",
        host: "127.0.0.1",
        port: this.#port,
        cf: false,
        ...(worker === null
          ? {
              modules: true,
              script: 'export default { fetch: () => new Response("nothing here yet", { status: 404 }) }',
            }
          : servedBy(worker)),
        d1Databases: {
          ...Object.fromEntries(this.databases.map(({ uuid }) => [bindingOf(uuid), uuid])),
          ...Object.fromEntries(
            bindingsOf(worker, "d1", databaseBindingSchema).map((binding) => [binding.name, binding.id]),
          ),
        },
      }),
      resourcePersistencePath: path.join(this.#folder, "v3"),
    };
  }
}

/** The name under which the account itself gets at a database. */
function bindingOf(uuid: string): string {
  return `ACCOUNT_${uuid}`;
}

function bindingsOf<T>(worker: Worker | null, type: string, schema: z.ZodType<T>): T[] {
  const bindings = worker?.upload.metadata.bindings ?? [];
  return bindings.filter((binding) => binding.type === type).map((binding) => schema.parse(binding));
}

function servedBy(worker: Worker) {
  const { metadata, modules } = worker.upload;
  const root = "/worker";
  const isMain = (name: string) => name === metadata.main_module;
  const vars = bindingsOf(worker, "plain_text", textBindingSchema).map(({ name, text }) => [name, text] as const);
  return {
    modulesRoot: root,
    modules: modules
      .toSorted((a, b) => Number(isMain(b.name)) - Number(isMain(a.name)))
      .map(({ name, contents }) => ({ type: "ESModule" as const, path: path.join(root, name), contents })),
    compatibilityDate: metadata.compatibility_date,
    compatibilityFlags: metadata.compatibility_flags,
    bindings: { ...Object.fromEntries(vars), ...Object.fromEntries(worker.secrets) },
    r2Buckets: Object.fromEntries(
      bindingsOf(worker, "r2_bucket", bucketBindingSchema).map((binding) => [binding.name, binding.bucket_name]),
    ),
    durableObjects: Object.fromEntries(
      bindingsOf(worker, "durable_object_namespace", objectBindingSchema).map(({ name, class_name }) => [
        name,
        { className: class_name, useSQLite: worker.sqliteClasses.has(class_name) },
      ]),
    ),
    ratelimits: Object.fromEntries(
      bindingsOf(worker, "ratelimit", limitBindingSchema).map((binding) => [binding.name, binding]),
    ),
    analyticsEngineDatasets: Object.fromEntries(
      bindingsOf(worker, "analytics_engine", datasetBindingSchema).map(({ name, dataset }) => [name, { dataset }]),
    ),
  };
}

async function uploadOf(request: IncomingMessage, body: Buffer): Promise<Upload> {
  const headers = { "Content-Type": request.headers["content-type"] ?? "" };
  const form = await new Response(new Uint8Array(body), { headers }).formData();
  const modules: { name: string; contents: string }[] = [];
  for (const [name, part] of form) {
    if (typeof part !== "string" && /javascript\+module/.test(part.type)) {
      modules.push({ name, contents: await part.text() });
    }
  }
  return { metadata: metadataSchema.parse(JSON.parse(z.string().parse(form.get("metadata")))), modules };
}

function pageOf<T>(all: readonly T[], query: URLSearchParams): readonly T[] {
  const size = Number(query.get("per_page"));
  const first = (Number(query.get("page")) - 1) * size;
  return all.slice(first, first + size);
}

function bucketResult({ name, location }: Bucket): object {
  return { name, location: location?.toUpperCase(), creation_date: "2026-01-01T00:00:00.000Z" };
}

function queueResult(name: string): object {
  const totals = { producers: [], producers_total_count: 0, consumers: [], consumers_total_count: 0 };
  return { queue_id: name, queue_name: name, created_on: "2026-01-01", modified_on: "2026-01-01", ...totals };
}

function scriptResult({ name, migrationTag, versions }: Worker): object {
  return { id: name, tag: "a tag of the script", tags: [], migration_tag: migrationTag, etag: versions.at(-1)?.id };
}

function versionResult({ id, tag, vars, databaseIds }: Version): object {
  const bindings = [
    ...Object.entries(vars).map(([name, text]) => ({ name, type: "plain_text", text })),
    ...databaseIds.map((database) => ({ name: "DB", type: "d1", id: database })),
  ];
  return {
    id,
    number: 1,
    annotations: tag === undefined ? {} : { "workers/tag": tag },
    metadata: { created_on: "2026-01-01T00:00:00.000Z", author_email: "owner@example.com", source: "wrangler" },
    resources: { bindings, script: {}, script_runtime: {} },
  };
}

function deploymentsOf({ versions }: Worker, isSplit: boolean): object[] {
  const newest = versions.toReversed();
  return newest.map(({ id }, index) => ({
    id,
    source: "wrangler",
    strategy: "percentage",
    author_email: "owner@example.com",
    created_on: "2026-01-01T00:00:00.000Z",
    versions: isSplit
      ? newest.slice(index, index + 2).map((version) => ({ version_id: version.id, percentage: 50 }))
      : [{ version_id: id, percentage: 100 }],
  }));
}

/** The API shows no secret. */
function withoutText(binding: { readonly type: string; readonly [key: string]: unknown }): object {
  const { text: _text, ...rest } = binding;
  return binding.type === "secret_text" ? rest : binding;
}
