/** The management API of a registry, as the commands use it: answers are looked at before use. */
import { z } from "zod";
import { zodReason } from "../../src/oci/errors.ts";
import { Refusal } from "./refusal.ts";

/** What the user can do where the registry does not do what it is told, for messages. */
export interface Mends {
  /** It does not take the credentials. */
  readonly unauthorized: string;
  /** They do not suffice. */
  readonly denied: string;
}

/** An answer that has the form that was expected. */
export interface Answer<T> {
  readonly value: T;
  /** The JSON as it came, which may say more. */
  readonly body: unknown;
}

export interface Listed<T> {
  readonly entries: readonly T[];
  /** All pages as one. */
  readonly body: Readonly<Record<string, readonly unknown[]>>;
}

/** What a list is asked for beside its path. */
export interface ListQuery {
  /** Most entries in all; without it, all that there are. */
  readonly limit?: number;
  /** Most entries that the registry puts on a page. */
  readonly pageMax: number;
  readonly filter?: Readonly<Record<string, string | undefined>>;
}

type Method = "GET" | "POST" | "PATCH" | "DELETE";

/** A registry that takes longer over one request is not going to answer. */
const patienceMs = 60_000;

export class Api {
  readonly #registry: URL;
  readonly #authorization: string;
  readonly #mends: Mends;

  /**
   * @param registry its origin
   * @param authorization the value of the header
   */
  constructor(registry: URL, authorization: string, mends: Mends) {
    this.#registry = registry;
    this.#authorization = authorization;
    this.#mends = mends;
  }

  /**
   * @param path its parts, under /api/v1
   * @throws Refusal
   */
  get<T>(path: readonly string[], schema: z.ZodType<T>): Promise<Answer<T>> {
    return this.#ask("GET", this.#target(path), schema);
  }

  /** @throws Refusal */
  create<T>(path: readonly string[], value: object, schema: z.ZodType<T>): Promise<Answer<T>> {
    return this.#ask("POST", this.#target(path), schema, value);
  }

  /** @throws Refusal */
  change<T>(path: readonly string[], value: object, schema: z.ZodType<T>): Promise<Answer<T>> {
    return this.#ask("PATCH", this.#target(path), schema, value);
  }

  /** @throws Refusal */
  async remove(path: readonly string[]): Promise<void> {
    const response = await this.#send("DELETE", this.#target(path));
    if (response.status !== 204) throw this.#isNoRegistry(response);
  }

  /**
   * @param key of the entries, in each page
   * @throws Refusal
   */
  async list<T>(
    path: readonly string[],
    key: string,
    entry: z.ZodType<T>,
    { limit = Number.POSITIVE_INFINITY, pageMax, filter = {} }: ListQuery,
  ): Promise<Listed<T>> {
    const page = z.looseObject({ [key]: z.array(z.unknown()) }).transform((body) => body[key] ?? []);
    const values: unknown[] = [];
    const first = this.#target(path);
    for (const [name, value] of Object.entries({ ...filter, n: String(Math.min(limit, pageMax)) })) {
      if (value !== undefined) first.searchParams.set(name, value);
    }
    for (let target: URL | null = first; target !== null && values.length < limit;) {
      const response = await this.#send("GET", target);
      values.push(...(await this.#read(response, page)).value);
      target = this.#next(response, target);
    }
    const wanted = values.slice(0, limit);
    return { entries: this.#checked(wanted, z.array(entry)), body: { [key]: wanted } };
  }

  #target(path: readonly string[]): URL {
    return new URL(["/api/v1", ...path.map(encodeURIComponent)].join("/"), this.#registry);
  }

  /** RFC 8288; null where this is the last page. */
  #next(response: Response, from: URL): URL | null {
    const link = /^<([^>]+)>; rel="next"$/.exec(response.headers.get("Link") ?? "")?.[1];
    if (link === undefined || !URL.canParse(link, from.href)) return null;
    const next = new URL(link, from);
    // The password goes along: to this registry, and to nobody to whom it points.
    if (next.origin !== from.origin || next.pathname !== from.pathname) throw this.#isNoRegistry(response);
    return next;
  }

  async #ask<T>(method: Method, target: URL, schema: z.ZodType<T>, value?: object): Promise<Answer<T>> {
    return this.#read(await this.#send(method, target, value), schema);
  }

  async #read<T>(response: Response, schema: z.ZodType<T>): Promise<Answer<T>> {
    const body = await jsonOf(response);
    if (body === undefined) throw this.#isNoRegistry(response);
    return { value: this.#checked(body, schema), body };
  }

  #checked<T>(body: unknown, schema: z.ZodType<T>): T {
    const result = schema.safeParse(body);
    if (result.success) return result.data;
    throw new Refusal(
      `${this.#registry.origin} answers in a form that this version does not know (${zodReason(result.error)}): is it a Moorage of another version?`,
    );
  }

  /** @returns an answer of success */
  async #send(method: Method, target: URL, value?: object): Promise<Response> {
    const headers = { Authorization: this.#authorization, Accept: "application/json" };
    const body =
      value === undefined
        ? { headers }
        : { headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(value) };
    const signal = AbortSignal.timeout(patienceMs);
    const response = await fetch(target, { method, redirect: "manual", signal, ...body }).catch((error: unknown) => {
      throw this.#isOutOfReach(error);
    });
    if (!response.ok) throw await this.#refusal(response);
    return response;
  }

  async #refusal(response: Response): Promise<Refusal> {
    const location = response.headers.get("Location");
    if (response.status >= 300 && response.status < 400 && location !== null && URL.canParse(location, response.url)) {
      const { origin } = new URL(location, response.url);
      return new Refusal(`${this.#registry.origin} leads to ${origin}: if that is the registry, name it by --registry`);
    }
    const envelope = envelopeSchema.safeParse(await jsonOf(response));
    if (!envelope.success) return this.#isNoRegistry(response);
    const [{ code, detail }] = envelope.data.errors;
    const mend = mendOf(response, detail, this.#mends);
    return new Refusal(`${detail.reason} (${code})${mend === null ? "" : `; ${mend}`}`, { code });
  }

  #isNoRegistry(response: Response): Refusal {
    const type = response.headers.get("Content-Type") ?? "no content";
    return new Refusal(
      `${this.#registry.origin} is no Moorage: ${new URL(response.url).pathname} answers ${String(response.status)} with ${type}; name the registry by --registry`,
    );
  }

  #isOutOfReach(error: unknown): Refusal {
    const { origin } = this.#registry;
    if (!(error instanceof Error)) return new Refusal(`${origin}: ${String(error)}`, { cause: error });
    if (error.name === "TimeoutError") {
      return new Refusal(`${origin} did not answer within ${String(patienceMs / 1000)} s`, { cause: error });
    }
    const { cause } = error;
    const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
    const reason =
      code === "ECONNREFUSED"
        ? "nobody listens there; start a registry with npm start, or name another by --registry"
        : cause instanceof Error
          ? cause.message
          : error.message;
    return new Refusal(`${origin} can't be reached: ${reason}`, { cause: error });
  }
}

/** The envelope of distribution-spec v1.1.1 «Error Codes», with what this registry always says in `detail`. */
const envelopeSchema = z.object({
  errors: z.tuple(
    [
      z.object({
        code: z.string(),
        detail: z.looseObject({ reason: z.string(), requestId: z.string() }),
      }),
    ],
    z.unknown(),
  ),
});

/** undefined where it is none. */
async function jsonOf(response: Response): Promise<unknown> {
  if (!/^application\/json\b/i.test(response.headers.get("Content-Type") ?? "")) {
    await response.body?.cancel();
    return undefined;
  }
  try {
    return await response.json();
  } catch {
    return undefined;
  }
}

/** What the user can do about a refusal; null where its reason says all. */
function mendOf(response: Response, detail: Readonly<Record<string, unknown>>, mends: Mends): string | null {
  switch (response.status) {
    case 401:
      return mends.unauthorized;
    case 403:
      return mends.denied;
    case 404:
    case 409:
      return listOf(detail);
    case 503:
      return typeof detail["command"] === "string" ? `its owner mends that with: ${detail["command"]}` : null;
    default:
      return response.status >= 500 ? `its request id is ${String(detail["requestId"])}` : null;
  }
}

function listOf({ user, token, rule }: Readonly<Record<string, unknown>>): string | null {
  if (typeof token === "string") return `moorage token list ${String(user)} shows those that there are`;
  if (typeof rule === "string") return "moorage trust list shows those that there are";
  return typeof user === "string" ? "moorage user list shows those that there are" : null;
}
