/** A request that goes on as it comes, and its answer that comes back so. */
import type { ClientRequest, IncomingMessage, ServerResponse } from "node:http";
import { finished } from "node:stream/promises";
import { bodyRefusal, readRest, sendError, type Translation } from "./answers.ts";
import { endToEnd, type Field, lengthOf, outgoing, pairs, without } from "./headers.ts";
import { Broken, reasonOf, responseOf, type Upstream } from "./upstream.ts";
import { UNCOUNTED_BODY_BYTES, type Window } from "./window.ts";

export interface Passage {
  readonly client: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  readonly fields: readonly Field[];
  readonly translation: Translation;
  /** How long nothing may move, ms. */
  readonly silentMs: number;
  readonly signal: AbortSignal;
  readonly onMoved: (bytes: number) => void;
  /** Before the answer goes to the client. */
  readonly onAnswer: (status: number, fields: readonly Field[]) => void;
}

/** How often a request is made that had no answer, and asks for nothing that twice is more than once. */
const TRIES = 3;
const WAIT_MS = 200;

/** @throws Broken; the signal's reason */
export async function pass(upstream: Upstream, window: Window, passage: Passage): Promise<void> {
  const { client, signal } = passage;
  if (!hasBody(client)) return passWithoutBody(upstream, passage);
  const length = lengthOf(client.headers["content-length"]);
  if (length !== null && length <= UNCOUNTED_BODY_BYTES) return passOnce(upstream, passage);
  await window.passages.take(1, () => true, signal);
  try {
    await passOnce(upstream, passage);
  } finally {
    window.passages.give(1);
  }
}

async function passWithoutBody(upstream: Upstream, passage: Passage): Promise<void> {
  const { client, signal, response } = passage;
  const { method = "" } = client;
  const begins = method === "POST" && passage.url.pathname.includes("/blobs/uploads");
  const isRepeatable = begins || ["GET", "HEAD", "OPTIONS"].includes(method);
  for (let tries = 1; ; tries++) {
    try {
      return await passOnce(upstream, passage);
    } catch (error) {
      if (!(error instanceof Broken) || !isRepeatable || response.headersSent || tries === TRIES) throw error;
    }
    await new Promise((resolve) => {
      setTimeout(resolve, WAIT_MS * tries);
    });
    signal.throwIfAborted();
  }
}

async function passOnce(upstream: Upstream, passage: Passage): Promise<void> {
  const { client, response, url, signal, translation, onMoved, onAnswer, silentMs } = passage;
  const stop = new AbortController();
  const request = upstream.open(client.method ?? "GET", url, passage.fields, AbortSignal.any([signal, stop.signal]));
  const timer = setTimeout(() => {
    stop.abort(new Broken(`nothing moved for ${String(Math.ceil(silentMs / 1000))} s`));
  }, silentMs);
  try {
    const answered = responseOf(request);
    sendBody(client, request, (bytes) => {
      timer.refresh();
      onMoved(bytes);
    });
    const answer = await answered;
    timer.refresh();
    const fields = answerFields(answer, client);
    const status = answer.statusCode ?? 502;
    onAnswer(status, fields);
    if (status >= 400 && !client.complete) {
      // It is of no use to anybody any more.
      client.unpipe(request);
      await readRest(response);
    }
    const refusal = bodyRefusal(status, fields, lengthOf(client.headers["content-length"]));
    if (refusal === null) {
      response.writeHead(status, answer.statusMessage ?? "", translation.fields(fields, url).flat());
      answer.on("data", () => timer.refresh());
      answer.once("end", () => {
        if (answer.rawTrailers.length > 0) response.addTrailers(outgoing(pairs(answer.rawTrailers)));
      });
      // To pass on nothing but a head, too, is to end the answer where it ends.
      answer.once("error", () => response.destroy());
      answer.pipe(response);
    } else {
      answer.resume();
      await sendError(response, refusal);
    }
    await finished(response, { readable: false });
  } catch (error) {
    signal.throwIfAborted();
    if (stop.signal.reason instanceof Broken) throw stop.signal.reason;
    throw error instanceof Broken ? error : new Broken(reasonOf(error), { cause: error });
  } finally {
    clearTimeout(timer);
    if (!request.writableFinished) request.destroy();
  }
}

/** Trailers can only follow an answer in chunks: to announce them before another is refused by Node. */
function answerFields(answer: IncomingMessage, client: IncomingMessage): Field[] {
  const fields = endToEnd(answer.rawHeaders);
  const isChunked = answer.headers["transfer-encoding"] !== undefined && client.method !== "HEAD";
  return isChunked && client.httpVersion === "1.1" ? fields : without(fields, "trailer");
}

function sendBody(client: IncomingMessage, request: ClientRequest, onMoved: (bytes: number) => void): void {
  if (!hasBody(client)) {
    request.end();
    return;
  }
  // Upstream may answer before it has read all, and close: what the client still sends is read to nowhere then.
  request.once("error", () => client.unpipe(request).resume());
  request.once("close", () => client.unpipe(request).resume());
  client.on("data", (piece: Buffer) => onMoved(piece.length));
  client.once("end", () => {
    if (client.rawTrailers.length > 0) request.addTrailers(outgoing(pairs(client.rawTrailers)));
  });
  client.pipe(request);
}

/** RFC 9112 section 6.3: these two tell of a body. */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] !== undefined || (lengthOf(headers["content-length"]) ?? 0) > 0;
}

/** The client's fields for upstream: its own `Host` is set anew, and the relay is told of, RFC 9110 section 7.6.3. */
export function fieldsForUpstream(client: IncomingMessage): Field[] {
  const fields = without(endToEnd(client.rawHeaders), "host", "expect");
  const isChunked = client.headers["transfer-encoding"] !== undefined;
  return [
    ...fields,
    ["Via", `${client.httpVersion} moorage-relay`],
    ...(isChunked ? [["Transfer-Encoding", "chunked"] as const] : []),
  ];
}
