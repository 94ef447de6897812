import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { inject } from "vitest";
import type { Provided } from "./provided.ts";
import { type Bytes, utf8 } from "../support/client.ts";

/**
 * HTTP/1.1 over a bare socket, for what `fetch` hides: a body without a length, a length that is a lie, a client that
 * goes away, `Accept-Encoding: gzip` with the answer left as it came, paths that no URL parser lets through.
 */

export interface RawRequest {
  readonly method: string;
  /** Sent as it stands: neither encoded nor normalised. */
  readonly target: string;
  /** `Host`, `Connection: close` and the administrator's `Authorization` are added; nothing else is. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Bytes;
  /** `length` (the default) sends Content-Length; `chunked` sends Transfer-Encoding; `none` leaves both to `headers`. */
  readonly framing?: "length" | "chunked" | "none";
  /** bytes per chunk where `framing` is `chunked` */
  readonly chunkBytes?: number;
}

export class RawResponse {
  readonly status: number;
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** As it came over the wire, content coding included; only the transfer coding is taken off. */
  readonly body: Bytes;

  constructor(status: number, headers: readonly (readonly [string, string])[], body: Bytes) {
    this.status = status;
    this.headers = headers;
    this.body = body;
  }

  /** The first header of that name, else null. */
  header(name: string): string | null {
    return this.headers.find(([each]) => each.toLowerCase() === name.toLowerCase())?.[1] ?? null;
  }

  text(): string {
    return new TextDecoder().decode(this.body);
  }

  json(): unknown {
    return JSON.parse(this.text());
  }
}

/** One connection, for one exchange. */
export class RawConnection {
  readonly #socket: Socket;
  readonly #host: string;
  #received: Buffer = Buffer.alloc(0);
  #closed = false;
  #failure: Error | null = null;
  #wake: () => void = () => undefined;

  private constructor(socket: Socket, host: string) {
    this.#socket = socket;
    this.#host = host;
    socket.setNoDelay(true);
    socket.on("data", (data: Buffer) => {
      this.#received = Buffer.concat([this.#received, data]);
      this.#wake();
    });
    // A server may answer and close before it has read the whole request: what it said counts, the reset does not.
    socket.on("error", (error) => {
      this.#failure = error;
    });
    socket.on("close", () => {
      this.#closed = true;
      this.#wake();
    });
  }

  /** @throws Error where nobody listens */
  static async open(baseUrl: string): Promise<RawConnection> {
    const url = new URL(baseUrl);
    const secure = url.protocol === "https:";
    const port = url.port === "" ? (secure ? 443 : 80) : Number(url.port);
    const socket = await new Promise<Socket>((resolve, reject) => {
      const opened: Socket = secure
        ? connectTls({ host: url.hostname, port, servername: url.hostname }, () => resolve(opened))
        : connectPlain({ host: url.hostname, port }, () => resolve(opened));
      opened.once("error", reject);
    });
    return new RawConnection(socket, url.host);
  }

  /** The request line and headers. */
  head(method: string, target: string, headers: Readonly<Record<string, string>>): Bytes {
    const authorization: Provided["registryAuthorization"] = inject("registryAuthorization");
    const lines = Object.entries({
      Host: this.#host,
      Connection: "close",
      ...(authorization === null ? {} : { Authorization: authorization }),
      ...headers,
    });
    return new Uint8Array(
      Buffer.from(
        `${method} ${target} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`,
        "latin1",
      ),
    );
  }

  /** Resolves when the kernel has the bytes, or when the server has closed the connection. */
  async write(data: Bytes): Promise<void> {
    if (this.#closed || this.#socket.destroyed) return;
    await new Promise<void>((resolve) => {
      this.#socket.once("close", resolve);
      this.#socket.write(data, () => {
        this.#socket.removeListener("close", resolve);
        resolve();
      });
    });
  }

  /** Goes away at once, with a reset where bytes are on their way. */
  destroy(): void {
    this.#socket.destroy();
  }

  /**
   * Waits for the answer.
   * @throws Error where the connection closes without one
   */
  async response(method: string): Promise<RawResponse> {
    for (;;) {
      const parsed = parseResponse(this.#received, method, this.#closed);
      if (parsed !== null) {
        this.#socket.destroy();
        return parsed;
      }
      if (this.#closed) throw this.#failure ?? new Error("the connection was closed without an answer");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** One request and its answer on a connection of its own. A small one is a single write, so that no answer comes between. */
export async function rawRequest(baseUrl: string, request: RawRequest): Promise<RawResponse> {
  const connection = await RawConnection.open(baseUrl);
  const { body, framing = "length" } = request;
  const framingHeaders: Record<string, string> =
    body === undefined || framing === "none"
      ? {}
      : framing === "chunked"
        ? { "Transfer-Encoding": "chunked" }
        : { "Content-Length": String(body.length) };
  const head = connection.head(request.method, request.target, { ...framingHeaders, ...request.headers });
  const pieces =
    body === undefined ? [] : framing === "chunked" ? chunksOf(body, request.chunkBytes ?? 64 * 1024) : [body];
  if ((body?.length ?? 0) <= SINGLE_WRITE_MAX_BYTES) await connection.write(join([head, ...pieces]));
  else for (const piece of [head, ...pieces]) await connection.write(piece);
  return connection.response(request.method);
}

const SINGLE_WRITE_MAX_BYTES = 64 * 1024;

function chunksOf(body: Bytes, chunkBytes: number): readonly Bytes[] {
  const count = Math.ceil(body.length / chunkBytes);
  const chunks = Array.from({ length: count }, (_, index) =>
    encodeChunk(body.subarray(index * chunkBytes, (index + 1) * chunkBytes)),
  );
  return [...chunks, encodeChunk(new Uint8Array(0))];
}

/** One chunk of Transfer-Encoding: chunked; an empty one ends the body. */
export function encodeChunk(data: Bytes): Bytes {
  return join([utf8(`${data.length.toString(16)}\r\n`), data, utf8("\r\n")]);
}

function join(pieces: readonly Bytes[]): Bytes {
  return new Uint8Array(Buffer.concat(pieces));
}

/** The path and query of a `Location`, for the request line. */
export function targetOf(baseUrl: string, location: string, query: Readonly<Record<string, string>> = {}): string {
  const url = new URL(location, `${baseUrl}/`);
  for (const [key, value] of Object.entries(query)) url.searchParams.append(key, value);
  return url.pathname + url.search;
}

/** @returns null while the answer is not there in full */
function parseResponse(received: Buffer, method: string, closed: boolean): RawResponse | null {
  const end = received.indexOf("\r\n\r\n");
  if (end < 0) return null;
  const [statusLine = "", ...lines] = received.subarray(0, end).toString("latin1").split("\r\n");
  const status = Number(statusLine.split(" ")[1]);
  const rest = received.subarray(end + 4);
  // 1xx: the answer proper comes after it.
  if (status >= 100 && status < 200) return parseResponse(rest, method, closed);
  const headers = lines.map((line): readonly [string, string] => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1).trim()];
  });
  const value = (name: string): string | undefined => headers.find(([each]) => each.toLowerCase() === name)?.[1];
  const answer = (body: Buffer): RawResponse => new RawResponse(status, headers, new Uint8Array(body));
  if (method === "HEAD" || status === 204 || status === 304) return answer(Buffer.alloc(0));
  if (value("transfer-encoding")?.toLowerCase() === "chunked") {
    const body = joinChunks(rest);
    return body === null ? null : answer(body);
  }
  const length = value("content-length");
  if (length !== undefined) return rest.length < Number(length) ? null : answer(rest.subarray(0, Number(length)));
  return closed ? answer(rest) : null;
}

/** @returns null while the last chunk is not there */
function joinChunks(encoded: Buffer): Buffer | null {
  const pieces: Buffer[] = [];
  let at = 0;
  for (;;) {
    const lineEnd = encoded.indexOf("\r\n", at);
    if (lineEnd < 0) return null;
    const size = Number.parseInt(encoded.subarray(at, lineEnd).toString("latin1"), 16);
    const start = lineEnd + 2;
    if (encoded.length < start + size + 2) return null;
    if (size === 0) return Buffer.concat(pieces);
    pieces.push(encoded.subarray(start, start + size));
    at = start + size + 2;
  }
}
