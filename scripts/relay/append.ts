/** Sends an upload's chunks, each for as long as it takes; a broken connection is gone on from where upstream stands. */
import type { Chunk, HeldBody } from "./held-body.ts";
import { type Field, lengthOf, valueOf, without } from "./headers.ts";
import { isUpstream } from "./realms.ts";
import type { Proof } from "./renewal.ts";
import type { Session, Sessions } from "./sessions.ts";
import { type Answer, Broken, isTransient, type Upstream } from "./upstream.ts";

/** How long the relay goes on trying. */
export interface Patience {
  /** Requests in a row that bring nothing further. */
  readonly tries: number;
  /** How long nothing may move within a request, ms. */
  readonly silentMs: number;
}

const FIRST_WAIT_MS = 200;
const WAIT_MAX_MS = 15_000;
/** A server that asks for more is asked sooner nevertheless: the client waits too. */
const RETRY_AFTER_MAX_MS = 60_000;
/** A registry may read the whole blob before it answers the last request. */
const FINISH_PATIENCE = 15;

/** Upstream could not be made to take what it was sent. */
export class GaveUp extends Error {}

/** What passes between relay and upstream in one upload. */
export interface UploadContext {
  readonly upstream: Upstream;
  readonly sessions: Sessions;
  readonly session: Session;
  readonly proof: Proof;
  /** The client's, without what is its own request's: framing, range, authorization. */
  readonly fields: readonly Field[];
  readonly patience: Patience;
  readonly signal: AbortSignal;
  /** Bytes of the body that have left, with those on their way; fewer than before where they have to leave again. */
  readonly onProgress: (bytes: number) => void;
  /** A connection broke, or upstream would not; it is asked where it stands. */
  readonly onTrouble: (reason: string) => void;
}

/** Upstream's last answer, and where its session is now. */
export interface Appended {
  readonly answer: Answer;
  readonly location: URL;
}

/** Without fields that say something of one request alone, and without what would have answers packed that are read here. */
export function fieldsOfUpload(fields: readonly Field[]): Field[] {
  const ofOne = ["content-length", "content-range", "transfer-encoding", "trailer", "authorization"];
  return without(fields, ...ofOne, "accept-encoding");
}

/**
 * Sends all of a body as `PATCH`es (end-5).
 * @param start Content-Range's first byte; null: where the session stands
 * @returns the answer to the last one, or the first that the client has to see
 * @throws GaveUp, and what `body.next` throws
 */
export async function appendBody(
  context: UploadContext,
  body: HeldBody,
  location: URL,
  start: number | null,
): Promise<Appended> {
  const upload = new Appending(context, location, start);
  for (;;) {
    const chunk = await body.next();
    try {
      const isWhole = upload.isFresh && chunk.isLast && start === null;
      const answer = upload.isFresh || chunk.bytes > 0 ? await upload.append(chunk, isWhole) : upload.answer;
      if (answer === null) throw new GaveUp("nothing was sent");
      if (chunk.isLast || !isSuccess(answer.status)) return { answer, location: upload.location };
    } finally {
      body.release(chunk);
    }
  }
}

/** How the state of one upload moves: from asking where it stands, over chunk after chunk, to its end. */
class Appending {
  readonly #context: UploadContext;
  location: URL;
  answer: Answer | null = null;
  #offset: number | null;
  readonly #failures: Failures;
  /** `Docker-Upload-UUID`, which docker's clients look for in each answer. */
  #uuid: readonly Field[] = [];
  /** Whether upstream answers where an upload stands, as far as is known. */
  #tellsOffset = true;

  constructor(context: UploadContext, location: URL, start: number | null) {
    this.#context = context;
    this.location = location;
    this.#offset = start ?? context.session.offset;
    this.#failures = new Failures(context);
  }

  get isFresh(): boolean {
    return this.answer === null;
  }

  /**
   * @param isWhole it is all that the client sends, and it gave no range: then none is given either
   * @returns an answer of success, or the first that the client has to see
   */
  async append(chunk: Chunk, isWhole: boolean): Promise<Answer> {
    const { session } = this.#context;
    if (this.#offset === null) {
      const asked = await this.#ask(0);
      // Whoever does not say so will say what is wrong with the location.
      this.#offset = typeof asked === "number" ? asked : 0;
    }
    const begin = this.#offset;
    const end = begin + chunk.bytes;
    let from = begin;
    let isRanged = !isWhole;
    for (let isDisturbed = false; ; isDisturbed = true) {
      const outcome = await this.#send(chunk, from - begin, from, isRanged);
      if (outcome !== null && isSuccess(outcome.status)) break;
      // A 416 may mean that the request that broke is not over there.
      if (outcome !== null && !(outcome.status === 416 && isDisturbed)) return this.#seen(outcome);
      const offset = outcome === null ? await this.#ask(from) : await this.#moved(outcome, from);
      if (typeof offset !== "number") return this.#seen(offset);
      requireHeld(offset, begin, end);
      if (offset > from) this.#failures.forget();
      from = offset;
      isRanged = true;
      if (from === end && chunk.bytes > 0) {
        this.#seen(this.#accepted(end));
        break;
      }
    }
    this.#failures.forget();
    this.#offset = end;
    session.offset = end;
    session.bytes += chunk.bytes;
    session.requests += 1;
    if (this.answer === null) throw new GaveUp("the registry gave no answer");
    return this.answer;
  }

  /** What the answer that was lost would have said. */
  #accepted(end: number): Answer {
    const fields: Field[] = [
      ["Location", this.location.href],
      ["Range", `0-${String(end - 1)}`],
      ...this.#uuid,
      ["Content-Length", "0"],
    ];
    return { status: 202, message: "Accepted", fields, body: Buffer.alloc(0) };
  }

  #seen(answer: Answer): Answer {
    this.answer = answer;
    return answer;
  }

  /** @returns null: whether it came is to be asked */
  async #send(chunk: Chunk, skip: number, from: number, isRanged: boolean): Promise<Answer | null> {
    const { session, onProgress } = this.#context;
    const body = bytesFrom(chunk, skip);
    const length = chunk.bytes - skip;
    const range: Field[] =
      isRanged && length > 0 ? [["Content-Range", `${String(from)}-${String(from + length - 1)}`]] : [];
    let sent = session.bytes + skip;
    const answer = await request(this.#context, this.#failures, {
      method: "PATCH",
      url: this.location,
      fields: [...range, ["Content-Length", String(length)]],
      body,
      onSent: (bytes) => {
        sent += bytes;
        onProgress(sent);
      },
    });
    if (answer === null || !isSuccess(answer.status)) return answer;
    this.#moveTo(answer);
    return this.#seen(answer);
  }

  /**
   * end-13: where the upload stands.
   * @param expected where it stood last
   * @returns the answer, where it says none of that
   */
  async #ask(expected: number): Promise<number | Answer> {
    while (this.#tellsOffset) {
      const get = { method: "GET", url: this.location, fields: [], body: [] };
      const answer = await request(this.#context, this.#failures, get);
      if (answer === null) continue;
      if (isSuccess(answer.status)) {
        this.#moveTo(answer);
        return offsetOf(answer, expected) ?? expected;
      }
      // Some registries have no such endpoint. A chunk at the wrong place is refused, so it can be tried.
      if (answer.status !== 405 && !(answer.status === 404 && isUnsupported(answer))) return answer;
      this.#tellsOffset = false;
    }
    return expected;
  }

  /** What a 416 says of where to go on, after a wait. */
  async #moved(answer: Answer, from: number): Promise<number> {
    await this.#failures.wait("it stands at another byte", null);
    this.#moveTo(answer);
    // 0-0 is what an upload of one byte says, and of none.
    const range = lastByte(answer);
    if (range === 0) return from === 0 ? 1 : 0;
    return range === null ? from : range + 1;
  }

  #moveTo(answer: Answer): void {
    const uuid = answer.fields.filter(([name]) => name.toLowerCase() === "docker-upload-uuid");
    if (uuid.length > 0) this.#uuid = uuid;
    const location = valueOf(answer.fields, "location");
    if (location === null) return;
    const { upstream, sessions, session } = this.#context;
    this.location = resolveLocation(location, this.location, upstream.origin);
    sessions.move(session, this.location);
  }
}

interface OneRequest {
  readonly method: string;
  readonly url: URL;
  readonly fields: readonly Field[];
  readonly body: readonly Buffer[];
  readonly onSent?: (bytes: number) => void;
}

/**
 * One request of an upload, with a token that holds.
 * @returns null: there was no answer, or none that counts, and the time to try again has come
 * @throws GaveUp
 */
async function request(
  context: UploadContext,
  failures: Failures,
  { method, url, fields, body, onSent = () => {} }: OneRequest,
): Promise<Answer | null> {
  const { upstream, proof, patience, signal } = context;
  const silentMs = patience.silentMs * (method === "PUT" ? FINISH_PATIENCE : 1);
  for (let renewed = false; ; renewed = true) {
    const authorization = proof.authorization();
    // Another host's business is none of its own.
    const isOwn = url.origin === upstream.origin.origin;
    const proven: Field[] = authorization === null || !isOwn ? [] : [["Authorization", authorization]];
    const ownFields = method === "GET" || method === "HEAD" ? without(context.fields, "content-type") : context.fields;
    try {
      const all = [...ownFields, ...proven, ...fields];
      const answer = await upstream.ask({ method, url, fields: all, body, silentMs, signal, onSent });
      const renewal = answer.status === 401 && !renewed ? await proof.renew(authorization) : "refused";
      if (renewal === "renewed") continue;
      if (renewal !== "refused") {
        // The client has no part in that, and could not send again what it has sent.
        await failures.wait(`the request for a new token was answered ${String(renewal.status)}`, renewal);
        return null;
      }
      if (!isTransient(answer.status)) return answer;
      await failures.wait(`it answered ${String(answer.status)}`, answer);
    } catch (error) {
      if (!(error instanceof Broken)) throw error;
      await failures.wait(error.message, null);
    }
    return null;
  }
}

/**
 * A `POST` without a body (end-4a). Where its answer is lost, there are two uploads, and one of them ends by itself.
 * @throws GaveUp
 */
export async function beginUpload(context: UploadContext, url: URL): Promise<Answer> {
  const failures = new Failures(context);
  for (;;) {
    const post = { method: "POST", url, fields: [["Content-Length", "0"]] as const, body: [] };
    const answer = await request(context, failures, post);
    if (answer !== null) return answer;
  }
}

/**
 * The final `PUT` of an upload (end-6) without a body. Where its answer is lost, the blob itself is looked for: not every
 * registry answers a repetition.
 * @param blob the blob's own URL; null: it is not known
 * @throws GaveUp
 */
export async function finishUpload(context: UploadContext, url: URL, blob: URL | null): Promise<Answer> {
  const failures = new Failures(context);
  for (;;) {
    const put = { method: "PUT", url, fields: [["Content-Length", "0"]] as const, body: [] };
    const answer = await request(context, failures, put);
    // It may be at it still, or have done it.
    if (answer?.status === 416 && failures.any) await failures.wait("another request ends the upload", null);
    else if (answer !== null && !(answer.status === 404 && failures.any)) return answer;
    if (blob !== null) {
      const found = await request(context, failures, { method: "HEAD", url: blob, fields: [], body: [] });
      if (found?.status === 200) return created(blob, found);
    }
    if (answer?.status === 404) return answer;
  }
}

/** What the answer that was lost would have said. */
function created(blob: URL, found: Answer): Answer {
  const digest = blob.pathname.split("/").at(-1) ?? "";
  const fields: Field[] = [
    ["Location", blob.pathname],
    ["Docker-Content-Digest", valueOf(found.fields, "docker-content-digest") ?? digest],
    ["Content-Length", "0"],
  ];
  return { status: 201, message: "Created", fields, body: Buffer.alloc(0) };
}

/** The failures since something was last gained, and the waits between them. */
class Failures {
  readonly #context: UploadContext;
  #count = 0;

  constructor(context: UploadContext) {
    this.#context = context;
  }

  get any(): boolean {
    return this.#count > 0;
  }

  forget(): void {
    this.#count = 0;
  }

  /** @throws GaveUp where it was the last try; the signal's reason */
  async wait(reason: string, answer: Answer | null): Promise<void> {
    const { patience, session, signal, onTrouble } = this.#context;
    this.#count += 1;
    session.retries += 1;
    if (this.#count >= patience.tries) {
      throw new GaveUp(`${reason}, the last of ${String(this.#count)} tries that brought nothing further`);
    }
    onTrouble(reason);
    const backoff = Math.min(FIRST_WAIT_MS * 2 ** (this.#count - 1), WAIT_MAX_MS) * (0.75 + Math.random() / 2);
    const asked = answer === null ? null : lengthOf(valueOf(answer.fields, "retry-after"));
    await pause(Math.max(backoff, Math.min((asked ?? 0) * 1000, RETRY_AFTER_MAX_MS)), signal);
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal.reason instanceof Error ? signal.reason : new Error("the wait was given up"));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}

/** A `Location` of upstream, which may take itself for one that is reached without TLS. */
export function resolveLocation(location: string, from: URL, upstream: URL): URL {
  if (!URL.canParse(location, from.href)) return from;
  const url = new URL(location, from);
  return isUpstream(url, upstream) ? new URL(url.pathname + url.search, upstream) : url;
}

function requireHeld(offset: number, begin: number, end: number): void {
  if (offset < begin) {
    throw new GaveUp(`it has ${String(offset)} bytes by now, and had said that it has ${String(begin)}`);
  }
  if (offset > end)
    throw new GaveUp(`it has ${String(offset)} bytes, and was sent ${String(end)}: somebody else wrote`);
}

function bytesFrom({ frames }: Chunk, skip: number): Buffer[] {
  let left = skip;
  const rest: Buffer[] = [];
  for (const { buffer, length } of frames) {
    if (left < length) rest.push(buffer.subarray(left, length));
    left = Math.max(0, left - length);
  }
  return rest;
}

/** The last byte of `Range: 0-<last>`, distribution-spec v1.1.1 «Pushing a blob in chunks». */
function lastByte({ fields }: Answer): number | null {
  return lengthOf(/^(?:bytes[=\s])?\s*0-(\d+)$/.exec(valueOf(fields, "range")?.trim() ?? "")?.[1]);
}

function offsetOf(answer: Answer, expected: number): number | null {
  const last = lastByte(answer);
  if (last === 0) return expected === 1 ? 1 : 0;
  return last === null ? null : last + 1;
}

export function isSuccess(status: number): boolean {
  return status >= 200 && status < 300;
}

function isUnsupported({ body }: Answer): boolean {
  return !body.includes("BLOB_UPLOAD_UNKNOWN");
}
