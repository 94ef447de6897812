import { Buffer } from "node:buffer";
import { Agent, type IncomingMessage, request as httpRequest } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

export interface Sent {
  readonly method: string;
  /** path and query, or an absolute URL of the same registry */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** bytes at once, or a stream; a stream without `content-length` in the headers goes out chunked */
  readonly body?: Uint8Array | Iterable<Uint8Array>;
  /** statuses that are no failure */
  readonly expect: readonly number[];
  /** keep the answer's bytes; else they are counted only */
  readonly keepBody?: boolean;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly bodyBytes: number;
  readonly body: Buffer;
}

/** An answer that a measurement can't count. */
export class UnexpectedStatus extends Error {}

/** One keep-alive connection that carries one request at a time. */
export class Client {
  readonly #base: URL;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });

  constructor(url: string) {
    this.#base = new URL(url);
  }

  /** @throws UnexpectedStatus with the answer's first bytes */
  async request(sent: Sent): Promise<Answer> {
    const { body, method } = sent;
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = httpRequest(new URL(sent.path, this.#base), {
        method,
        agent: this.#agent,
        headers: { ...this.#credentials(), ...sent.headers },
      });
      request.once("response", resolve);
      request.once("error", reject);
      if (body === undefined || body instanceof Uint8Array) request.end(body);
      else pipeline(Readable.from(body), request).catch(reject);
    });
    const kept: Buffer[] = [];
    const keep = sent.keepBody === true || !sent.expect.includes(answer.statusCode ?? 0);
    let bodyBytes = 0;
    await new Promise<void>((resolve, reject) => {
      answer.on("data", (chunk: Buffer) => {
        bodyBytes += chunk.byteLength;
        if (keep) kept.push(chunk);
      });
      answer.once("end", resolve);
      answer.once("error", reject);
    });
    const whole = Buffer.concat(kept);
    const status = answer.statusCode ?? 0;
    if (!sent.expect.includes(status)) {
      throw new UnexpectedStatus(
        `${method} ${sent.path} was answered ${String(status)}: ${whole.toString("utf8").slice(0, 500)}`,
      );
    }
    return { status, headers: answer.headers, bodyBytes, body: whole };
  }

  close(): void {
    this.#agent.destroy();
  }

  #credentials(): Record<string, string> {
    const { username, password } = this.#base;
    if (username === "") return {};
    const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    return { authorization: `Basic ${Buffer.from(pair).toString("base64")}` };
  }
}
