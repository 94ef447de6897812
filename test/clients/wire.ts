import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, request } from "node:http";
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { Transform } from "node:stream";
import type { TransformCallback } from "node:stream";
import { pipeline } from "node:stream/promises";

/** A request that a client made and what the registry answered. */
export interface Exchange {
  readonly method: string;
  /** path and query, as the client sent them */
  readonly path: string;
  readonly requestHeaders: IncomingHttpHeaders;
  /** of a request that brings a form: what a client asks /token by POST */
  readonly form: URLSearchParams;
  readonly status: number;
  readonly responseHeaders: IncomingHttpHeaders;
}

/** Which request. */
export interface Asked {
  readonly method: string;
  readonly path: RegExp;
}

/** Which connection to break, once. */
export interface Fault extends Asked {
  readonly method: "GET" | "PATCH" | "PUT";
  /** bytes of the body (a GET's answer, else the request's) that still pass */
  readonly afterBytes: number;
}

/**
 * A reverse proxy before a registry that writes down what a client asks, and breaks a connection where a test wants
 * to see the client go on. On the way it does no more than Cloudflare's edge: it says where the client is. That is
 * another address for each wire, so the failed logins of one test brake no other.
 */
export interface Wire {
  readonly host: string;
  readonly exchanges: readonly Exchange[];
  /** How many connections were broken. */
  readonly broken: number;
  breakOnce(fault: Fault): void;
  /**
   * Ends all tokens that the client has by the first request that matches, as their time would: what it goes on to send
   * with them is no token of the registry's, which answers that as it answers one that has ended.
   */
  endTokensAt(request: Asked): void;
  close(): Promise<void>;
}

export async function openWire(registryUrl: string): Promise<Wire> {
  const clientAddress = randomAddress();
  const exchanges: Exchange[] = [];
  const faults = new Set<Fault>();
  const ends = new Set<Asked>();
  const bearers = new Set<string>();
  const ended = new Set<string>();
  let broken = 0;

  async function forward(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { method = "GET", url: path = "/", socket } = incoming;
    const fault = [...faults].find((each) => each.method === method && each.path.test(path));
    // A connection for each request: one that the registry has closed meanwhile would look like a fault of its own.
    const headers = { ...incoming.headers, "cf-connecting-ip": clientAddress };
    const { authorization = "" } = incoming.headers;
    if (/^bearer /i.test(authorization)) bearers.add(authorization);
    const end = [...ends].find((each) => each.method === method && each.path.test(path));
    if (end !== undefined && ends.delete(end)) for (const bearer of bearers) ended.add(bearer);
    if (ended.has(authorization)) headers.authorization = `${authorization}ended`;
    const upstream = request(new URL(path, registryUrl), { method, headers, agent: false });
    const limit = (applies: boolean): Transform =>
      new Limit(applies && fault !== undefined ? fault.afterBytes : Infinity, () => {
        // Shorter bodies pass whole, and of several longer ones at once only the first is cut.
        if (fault === undefined || !faults.delete(fault)) return false;
        broken += 1;
        // What passed before has to reach the other side first: a torn connection discards what is on its way.
        setImmediate(() => {
          socket.destroy();
          upstream.destroy();
        });
        return true;
      });
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      upstream.on("response", resolve).on("error", reject);
    });
    const body = limit(method !== "GET");
    // The registry may answer before it has read the body, and close: the client still has to get that answer, so
    // what it goes on to send is read to nowhere. (`pipeline` would tear the client's connection instead.)
    upstream.on("error", () => body.unpipe(upstream).resume());
    const formText: Buffer[] = [];
    if (isForm(incoming)) body.on("data", (chunk: Buffer) => formText.push(chunk));
    incoming.pipe(body).pipe(upstream);
    const answer = await answered;
    exchanges.push({
      method,
      path,
      requestHeaders: incoming.headers,
      form: new URLSearchParams(Buffer.concat(formText).toString()),
      status: answer.statusCode ?? 0,
      responseHeaders: answer.headers,
    });
    outgoing.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
    await pipeline(answer, limit(method === "GET"), outgoing);
  }

  const server = createServer((incoming, outgoing) => {
    forward(incoming, outgoing).catch(() => {
      outgoing.destroy();
    });
  });
  server.listen(0, "localhost");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new TypeError("a port was expected");
  return {
    host: `localhost:${String(address.port)}`,
    exchanges,
    get broken() {
      return broken;
    },
    breakOnce(fault) {
      faults.add(fault);
    },
    endTokensAt(wanted) {
      ends.add(wanted);
    },
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** The digests of the blobs that were mounted rather than sent (end-11, answered 201). */
export function mountedDigests(wire: Wire): string[] {
  return wire.exchanges
    .filter(({ method, status, path }) => method === "POST" && status === 201 && path.includes("mount="))
    .map(({ path }) => new URL(path, "http://localhost").searchParams.get("mount") ?? "");
}

/** The requests that would have used a blob of a repository for another, and were not let: to look at it, or to mount it. */
export function refusedUses(wire: Wire, source: string): Exchange[] {
  return wire.exchanges.filter(({ method, path, status }) => {
    const looks = method === "HEAD" && path.startsWith(`/v2/${source}/blobs/`) && (status === 401 || status === 403);
    const from = new URL(path, "http://localhost").searchParams.get("from");
    const mounts = method === "POST" && from === source && status !== 201;
    return looks || mounts;
  });
}

/** The requests with a method whose path matches. */
export function requests(wire: Wire, method: string, path: RegExp): Exchange[] {
  return wire.exchanges.filter((exchange) => exchange.method === method && path.test(exchange.path));
}

/** The repositories of each token that a client asked for and was given: two, where it mounts. */
export function repositoriesOfTokens(wire: Wire): string[][] {
  return tokenRequests(wire)
    .filter(({ status }) => status === 200)
    .map(({ method, path, form }) => {
      const asked = method === "POST" ? form : new URL(path, "http://localhost").searchParams;
      const scopes = asked.getAll("scope").flatMap((scope) => scope.split(" "));
      return scopes.map((scope) => scope.replace(/^repository:/, "").replace(/:[a-z,*]+$/, ""));
    });
}

/** What a client asked of /token. */
export function tokenRequests(wire: Wire): Exchange[] {
  return wire.exchanges.filter(({ path }) => path.startsWith("/token"));
}

/** What a client was let do that changes what the registry holds, after the first so many exchanges. */
export function acceptedChanges(wire: Wire, after = 0): string[] {
  return wire.exchanges
    .slice(after)
    .filter(({ method, path, status }) => changing.has(method) && !path.startsWith("/token") && status < 400)
    .map(({ method, path, status }) => `${method} ${path}: ${String(status)}`);
}

const changing = new Set(["POST", "PUT", "PATCH", "DELETE"]);

function isForm({ headers }: IncomingMessage): boolean {
  return headers["content-type"]?.startsWith("application/x-www-form-urlencoded") ?? false;
}

/** One that nobody has: RFC 3849 keeps the prefix for examples. The registry counts by the first 64 bits. */
function randomAddress(): string {
  const groups = randomBytes(4).toString("hex").match(/.{4}/g) ?? [];
  return `2001:db8:${groups.join(":")}::1`;
}

/** Passes bytes up to a limit, where it asks once whether to cut. */
class Limit extends Transform {
  #left: number;
  readonly #cut: () => boolean;

  constructor(bytes: number, cut: () => boolean) {
    super();
    this.#left = bytes;
    this.#cut = cut;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    if (chunk.length > this.#left) {
      if (this.#cut()) {
        this.push(chunk.subarray(0, this.#left));
        // The stream stays unfinished: the connection goes before its end.
        return;
      }
      this.#left = Infinity;
    }
    this.#left -= chunk.length;
    done(null, chunk);
  }
}
