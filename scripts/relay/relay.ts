/** A registry on this machine that is another one's: README.md. */
import http, { type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { OciError } from "../../src/oci/errors.ts";
import { isSystemError } from "../state-folder.ts";
import { bodyRefusal, sendAnswer, sendError, Translation } from "./answers.ts";
import {
  appendBody,
  beginUpload,
  fieldsOfUpload,
  finishUpload,
  GaveUp,
  isSuccess,
  type Patience,
  resolveLocation,
  type UploadContext,
} from "./append.ts";
import { refusalOf } from "./guard.ts";
import { type Field, lengthOf, valueOf, without } from "./headers.ts";
import { HeldBody } from "./held-body.ts";
import { fieldsForUpstream, hasBody, pass } from "./passage.ts";
import type { Progress } from "./progress.ts";
import { Realms } from "./realms.ts";
import { type Proof, Renewal } from "./renewal.ts";
import { repeatBroken } from "./repetition.ts";
import { newSession, type Session, Sessions } from "./sessions.ts";
import { type Answer, Broken, BrokenOff, HEADER_BYTES_MAX, Silent, Upstream } from "./upstream.ts";
import { FRAMES, Window } from "./window.ts";

export interface RelayOptions {
  /** The registry's origin. */
  readonly upstream: URL;
  /** A name or an address; localhost is both of loopback's. */
  readonly host: string;
  /** 0: any that is free */
  readonly port: number;
  /** The longest body that upstream takes, bytes. */
  readonly maxBodyBytes: number;
  readonly patience: Patience;
  readonly progress: Progress;
}

/** How long a client may say nothing while others wait for what it holds. */
const IDLE_MS = 10_000;
/** How long it may take to fill that, where upstream takes chunks of any length. */
const FILL_MS = 2000;
/** An upload that is passed on is given so many times the silence of a chunk: a registry may read a blob back. */
const UPLOAD_PATIENCE = 15;
const TOKEN_FORM_BYTES_MAX = 64 * 1024;
/** Bodies below have no bar: it would be gone before it is seen. */
const SHOWN_BYTES = 1_000_000;

/** Of a request that nobody gives up. */
const { signal: never } = new AbortController();

interface Exchange {
  readonly client: IncomingMessage;
  readonly response: ServerResponse;
  /** What is asked for, at upstream. */
  readonly url: URL;
  readonly fields: readonly Field[];
  readonly translation: Translation;
  readonly signal: AbortSignal;
}

/** One whose upload may outlast its token. */
interface Proven extends Exchange {
  readonly proof: Proof;
}

/** An answer that passed, and the upload that its request has begun if it was one that does. */
interface Noted {
  readonly status: number;
  readonly fields: readonly Field[];
  readonly begun: Session;
}

export class Relay {
  readonly #options: RelayOptions;
  readonly #upstream: Upstream;
  readonly #window: Window;
  readonly #sessions = new Sessions();
  readonly #realms: Realms;
  readonly #renewal: Renewal;
  readonly #servers: Server[] = [];

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#upstream = new Upstream(options.upstream);
    this.#window = new Window(options.maxBodyBytes);
    this.#realms = new Realms(options.upstream);
    this.#renewal = new Renewal((request) =>
      this.#upstream.ask({
        ...request,
        body: [request.body],
        silentMs: options.patience.silentMs,
        signal: never,
      }),
    );
  }

  /**
   * Asks upstream whether it is a registry (end-1), and where it gives tokens.
   * @returns its status
   * @throws Broken
   */
  async probe(): Promise<number> {
    const { upstream, patience } = this.#options;
    const { status, fields } = await this.#upstream.ask({
      method: "GET",
      url: new URL("/v2/", upstream),
      fields: [],
      body: [],
      silentMs: patience.silentMs,
      signal: never,
    });
    new Translation(upstream, this.#realms, upstream.host).fields(fields, upstream);
    return status;
  }

  /**
   * @returns the port
   * @throws Error with a code, of the system
   */
  async listen(): Promise<number> {
    const { host, port } = this.#options;
    if (host !== "localhost") return this.#listenAt(host, port);
    const bound = await this.#listenAt("127.0.0.1", port);
    await this.#listenAt("::1", bound).catch((error: unknown) => {
      // A machine without IPv6 has one loopback address.
      if (!["EADDRNOTAVAIL", "EAFNOSUPPORT"].some((code) => isSystemError(error, code))) throw error;
    });
    return bound;
  }

  async close(): Promise<void> {
    await Promise.all(
      this.#servers.map(
        (server) =>
          new Promise<void>((resolve) => {
            server.close(() => resolve());
            server.closeAllConnections();
          }),
      ),
    );
    this.#upstream.close();
  }

  #listenAt(host: string, port: number): Promise<number> {
    const server = http.createServer(
      {
        maxHeaderSize: HEADER_BYTES_MAX,
        // A layer takes as long as it takes.
        requestTimeout: 0,
        // Longer than clients keep a connection that they do not use: none is used just as it ends.
        keepAliveTimeout: 120_000,
      },
      (client, response) => void this.#serve(client, response),
    );
    this.#servers.push(server);
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, host, () => {
        const address = server.address();
        resolve(address === null || typeof address === "string" ? port : address.port);
      });
    });
  }

  async #serve(client: IncomingMessage, response: ServerResponse): Promise<void> {
    const { upstream, host, progress } = this.#options;
    const gone = new AbortController();
    response.once("close", () => {
      if (!response.writableFinished) gone.abort(new Error("the client went away"));
    });
    const target = client.url ?? "/";
    const repository = repositoryOf(target);
    try {
      const refusal = refusalOf(client.headers, host);
      if (refusal !== null) throw new OciError("DENIED", refusal);
      if (!target.startsWith("/")) throw new OciError("UNSUPPORTED", "a request names a path", { status: 400 });
      const exchange: Exchange = {
        client,
        response,
        url: new URL(upstream.origin + target),
        fields: fieldsForUpstream(client),
        translation: new Translation(upstream, this.#realms, client.headers.host ?? ""),
        signal: gone.signal,
      };
      await this.#relay(exchange, target);
    } catch (error) {
      // Where upstream broke in the middle of an answer, the client's connection was broken too, and not by the client.
      const isUpstreams = error instanceof BrokenOff || error instanceof Silent;
      if (!isUpstreams && (gone.signal.aborted || client.errored !== null)) {
        // Some do not read all of an answer that they have no use for: only of bytes it is worth a word.
        if (repository !== null && hasBody(client)) progress.troubled(repository, "the client went away", true);
        return;
      }
      const shown = this.#explain(error, repository);
      if (response.headersSent || response.destroyed) response.destroy();
      else await sendError(response, shown);
    }
  }

  #explain(error: unknown, repository: string | null): OciError {
    if (error instanceof OciError) return error;
    const { upstream, progress } = this.#options;
    const isKnown = error instanceof Broken || error instanceof GaveUp;
    const reason = isKnown ? `${upstream.origin}: ${error.message}` : "the relay failed";
    progress.troubled(repository ?? "a request", isKnown ? reason : stackOf(error), true);
    return new OciError(repository === null ? "UNSUPPORTED" : "BLOB_UPLOAD_INVALID", reason, {
      status: isKnown ? 502 : 500,
    });
  }

  async #relay(exchange: Exchange, target: string): Promise<void> {
    const { client, url } = exchange;
    const { method = "GET" } = client;
    const tokenUrl = method === "GET" || method === "POST" ? this.#realms.remote(target) : null;
    if (tokenUrl !== null) return this.#token({ ...exchange, url: tokenUrl });
    const isUpload = isUploadPath(url.pathname) || this.#sessions.find(url) !== null;
    const digest = digestOf(url);
    const isCut = isUpload && this.#isToBeCut(client);
    if (isCut && method === "PATCH") return this.#prove(exchange, false, (proven) => this.#patch(proven));
    if (isUpload && digest !== null) {
      if (isCut && method === "PUT") return this.#prove(exchange, false, (proven) => this.#put(proven, digest));
      if (isCut && method === "POST") return this.#prove(exchange, false, (proven) => this.#post(proven, digest));
      if (method === "PUT" && !hasBody(client)) {
        return this.#prove(exchange, true, (proven) => this.#finish(proven, url, digest, this.#sessionOf(url)));
      }
    }
    return this.#pass(exchange, isUpload);
  }

  /** One proof for all that becomes of a request: its token may end between two of upstream's. */
  async #prove(exchange: Exchange, isEnd: boolean, act: (proven: Proven) => Promise<void>): Promise<void> {
    const proof = this.#renewal.proofOf(exchange.fields, isEnd);
    try {
      await act({ ...exchange, proof });
    } finally {
      proof.release();
    }
  }

  /** Whether a body is longer than upstream takes, or nobody knows. */
  #isToBeCut({ headers }: IncomingMessage): boolean {
    if (headers["transfer-encoding"] !== undefined) return true;
    return (lengthOf(headers["content-length"]) ?? 0) > this.#options.maxBodyBytes;
  }

  /** end-5 */
  async #patch(exchange: Proven): Promise<void> {
    const { client, url } = exchange;
    const start = rangeStart(client.headers["content-range"]);
    const { answer } = await this.#append(exchange, url, this.#sessionOf(url), start);
    await this.#sendAppended(exchange, answer);
  }

  /** end-6 with the blob as its body. */
  async #put(exchange: Proven, digest: string): Promise<void> {
    const { client, url } = exchange;
    const session = this.#sessionOf(url);
    const bare = withoutDigest(url);
    const start = rangeStart(client.headers["content-range"]);
    const { answer, location } = await this.#append(exchange, bare, session, start);
    if (isSuccess(answer.status)) await this.#finish(exchange, withDigest(location, digest), digest, session);
    else await this.#sendAppended(exchange, answer);
  }

  /** end-4b, for which the relay begins an upload of its own. */
  async #post(exchange: Proven, digest: string): Promise<void> {
    const { url, response, translation } = exchange;
    const begin = withoutDigest(url);
    // end-4c of distribution-spec main: another algorithm is announced.
    if (!digest.startsWith("sha256:")) begin.searchParams.set("digest-algorithm", digest.split(":")[0] ?? "");
    const session = newSession({ repository: repositoryOf(url.pathname), offset: 0 });
    const context = this.#contextOf(exchange, session, () => {});
    const begun = await beginUpload(context, begin);
    const location = valueOf(begun.fields, "location");
    if (begun.status !== 202 || location === null) {
      await sendAnswer(response, begun, translation, url);
      return;
    }
    const at = resolveLocation(location, begin, this.#options.upstream);
    session.chunkMinBytes = chunkMinOf(begun.fields);
    this.#sessions.move(session, at);
    const { answer, location: end } = await this.#append(exchange, at, session, null);
    if (isSuccess(answer.status)) await this.#finish(exchange, withDigest(end, digest), digest, session);
    else await this.#sendAppended(exchange, answer);
  }

  async #append(exchange: Proven, location: URL, session: Session, start: number | null) {
    const { client, signal } = exchange;
    const { maxBodyBytes, progress } = this.#options;
    const { frameBytes } = this.#window;
    // A registry that wants larger chunks than can be sent has the last word on them.
    const framesMax = Math.min(FRAMES, Math.max(1, Math.floor(maxBodyBytes / frameBytes)));
    const least = Math.min(framesMax, Math.max(1, Math.ceil(session.chunkMinBytes / frameBytes)));
    const lengthBytes = lengthOf(client.headers["content-length"]);
    const body = new HeldBody(client, this.#window, {
      lengthBytes,
      owner: client.socket.remoteAddress ?? "",
      least,
      // Two at most: one is left to fill meanwhile.
      most: Math.max(least, Math.min(framesMax, FRAMES - 1)),
      idleMs: IDLE_MS,
      fillMs: session.chunkMinBytes === 0 ? FILL_MS : null,
      signal,
    });
    const transfer = progress.begin({ repository: nameOf(session), totalBytes: lengthBytes });
    const context = this.#contextOf(exchange, session, (bytes) => transfer.moved(bytes));
    try {
      const appended = await appendBody(context, body, location, start);
      // How much of a chunk that was refused was taken is to be asked.
      if (!isSuccess(appended.answer.status)) session.offset = null;
      return appended;
    } catch (error) {
      session.offset = null;
      throw error;
    } finally {
      transfer.end();
      body.close();
    }
  }

  async #sendAppended({ response, translation, url }: Exchange, answer: Answer): Promise<void> {
    const refusal = bodyRefusal(answer.status, answer.fields, { lengthBytes: null, isUpload: true });
    if (refusal !== null) throw refusal;
    await sendAnswer(response, answer, translation, url);
  }

  /** end-6 without a body: where its answer is lost, it is asked for again. */
  async #finish(exchange: Proven, url: URL, digest: string, session: Session): Promise<void> {
    const { response, translation } = exchange;
    const { repository } = session;
    const context = this.#contextOf(exchange, session, () => {});
    const blob = repository === null ? null : new URL(`/v2/${repository}/blobs/${digest}`, this.#options.upstream);
    const answer = await finishUpload(context, url, blob);
    if (isSuccess(answer.status)) this.#tellUploaded(digest, session);
    await sendAnswer(response, answer, translation, url);
  }

  #contextOf({ fields, proof, signal }: Proven, session: Session, onProgress: (bytes: number) => void): UploadContext {
    const { patience, progress } = this.#options;
    return {
      upstream: this.#upstream,
      sessions: this.#sessions,
      session,
      proof,
      fields: fieldsOfUpload(fields),
      patience,
      signal,
      onProgress,
      onTrouble: (reason) => progress.troubled(nameOf(session), reason, false),
    };
  }

  async #pass(exchange: Exchange, isUpload: boolean): Promise<void> {
    const { client, url } = exchange;
    const { patience, progress } = this.#options;
    const length = lengthOf(client.headers["content-length"]);
    const repository = repositoryOf(url.pathname);
    const isShown = isUpload && repository !== null && length !== null && length >= SHOWN_BYTES;
    const transfer = isShown ? progress.begin({ repository, totalBytes: length }) : null;
    let moved = 0;
    // All uploads of a repository begin at one address: what a POST begins or is has nothing to do with those before.
    const begun = newSession({ repository, offset: 0 });
    const session = isUpload && client.method === "PATCH" ? this.#sessions.find(url) : null;
    const offset = session?.offset ?? null;
    // Until upstream says that it has all of it.
    if (session !== null) session.offset = null;
    try {
      await pass(this.#upstream, this.#window, {
        ...exchange,
        isUpload,
        silentMs: patience.silentMs * (hasBody(client) || client.method === "PUT" ? UPLOAD_PATIENCE : 1),
        onMoved: (bytes) => {
          moved += bytes;
          transfer?.moved(moved);
        },
        onAnswer: (status, fields) => {
          if (isUpload) this.#noteUpload(client, url, { status, fields, begun });
          if (session !== null && offset !== null && length !== null && isSuccess(status)) {
            session.offset = offset + length;
          }
        },
      });
    } finally {
      transfer?.end();
    }
  }

  /** What an answer that passed says of an upload. */
  #noteUpload(client: IncomingMessage, url: URL, { status, fields, begun }: Noted): void {
    if (!isSuccess(status)) return;
    const { method = "GET", headers } = client;
    const bytes = lengthOf(headers["content-length"]) ?? 0;
    const location = valueOf(fields, "location");
    const at = location === null ? url : resolveLocation(location, url, this.#options.upstream);
    if (method === "POST" && status === 202) {
      begun.chunkMinBytes = chunkMinOf(fields);
      this.#sessions.move(begun, at);
      return;
    }
    if (method !== "PATCH" && method !== "PUT" && method !== "POST") return;
    if (method === "POST" && digestOf(url) === null) return;
    const session = method === "POST" ? begun : this.#sessionOf(url);
    session.bytes += bytes;
    session.requests += 1;
    if (method === "PATCH") this.#sessions.move(session, at);
    else this.#tellUploaded(digestOf(url) ?? "", session);
  }

  #tellUploaded(digest: string, session: Session): void {
    const { bytes, beganAtMs, requests, retries } = session;
    const ms = Date.now() - beganAtMs;
    this.#options.progress.uploaded({ repository: nameOf(session), digest, bytes, ms, requests, retries });
  }

  #sessionOf(url: URL): Session {
    const unknown = { repository: repositoryOf(url.pathname), offset: null };
    return this.#sessions.find(url) ?? this.#sessions.begin(url, unknown);
  }

  /** A request for a token, which is noted for uploads that outlast it. */
  async #token(exchange: Exchange): Promise<void> {
    const { client, url, fields, response, translation, signal } = exchange;
    const body = await readForm(client);
    const length: Field[] = hasBody(client) ? [["Content-Length", String(body.length)]] : [];
    // It is read here too, which nobody is told how to unpack.
    const plain = without(fields, "content-length", "transfer-encoding", "accept-encoding");
    const request = { method: client.method ?? "GET", url, fields: [...plain, ...length], body };
    const { silentMs } = this.#options.patience;
    const ask = (): Promise<Answer> => this.#upstream.ask({ ...request, body: [body], silentMs, signal });
    const answer = await repeatBroken(ask, signal);
    this.#renewal.learn(request, answer);
    await sendAnswer(response, answer, translation, url);
  }
}

async function readForm(client: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const read of client) {
    const piece: unknown = read;
    if (!Buffer.isBuffer(piece)) throw new TypeError("a body is read as bytes");
    bytes += piece.length;
    if (bytes > TOKEN_FORM_BYTES_MAX)
      throw new OciError("SIZE_INVALID", "a form for a token is not so long", { status: 413 });
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

/** end-4 to end-6, end-13 */
function isUploadPath(path: string): boolean {
  return /^\/v2\/.+\/blobs\/uploads(\/|$)/.test(path);
}

function repositoryOf(target: string): string | null {
  return /^\/v2\/(.+)\/blobs\/uploads(?:[/?]|$)/.exec(target)?.[1] ?? null;
}

function nameOf({ repository }: Session): string {
  return repository ?? "an upload";
}

function digestOf(url: URL): string | null {
  return url.searchParams.get("digest");
}

/** A location is upstream's, and its query is left as it is spelled. */
function withDigest(location: URL, digest: string): URL {
  const url = withoutDigest(location);
  const query = url.search.slice(1);
  url.search = `${query === "" ? "" : `${query}&`}digest=${encodeURIComponent(digest).replaceAll("%3A", ":")}`;
  return url;
}

function withoutDigest(location: URL): URL {
  const url = new URL(location);
  const parameters = url.search.slice(1).split("&");
  url.search = parameters.filter((text) => text !== "" && !text.startsWith("digest=")).join("&");
  return url;
}

/** `Content-Range` of a chunk: `<first byte>-<last byte>`; some clients say the unit. */
function rangeStart(header: string | undefined): number | null {
  return lengthOf(/^(?:bytes[ =])?(\d+)-\d+/.exec(header ?? "")?.[1]);
}

function chunkMinOf(fields: readonly Field[]): number {
  return lengthOf(valueOf(fields, "oci-chunk-min-length")) ?? 0;
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
