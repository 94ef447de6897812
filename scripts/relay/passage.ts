/** A request that goes on as it comes, and its answer that comes back so. */
import type { ClientRequest, IncomingMessage, ServerResponse } from "node:http";
import { finished } from "node:stream/promises";
import { bodyRefusal, readRest, sendError, type Translation } from "./answers.ts";
import { endToEnd, type Field, lengthOf, outgoing, pairs, without } from "./headers.ts";
import type { Places } from "./places.ts";
import { repeatBroken } from "./repetition.ts";
import { brokenBy, BrokenOff, responseOf, Silent, type Upstream } from "./upstream.ts";
import { UNCOUNTED_BODY_BYTES, type Window } from "./window.ts";

export interface Passage {
  readonly client: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  readonly fields: readonly Field[];
  /** Whether it is one of an upload's requests, end-4 to end-6 or end-13. */
  readonly isUpload: boolean;
  readonly translation: Translation;
  /** How long nothing may move, ms. */
  readonly silentMs: number;
  readonly signal: AbortSignal;
  readonly onMoved: (bytes: number) => void;
  /** Before the answer goes to the client. */
  readonly onAnswer: (status: number, fields: readonly Field[]) => void;
}

/** A client that does not read its answer is waited for so many times the silence of upstream. */
const UNREAD_PATIENCE = 15;

/** @throws Broken; the signal's reason */
export async function pass(upstream: Upstream, window: Window, passage: Passage): Promise<void> {
  const { client } = passage;
  if (!hasBody(client)) return passWithoutBody(upstream, passage);
  const length = lengthOf(client.headers["content-length"]);
  const isCounted = length === null || length > UNCOUNTED_BODY_BYTES;
  return passOnce(upstream, passage, isCounted ? window.passages : null);
}

async function passWithoutBody(upstream: Upstream, passage: Passage): Promise<void> {
  const { client, signal, response, isUpload } = passage;
  const { method = "" } = client;
  const isRepeatable = (isUpload && method === "POST") || ["GET", "HEAD", "OPTIONS"].includes(method);
  const once = (): Promise<void> => passOnce(upstream, passage, null);
  return isRepeatable ? repeatBroken(once, signal, () => response.headersSent) : once();
}

/** @param places for the bytes of its body on their way; null: it has none, or few */
async function passOnce(upstream: Upstream, passage: Passage, places: Places | null): Promise<void> {
  const { client, response, url, isUpload, signal, translation, onMoved, onAnswer, silentMs } = passage;
  const stop = new AbortController();
  const request = upstream.open(client.method ?? "GET", url, passage.fields, AbortSignal.any([signal, stop.signal]));
  let unread = 0;
  const timer = setTimeout(() => {
    // What waits for the client is not upstream's silence.
    unread += 1;
    if (response.writableLength > 0 && unread < UNREAD_PATIENCE) timer.refresh();
    else stop.abort(new Silent(silentMs));
  }, silentMs);
  const over = new AbortController();
  request.once("close", () => over.abort());
  try {
    const answered = responseOf(request);
    const body = { client, places, signal: over.signal };
    void sendBody(request, body, (bytes) => {
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
      over.abort();
      await readRest(response);
    }
    const refusal = bodyRefusal(status, fields, { lengthBytes: lengthOf(client.headers["content-length"]), isUpload });
    if (refusal === null) {
      response.writeHead(status, answer.statusMessage ?? "", translation.fields(fields, url).flat());
      answer.on("data", () => {
        unread = 0;
        timer.refresh();
      });
      response.on("drain", () => timer.refresh());
      answer.once("end", () => {
        if (answer.rawTrailers.length > 0) response.addTrailers(outgoing(pairs(answer.rawTrailers)));
      });
      // To pass on nothing but a head, too, is to end the answer where it ends.
      answer.once("error", (error) => {
        // Once it is destroyed it looks as if the client had left.
        if (!signal.aborted) stop.abort(new BrokenOff(error));
        response.destroy();
      });
      answer.pipe(response);
    } else {
      answer.resume();
      await sendError(response, refusal);
    }
    await finished(response, { readable: false });
  } catch (error) {
    if (!stop.signal.aborted) signal.throwIfAborted();
    throw brokenBy(error, stop.signal);
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

interface Body {
  readonly client: IncomingMessage;
  readonly places: Places | null;
  /** Nobody wants the rest: what the client still sends is read to nowhere. */
  readonly signal: AbortSignal;
}

/** A place is taken for bytes that have come, until they have left: a client that stops in the middle holds none. */
async function sendBody(
  request: ClientRequest,
  { client, places, signal }: Body,
  onMoved: (bytes: number) => void,
): Promise<void> {
  if (!hasBody(client)) {
    request.end();
    return;
  }
  let wake: (() => void) | null = null;
  signal.addEventListener("abort", () => wake?.(), { once: true });
  try {
    // Destroyed, the body would take the connection with it, and the answer.
    for await (const read of client.iterator({ destroyOnReturn: false })) {
      const piece: unknown = read;
      if (!Buffer.isBuffer(piece)) throw new TypeError("a body is read as bytes");
      if (signal.aborted || !(await isPlaced(places, client.socket.remoteAddress ?? "", signal))) continue;
      try {
        await new Promise<void>((resolve) => {
          // A connection that breaks may not call back.
          wake = resolve;
          request.write(piece, () => resolve());
        });
      } finally {
        places?.give(1);
      }
      if (!signal.aborted) onMoved(piece.length);
    }
    if (signal.aborted) return;
    if (client.rawTrailers.length > 0) request.addTrailers(outgoing(pairs(client.rawTrailers)));
    request.end();
  } catch {
    // The client went away in the middle, and upstream is not to take what it has for all.
    request.destroy();
  }
}

/** @returns false: it is not needed any more */
async function isPlaced(places: Places | null, owner: string, signal: AbortSignal): Promise<boolean> {
  try {
    await places?.take(1, { owner, isUrgent: () => true }, signal);
  } catch {
    return false;
  }
  // It may have been over just when it came.
  if (signal.aborted) places?.give(1);
  return !signal.aborted;
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
