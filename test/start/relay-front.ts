/**
 * What stands before a registry on Cloudflare, as far as uploads see it: bodies over the plan's limit are refused with a
 * page of HTML, and connections break. It passes `Host` on, so that the registry takes its name for its own.
 */
import { once } from "node:events";
import http, { type IncomingHttpHeaders, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import https from "node:https";
import { Transform, type TransformCallback } from "node:stream";
import type { Certificate } from "./doctor-certificate.ts";

/** A request that came, and what became of it. */
export interface Seen {
  readonly method: string;
  /** path and query */
  readonly target: string;
  readonly headers: IncomingHttpHeaders;
  /** of its body, that passed */
  bytes: number;
  /** null: it was not answered */
  status: number | null;
}

/** One request that is to go wrong, among those that match. */
export interface Fault {
  readonly method: string;
  readonly target?: RegExp;
  /** The connection breaks after so many bytes of the body, or once the registry has answered. */
  readonly at: number | "answer";
  /** The registry's answer is exchanged for one of this status, and the connection stays. */
  readonly status?: number;
  /** Not before so many bytes of bodies have passed in all. */
  readonly after?: number;
}

export interface FrontOptions {
  readonly limitBytes?: number;
  readonly certificate?: Certificate;
  /** 0: any free one */
  readonly port?: number;
}

/** Cloudflare's, in bytes, on its smallest plans. */
export const bodyLimitBytes = 100_000_000;

const page = "<html><head><title>413 Payload Too Large</title></head><body>cloudflare</body></html>";

export class Front {
  readonly url: string;
  readonly host: string;
  readonly seen: Seen[] = [];
  /** How many connections were broken. */
  broken = 0;
  /** How many connections were made to it. */
  connections = 0;
  readonly #watchers = new Set<() => void>();
  /** Each request with a token that came before is answered as one whose time is over. */
  readonly #ended = new Set<string>();
  readonly #registry: URL;
  readonly #limitBytes: number;
  readonly #server: Server | https.Server;
  readonly #faults: Fault[] = [];

  private constructor(registry: string, limitBytes: number, server: Server | https.Server, url: string) {
    this.#registry = new URL(registry);
    this.#limitBytes = limitBytes;
    this.#server = server;
    this.url = url;
    this.host = new URL(url).host;
  }

  /** @param registry its URL */
  static async open(registry: string, options: FrontOptions = {}): Promise<Front> {
    const { certificate, limitBytes = bodyLimitBytes, port = 0 } = options;
    const server = certificate === undefined ? http.createServer() : https.createServer({ ...certificate });
    server.requestTimeout = 0;
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    if (address === null || typeof address === "string") throw new TypeError("a TCP server has an address with a port");
    const url = `${certificate === undefined ? "http" : "https"}://localhost:${String(address.port)}`;
    const front = new Front(registry, limitBytes, server, url);
    server.on("connection", () => {
      front.connections += 1;
    });
    server.on("request", (incoming: IncomingMessage, outgoing: ServerResponse) => {
      front.#serve(incoming, outgoing).catch(() => outgoing.destroy());
    });
    return front;
  }

  break(...faults: readonly Fault[]): void {
    this.#faults.push(...faults);
  }

  /** The faults that no request has met yet. */
  get left(): number {
    return this.#faults.length;
  }

  /** Resolves once a request of that method has come. */
  async saw(method: string): Promise<void> {
    while (this.of(method).length === 0) {
      await new Promise<void>((resolve) => {
        this.#watchers.add(resolve);
      });
    }
  }

  /** Ends every token that has come. */
  endTokens(): void {
    for (const { headers } of this.seen) {
      if (headers.authorization?.startsWith("Bearer ") === true) this.#ended.add(headers.authorization);
    }
  }

  of(method: string, target = /./): Seen[] {
    return this.seen.filter((each) => each.method === method && target.test(each.target));
  }

  async close(): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, "close");
  }

  async #serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { method = "GET", url: target = "/", headers } = incoming;
    const seen: Seen = { method, target, headers: { ...headers }, bytes: 0, status: null };
    this.seen.push(seen);
    for (const watcher of this.#watchers) watcher();
    this.#watchers.clear();
    if (Number(headers["content-length"] ?? 0) > this.#limitBytes) {
      // What comes is read to nowhere, so that the answer is read.
      incoming.resume();
      this.#refuse(seen, outgoing);
      return;
    }
    const fault = this.#takeFault(method, target);
    const ended = this.#ended.has(headers.authorization ?? "");
    const upstream = http.request(new URL(target, this.#registry), {
      method,
      headers: ended ? { ...headers, authorization: "Bearer ended" } : headers,
      agent: false,
    });
    const cut = (): void => {
      this.broken += 1;
      outgoing.destroy();
      upstream.destroy();
    };
    const body = new Meter((bytes) => {
      seen.bytes += bytes;
      if (seen.bytes > this.#limitBytes) {
        upstream.destroy();
        incoming.unpipe(body).resume();
        this.#refuse(seen, outgoing);
      } else if (typeof fault?.at === "number" && seen.bytes >= fault.at) {
        // What has passed reaches the registry, as most of it would; the rest of this piece goes too.
        setImmediate(cut);
        return false;
      }
      return seen.bytes <= this.#limitBytes;
    });
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      upstream.once("response", resolve).on("error", reject);
    });
    // The registry may answer before it has read all, and close.
    upstream.on("error", () => body.unpipe(upstream).resume());
    incoming.once("error", () => upstream.destroy());
    outgoing.once("close", () => upstream.destroy());
    incoming.pipe(body).pipe(upstream);
    const answer = await answered.catch((error: unknown) => {
      if (seen.status === 413) return null;
      throw error;
    });
    if (answer === null) return;
    if (fault?.at === "answer") {
      if (fault.status === undefined) cut();
      else outgoing.writeHead(fault.status).end();
      return;
    }
    if (typeof fault?.at === "number") this.#faults.push(fault);
    seen.status = answer.statusCode ?? null;
    outgoing.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
    answer.once("error", () => outgoing.destroy());
    answer.pipe(outgoing);
  }

  #refuse(seen: Seen, outgoing: ServerResponse): void {
    seen.status = 413;
    outgoing.writeHead(413, { "Content-Type": "text/html", "Content-Length": page.length });
    outgoing.end(page);
  }

  #takeFault(method: string, target: string): Fault | undefined {
    const passed = this.seen.reduce((sum, { bytes }) => sum + bytes, 0);
    const at = this.#faults.findIndex(
      (fault) => fault.method === method && (fault.target?.test(target) ?? true) && passed >= (fault.after ?? 0),
    );
    return at === -1 ? undefined : this.#faults.splice(at, 1)[0];
  }
}

/** Counts what passes, until it is told to stop. */
class Meter extends Transform {
  readonly #count: (bytes: number) => boolean;
  #passes = true;

  constructor(count: (bytes: number) => boolean) {
    super();
    this.#count = count;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    if (!this.#passes) return;
    this.#passes = this.#count(chunk.length);
    // A stream that is stopped never ends: the connection goes before.
    if (this.#passes) done(null, chunk);
    else this.push(chunk);
  }
}
