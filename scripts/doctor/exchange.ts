/** One HTTP request, on a connection of its own, and the answer as it came: nothing is decoded, followed or asked again. */
import http, { type IncomingHttpHeaders } from "node:http";
import https from "node:https";
import { TLSSocket } from "node:tls";
import { isSystemError } from "../state-folder.ts";

/** A body that is made while it is sent. */
export interface Streamed {
  readonly lengthBytes: number;
  chunks(): Iterable<Uint8Array>;
}

export interface ExchangeRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | Streamed;
}

export interface ExchangeOptions {
  /** How long nothing may happen while a body is sent; then how long the whole answer may take. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Takes any certificate: for a request that says nothing that others may not hear. */
  readonly unverified?: boolean;
}

export interface Answer {
  readonly url: URL;
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** The connection ended before the body did. */
  readonly isCut: boolean;
  /** ms since 1970, by this machine's clock */
  readonly sentAtMs: number;
  readonly answeredAtMs: number;
  readonly tls: TlsFacts | null;
}

export interface TlsFacts {
  /** such as TLSv1.3 */
  readonly protocol: string;
  /** OpenSSL's or Node's code for what is wrong with the certificate; null: it is trusted */
  readonly refusal: string | null;
  readonly names: string;
  readonly issuer: string;
  /** ms since 1970 */
  readonly validFromMs: number;
  readonly validToMs: number;
}

/** No answer came. */
export class Unanswered extends Error {
  readonly seen: string;
  readonly mend: string;

  constructor(seen: string, mend: string, options: ErrorOptions = {}) {
    super(seen, options);
    this.seen = seen;
    this.mend = mend;
  }
}

/** The user has had enough. */
export class Interrupted extends Error {}

/** An answer that has more is none that is asked for here. */
const bodyMaxBytes = 32 * 1024 * 1024;

/**
 * @throws Unanswered
 * @throws Interrupted by the signal
 */
export function exchange(request: ExchangeRequest, options: ExchangeOptions): Promise<Answer> {
  return new Promise((resolve, reject) => send(request, options, resolve, reject));
}

function send(
  request: ExchangeRequest,
  options: ExchangeOptions,
  resolve: (answer: Answer) => void,
  reject: (reason: Unanswered | Interrupted) => void,
): void {
  const { url, method, body } = request;
  const { timeoutMs, signal } = options;
  const sentAtMs = Date.now();
  const lengthBytes = body === undefined ? 0 : body instanceof Uint8Array ? body.byteLength : body.lengthBytes;
  const mayHaveBody = !["GET", "HEAD", "DELETE"].includes(method);
  const headers = { ...request.headers, ...(mayHaveBody ? { "Content-Length": String(lengthBytes) } : {}) };
  const { request: open } = url.protocol === "https:" ? https : http;
  const agent = agentFor(url);
  const outgoing = open(url, {
    method,
    headers,
    agent,
    rejectUnauthorized: options.unverified !== true,
    ...(signal === undefined ? {} : { signal }),
  });
  const late = silent(url, timeoutMs);
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    outgoing.destroy(late);
  }, timeoutMs);
  const finish = (): void => {
    clearTimeout(timer);
    agent.destroy();
  };

  let isAnswered = false;
  outgoing.on("error", (error) => {
    // A server may refuse a body and go before it has read it: its answer counts.
    if (isAnswered) return;
    finish();
    reject(signal?.aborted === true ? new Interrupted() : explain(url, error, lengthBytes));
  });
  outgoing.on("response", (response) => {
    isAnswered = true;
    timer.refresh();
    const answeredAtMs = Date.now();
    const tls = response.socket instanceof TLSSocket ? factsOf(response.socket) : null;
    const pieces: Buffer[] = [];
    let received = 0;
    response.on("data", (piece: Buffer) => {
      received += piece.byteLength;
      pieces.push(piece);
      if (received > bodyMaxBytes) response.destroy();
    });
    // What broke it off is told by what is missing.
    response.on("error", () => {});
    response.on("close", () => {
      finish();
      outgoing.destroy();
      if (signal?.aborted === true) reject(new Interrupted());
      if (isLate) reject(late);
      resolve({
        url,
        status: response.statusCode ?? 0,
        headers: response.headers,
        body: Buffer.concat(pieces),
        isCut: !response.complete,
        sentAtMs,
        answeredAtMs,
        tls,
      });
    });
  });
  if (body === undefined) outgoing.end();
  else void sendAll(outgoing, body instanceof Uint8Array ? piecesOf(body) : body.chunks(), () => isAnswered, timer);
}

async function sendAll(
  outgoing: http.ClientRequest,
  chunks: Iterable<Uint8Array>,
  isAnswered: () => boolean,
  timer: NodeJS.Timeout,
): Promise<void> {
  for (const chunk of chunks) {
    if (isAnswered() || outgoing.destroyed) return;
    timer.refresh();
    if (!outgoing.write(chunk)) await roomIn(outgoing);
  }
  timer.refresh();
  outgoing.end();
}

const pieceBytes = 64 * 1024;

/** Each piece that goes out shows that the connection is alive. */
function* piecesOf(body: Uint8Array): Iterable<Uint8Array> {
  for (let start = 0; start < body.byteLength; start += pieceBytes) yield body.subarray(start, start + pieceBytes);
}

/** Also where nothing more is to be sent. */
function roomIn(outgoing: http.ClientRequest): Promise<void> {
  return new Promise((resolve) => {
    const events = ["drain", "close", "response"];
    const listener = (): void => {
      for (const event of events) outgoing.off(event, listener);
      resolve();
    };
    for (const event of events) outgoing.on(event, listener);
  });
}

/**
 * Of one connection: what happened to it says nothing of the next. It offers to be kept open, as clients do: who refuses
 * a body may then let it come to its end, and is heard. A proxy is used where Node was told to.
 */
function agentFor({ protocol }: URL): http.Agent {
  const options = { keepAlive: true, ...(process.env["NODE_USE_ENV_PROXY"] === "1" ? { proxyEnv: process.env } : {}) };
  return protocol === "https:" ? new https.Agent(options) : new http.Agent(options);
}

function factsOf(socket: TLSSocket): TlsFacts {
  const certificate = socket.getPeerCertificate();
  // Its type says Error; Node puts the code there.
  const refusal: unknown = socket.authorizationError;
  return {
    protocol: socket.getProtocol() ?? "unknown",
    refusal: socket.authorized ? null : refusal instanceof Error ? refusal.message : String(refusal),
    names: certificate.subjectaltname?.replaceAll(/(?:DNS|IP Address):/g, "") ?? String(certificate.subject.CN),
    issuer: [certificate.issuer.O, certificate.issuer.CN].filter((name) => name !== undefined).join(" "),
    validFromMs: Date.parse(certificate.valid_from),
    validToMs: Date.parse(certificate.valid_to),
  };
}

/** undefined where the body is none. */
export function jsonIn({ body }: Pick<Answer, "body">): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    return undefined;
  }
}

function silent({ host }: URL, timeoutMs: number): Unanswered {
  return new Unanswered(
    `${host} did not answer within ${String(timeoutMs / 1000)} s`,
    "look into the registry's log, and that of any proxy before it, for what it waits for; --timeout gives it longer",
  );
}

/** @param lengthBytes of the body that was sent, or should have been */
function explain(url: URL, error: Error, lengthBytes: number): Unanswered {
  if (error instanceof Unanswered) return error;
  const code = "code" in error ? String(error.code) : "";
  const cause = { cause: error };
  const { host } = url;
  switch (code) {
    case "ECONNREFUSED":
      return new Unanswered(`nobody listens at ${host}`, "start the registry, or mend the address or its port", cause);
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return new Unanswered(`the name ${url.hostname} has no address`, "mend the name, or its DNS record", cause);
    case "ECONNRESET":
    case "EPIPE":
      return lengthBytes === 0
        ? new Unanswered(
            `${host} closed the connection without an answer`,
            "look into the log of the registry, and of any proxy before it",
            cause,
          )
        : new Unanswered(
            `${host} closed the connection while a body of ${String(lengthBytes)} bytes was sent`,
            "where it takes smaller ones, something before the registry bounds them: raise its limit, or push through npx moorage relay",
            cause,
          );
    case "EPROTO":
    case "ERR_SSL_WRONG_VERSION_NUMBER":
    case "ERR_SSL_PACKET_LENGTH_TOO_LONG":
      return new Unanswered(
        `${host} does not speak TLS 1.2 or later`,
        "if it speaks HTTP alone, name it by http://",
        cause,
      );
    default:
      return new Unanswered(
        `${host} can't be reached: ${isSystemError(error) || code !== "" ? error.message : String(error)}`,
        "look at the address, and whether a proxy or a firewall is between",
        cause,
      );
  }
}
