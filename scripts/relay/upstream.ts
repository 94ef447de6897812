/** The registry that is relayed to: one request at a time, over connections that are kept. */
import http, { type ClientRequest, type IncomingMessage } from "node:http";
import https from "node:https";
import { endToEnd, type Field, outgoing, valueOf } from "./headers.ts";

/** Longest answer that is read whole: what a registry says to a chunk, or of a token. */
const ANSWER_BYTES_MAX = 256 * 1024;
/** Written at a time: TLS makes a second copy of what it is given. */
const SLICE_BYTES = 256 * 1024;
/** Long tokens are common. */
export const HEADER_BYTES_MAX = 64 * 1024;

/** A server ends connections that are idle; one that is not kept for long is seldom found ended. */
const IDLE_CONNECTION_MS = 10_000;

/** An answer, read to its end. */
export interface Answer {
  readonly status: number;
  readonly message: string;
  readonly fields: readonly Field[];
  readonly body: Buffer;
}

/** No answer: the connection could not be had, or broke, or nothing moved on it. */
export class Broken extends Error {}

/** Nothing moved for as long as is waited. */
export class Silent extends Broken {
  constructor(silentMs: number) {
    super(`nothing moved for ${String(Math.ceil(silentMs / 1000))} s`);
  }
}

/** Those that another try may end: 408, 425, 429, and what servers and the proxies before them say of themselves. */
export function isTransient(status: number): boolean {
  return status === 408 || status === 425 || status === 429 || (status >= 500 && status !== 501 && status !== 505);
}

/** An answer that was passed on, and broke in the middle. */
export class BrokenOff extends Broken {
  constructor(cause: Error) {
    super("the answer broke off", { cause });
  }
}

export interface Question {
  readonly method: string;
  readonly url: URL;
  readonly fields: readonly Field[];
  /** Held for as long as the request lasts. */
  readonly body: readonly Buffer[];
  /** How long nothing may move, ms. */
  readonly silentMs: number;
  readonly signal: AbortSignal;
  /** Told after bytes of the body have left. */
  readonly onSent?: (bytes: number) => void;
}

export class Upstream {
  readonly origin: URL;
  readonly #http = new http.Agent({ keepAlive: true, timeout: IDLE_CONNECTION_MS });
  readonly #https = new https.Agent({ keepAlive: true, timeout: IDLE_CONNECTION_MS });

  constructor(origin: URL) {
    this.origin = origin;
  }

  /** Begins a request, whose body and answer are the caller's to stream. */
  open(method: string, url: URL, fields: readonly Field[], signal: AbortSignal): ClientRequest {
    const isSecure = url.protocol === "https:";
    return (isSecure ? https : http).request(url, {
      method,
      headers: outgoing(fields),
      agent: isSecure ? this.#https : this.#http,
      maxHeaderSize: HEADER_BYTES_MAX,
      signal,
    });
  }

  /**
   * @throws Broken
   * @throws the signal's reason
   */
  async ask({ method, url, fields, body, silentMs, signal, onSent }: Question): Promise<Answer> {
    const stop = new AbortController();
    const request = this.open(method, url, fields, AbortSignal.any([signal, stop.signal]));
    const timer = setTimeout(() => {
      stop.abort(new Silent(silentMs));
    }, silentMs);
    try {
      const answered = responseOf(request);
      // It may come before all is sent, and is then all that counts.
      await Promise.race([answered, send(request, body, () => timer.refresh(), onSent)]);
      const response = await answered;
      timer.refresh();
      const bytes = await readWhole(response, () => timer.refresh());
      return {
        status: response.statusCode ?? 0,
        message: response.statusMessage ?? "",
        fields: endToEnd(response.rawHeaders),
        body: bytes,
      };
    } catch (error) {
      signal.throwIfAborted();
      throw brokenBy(error, stop.signal);
    } finally {
      clearTimeout(timer);
      // After a whole answer to a whole request this does nothing, and the connection is kept.
      if (!request.writableFinished) request.destroy();
    }
  }

  close(): void {
    this.#http.destroy();
    this.#https.destroy();
  }
}

export function responseOf(request: ClientRequest): Promise<IncomingMessage> {
  const response = new Promise<IncomingMessage>((resolve, reject) => {
    request.once("response", resolve).once("error", reject);
    request.once("close", () => reject(new Broken("the connection was closed")));
  });
  // Whoever asked may have failed before it looks here.
  response.catch(() => {});
  return response;
}

async function send(
  request: ClientRequest,
  body: readonly Buffer[],
  moved: () => void,
  onSent: (bytes: number) => void = () => {},
): Promise<void> {
  for (const buffer of body) {
    for (let at = 0; at < buffer.length; at += SLICE_BYTES) {
      const slice = buffer.subarray(at, at + SLICE_BYTES);
      await new Promise<void>((resolve, reject) => {
        request.write(slice, (error) => (error instanceof Error ? reject(error) : resolve()));
      });
      moved();
      onSent(slice.length);
    }
  }
  request.end();
}

async function readWhole(response: IncomingMessage, moved: () => void): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const read of response) {
    const piece: unknown = read;
    if (!Buffer.isBuffer(piece)) throw new TypeError("a body is read as bytes");
    moved();
    bytes += piece.length;
    if (bytes > ANSWER_BYTES_MAX) throw new Broken("the answer is too long to be a registry's");
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

/** Why a request had no answer. @param stopped what was given up for its silence, which says so itself */
export function brokenBy(error: unknown, stopped: AbortSignal): Broken {
  if (stopped.reason instanceof Broken) return stopped.reason;
  return error instanceof Broken ? error : new Broken(reasonOf(error), { cause: error });
}

/** What a person can do something with, such as the name that was not found. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Of several addresses, each has failed in its way.
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  return error.message === "" ? error.name : error.message;
}

/** A token, or whatever else the client proves itself by. */
export function authorizationOf(fields: readonly Field[]): string | null {
  return valueOf(fields, "authorization");
}
