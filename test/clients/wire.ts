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
  readonly status: number;
  readonly responseHeaders: IncomingHttpHeaders;
}

/** Which connection to break, once. */
export interface Fault {
  readonly method: "GET" | "PATCH" | "PUT";
  readonly path: RegExp;
  /** bytes of the body (a GET's answer, else the request's) that still pass */
  readonly afterBytes: number;
}

/**
 * A reverse proxy before a registry that writes down what a client asks, and breaks a connection where a test wants
 * to see the client go on. Nothing is changed on the way.
 */
export interface Wire {
  readonly host: string;
  readonly exchanges: readonly Exchange[];
  /** How many connections were broken. */
  readonly broken: number;
  breakOnce(fault: Fault): void;
  close(): Promise<void>;
}

export async function openWire(registryUrl: string): Promise<Wire> {
  const exchanges: Exchange[] = [];
  const faults = new Set<Fault>();
  let broken = 0;

  async function forward(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { method = "GET", url: path = "/", socket } = incoming;
    const fault = [...faults].find((each) => each.method === method && each.path.test(path));
    // A connection for each request: one that the registry has closed meanwhile would look like a fault of its own.
    const upstream = request(new URL(path, registryUrl), { method, headers: incoming.headers, agent: false });
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
    incoming.pipe(body).pipe(upstream);
    const answer = await answered;
    exchanges.push({
      method,
      path,
      requestHeaders: incoming.headers,
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

/** The requests with a method whose path matches. */
export function requests(wire: Wire, method: string, path: RegExp): Exchange[] {
  return wire.exchanges.filter((exchange) => exchange.method === method && path.test(exchange.path));
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
