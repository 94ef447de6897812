import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import http, { createServer, type RequestListener } from "node:http";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { expect } from "vitest";
import { z } from "zod";
import { asAdmin } from "../support/credentials.ts";
import { projectRoot, type Registry, startRegistry } from "../support/registry.ts";
import { Front, type FrontOptions } from "./relay-front.ts";
import { test } from "vitest";

/** A line of `relay --json`. */
const eventSchema = z.discriminatedUnion("event", [
  z.object({ event: z.literal("ready"), url: z.string(), upstream: z.string() }),
  z.object({
    event: z.literal("uploaded"),
    repository: z.string(),
    digest: z.string(),
    bytes: z.number(),
    ms: z.number(),
    requests: z.number(),
    retries: z.number(),
  }),
  z.object({ event: z.enum(["retry", "failed"]), repository: z.string(), reason: z.string() }),
]);
export type RelayEvent = z.infer<typeof eventSchema>;

export interface RelayOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** false: as people run it, who read what it says. */
  readonly isJson?: boolean;
  /** In place of node with moorage.ts, and its folder. */
  readonly program?: readonly [string, ...string[]];
  readonly folder?: string;
}

/** A relay as its users run it, in a process of its own. */
export class RunningRelay {
  readonly url: string;
  readonly host: string;
  readonly pid: number;
  readonly events: RelayEvent[];
  readonly #child: ChildProcess;
  readonly #errors: string[];

  private constructor(child: ChildProcess, url: string, events: RelayEvent[], errors: string[]) {
    this.#child = child;
    this.#errors = errors;
    this.url = url;
    this.host = new URL(url).host;
    this.pid = child.pid ?? 0;
    this.events = events;
  }

  static async start(upstream: string, options: RelayOptions = {}): Promise<RunningRelay> {
    const { args = [], env = {}, folder = projectRoot, isJson = true } = options;
    const [program, ...first] = options.program ?? [process.execPath, path.join(projectRoot, "scripts/moorage.ts")];
    const child = spawn(program, [...first, "relay", upstream, ...(isJson ? ["--json"] : []), "--port=0", ...args], {
      cwd: folder,
      env: { ...process.env, ...env },
      // What stands between is told with it, as by a terminal.
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const errors: string[] = [];
    const events: RelayEvent[] = [];
    const url = await new Promise<string>((resolve, reject) => {
      const onLine = (line: string): void => {
        errors.push(line);
        const ready = /(http:\S+) relays to /.exec(line)?.[1];
        if (ready !== undefined) resolve(ready);
      };
      createInterface({ input: child.stderr }).on("line", onLine);
      createInterface({ input: child.stdout }).on("line", (line) => {
        if (!isJson) {
          onLine(line);
          return;
        }
        const event = eventSchema.parse(JSON.parse(line));
        events.push(event);
        if (event.event === "ready") resolve(event.url);
      });
      child.once("close", (code) => reject(new Error(`it ended with ${String(code)}: ${errors.join("\n")}`)));
      child.once("error", reject);
    });
    return new RunningRelay(child, url, events, errors);
  }

  /** What it has said on standard error; where it was not asked for JSON, on standard output too. */
  get errors(): string {
    return this.#errors.join("\n");
  }

  /** The events of one kind. */
  of<Kind extends RelayEvent["event"]>(kind: Kind): Extract<RelayEvent, { event: Kind }>[] {
    return this.events.filter((event): event is Extract<RelayEvent, { event: Kind }> => event.event === kind);
  }

  /** The most memory that it has had, bytes; of Linux. */
  async peakMemory(): Promise<number> {
    const status = await readFile(`/proc/${String(this.pid)}/status`, "utf8");
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
  }

  /** @returns how it ended */
  async stop(signal: NodeJS.Signals = "SIGINT"): Promise<number | null> {
    if (this.#isRunning) {
      const ended = once(this.#child, "close");
      process.kill(-this.pid, signal);
      await ended;
    }
    return this.#child.exitCode;
  }

  /**
   * Says `signal` again and again until it has ended, so that it is heard at every point of its end; for half a second at
   * most, as a relay takes one that comes later for another.
   * @returns how it ended
   */
  async stopInsistently(signal: NodeJS.Signals): Promise<number | null> {
    const ended = once(this.#child, "close");
    const untilMs = Date.now() + 500;
    while (this.#isRunning && Date.now() < untilMs) {
      this.#child.kill(signal);
      await new Promise(setImmediate);
    }
    await ended;
    return this.#child.exitCode;
  }

  get #isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }
}

const blockBytes = 1 << 20;
const block = randomBytes(blockBytes);

/** Bytes that are no one else's, of any length, made as they are read. */
export class Content {
  readonly length: number;
  readonly digest: string;
  readonly #id = randomBytes(16);

  constructor(length: number, algorithm: "sha256" | "sha512" = "sha256") {
    this.length = length;
    const hash = createHash(algorithm);
    for (const piece of this.#pieces(0, length)) hash.update(piece);
    this.digest = `${algorithm}:${hash.digest("hex")}`;
  }

  /** As a stream. */
  read(from = 0, to = this.length): Readable {
    return Readable.from(this.#pieces(from, to), { objectMode: false });
  }

  bytes(from = 0, to = this.length): Buffer<ArrayBuffer> {
    return Buffer.concat([...this.#pieces(from, to)]);
  }

  *#pieces(from: number, to: number): Generator<Buffer> {
    for (let at = from - (from % blockBytes); at < to; at += blockBytes) {
      const piece = Buffer.from(block);
      this.#id.copy(piece);
      piece.writeDoubleLE(at, this.#id.length);
      yield piece.subarray(Math.max(0, from - at), Math.min(blockBytes, to - at));
    }
  }
}

export interface Sent {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  readonly trailers: NodeJS.Dict<string>;
}

export interface Sending {
  readonly headers?: Readonly<Record<string, string>>;
  /** A stream goes without a length, where no header says it. */
  readonly body?: Readable | Buffer;
  readonly signal?: AbortSignal;
}

/** A request as clients send it, which `fetch` has its own mind about. */
export async function send(
  method: string,
  url: URL | string,
  { headers = {}, body, signal }: Sending = {},
): Promise<Sent> {
  const length = body instanceof Readable ? {} : { "Content-Length": String(body?.length ?? 0) };
  const hasBody = body !== undefined || ["POST", "PUT", "PATCH"].includes(method);
  const request = http.request(url, {
    method,
    headers: { ...(hasBody ? length : {}), ...headers },
    agent: false,
    signal,
  });
  const answered = new Promise<http.IncomingMessage>((resolve, reject) => {
    request.once("response", resolve).on("error", reject);
  });
  if (body instanceof Readable) body.pipe(request);
  else request.end(body);
  const answer = await answered;
  const pieces: Buffer[] = [];
  for await (const piece of answer) pieces.push(z.instanceof(Buffer).parse(piece));
  const { statusCode = 0, trailers } = answer;
  return { status: statusCode, headers: answer.headers, text: Buffer.concat(pieces).toString(), trailers };
}

/** A server of the test's own in place of a registry. */
export async function serve(listener: RequestListener, isRegistry = true) {
  const server = createServer((incoming, outgoing) => {
    if (isRegistry && incoming.url === "/v2/") outgoing.end("{}");
    else listener(incoming, outgoing);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new TypeError("a TCP server has an address with a port");
  return {
    url: `http://127.0.0.1:${String(address.port)}`,
    async [Symbol.asyncDispose]() {
      server.close().closeAllConnections();
      await once(server, "close");
    },
  };
}

/** How clients send a blob: the requests that their sources have. */
export type Form = "patch" | "patch of known length" | "put" | "post" | "patches";

/** Who sends, where. */
export interface Place {
  /** A registry's URL. */
  readonly url: string;
  readonly name: string;
  readonly authorization?: string;
}

/** @returns the last answer, or the first that is no success */
export async function push({ url, name, authorization = asAdmin }: Place, content: Content, form: Form): Promise<Sent> {
  const headers = { Authorization: authorization, "Content-Type": "application/octet-stream" };
  const known = { ...headers, "Content-Length": String(content.length) };
  const uploads = new URL(`/v2/${name}/blobs/uploads/`, url);
  if (form === "post") {
    uploads.searchParams.set("digest", content.digest);
    return send("POST", uploads, { headers: known, body: content.read() });
  }
  const begun = await send("POST", uploads, { headers });
  if (begun.status !== 202) return begun;
  let last = begun;
  const location = (): URL => new URL(last.headers.location ?? "", url);
  if (form === "put") return send("PUT", withDigest(location(), content), { headers: known, body: content.read() });
  if (form === "patches") {
    const size = 10_000_000;
    for (let at = 0; at < content.length; at += size) {
      const end = Math.min(at + size, content.length);
      const range = { ...headers, "Content-Range": `${String(at)}-${String(end - 1)}` };
      last = await send("PATCH", location(), { headers: range, body: content.bytes(at, end) });
      if (last.status !== 202) return last;
    }
  } else {
    last = await send("PATCH", location(), { headers: form === "patch" ? headers : known, body: content.read() });
    if (last.status !== 202) return last;
  }
  return send("PUT", withDigest(location(), content), { headers });
}

export function withDigest(location: URL, { digest }: Pick<Content, "digest">): URL {
  const url = new URL(location);
  url.searchParams.set("digest", digest);
  return url;
}

/** That a registry has a blob, byte for byte. */
export async function expectBlob({ url, name, authorization = asAdmin }: Place, content: Content): Promise<void> {
  const headers = { Authorization: authorization };
  const response = await fetch(`${url}/v2/${name}/blobs/${content.digest}`, { headers });
  expect(response.status).toBe(200);
  const [algorithm = ""] = content.digest.split(":");
  const hash = createHash(algorithm);
  let length = 0;
  for await (const read of response.body ?? []) {
    const piece = z.instanceof(Uint8Array).parse(read);
    hash.update(piece);
    length += piece.length;
  }
  expect({ length, digest: `${algorithm}:${hash.digest("hex")}` }).toEqual({
    length: content.length,
    digest: content.digest,
  });
}

/**
 * The `test` of the relay. Fixtures: `registry`, one for the file; `openFront`, a front before it, or before another;
 * `front`, one with Cloudflare's limit; `startRelay`, to that front unless told otherwise; `repository`, a name, which is
 * the test's own.
 */
export const relayTest = test
  .extend("vars", { scope: "file" }, (): Record<string, string> => ({ ANONYMOUS_PULL: "public/**" }))
  .extend("registry", { scope: "file" }, async ({ vars }, { onCleanup }): Promise<Registry> => {
    const registry = await startRegistry({ vars });
    onCleanup(() => registry.stop());
    return registry;
  })
  .extend("repository", ({ task: _task }) => `relay/${crypto.randomUUID()}`)
  .extend("fileFolder", { scope: "file" }, async ({ vars: _vars }, { onCleanup }) => {
    const folder = await mkdtemp(path.join(tmpdir(), "moorage-relay-"));
    onCleanup(() => rm(folder, { recursive: true, force: true }));
    return folder;
  })
  .extend("folder", async ({ task: _task }, { onCleanup }) => {
    const folder = await mkdtemp(path.join(tmpdir(), "moorage-relay-"));
    onCleanup(() => rm(folder, { recursive: true, force: true }));
    return folder;
  })
  .extend("openFront", ({ registry }, { onCleanup }) => {
    const fronts: Front[] = [];
    onCleanup(async () => {
      await Promise.all(fronts.map((front) => front.close()));
    });
    return async (options: FrontOptions = {}, url = registry.url): Promise<Front> => {
      const front = await Front.open(url, options);
      fronts.push(front);
      return front;
    };
  })
  .extend("front", ({ openFront }) => openFront())
  .extend("startRelay", ({ front }, { onCleanup }) => {
    const relays: RunningRelay[] = [];
    onCleanup(async () => {
      await Promise.all(relays.map((relay) => relay.stop()));
    });
    return async (options: RelayOptions = {}, url = front.url): Promise<RunningRelay> => {
      const relay = await RunningRelay.start(url, options);
      relays.push(relay);
      return relay;
    };
  })
  .extend("relay", ({ startRelay }) => startRelay());
