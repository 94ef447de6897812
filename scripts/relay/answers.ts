/** What the client of the relay is answered. */
import type { ServerResponse } from "node:http";
import { OciError } from "../../src/oci/errors.ts";
import { type Field, valueOf, without } from "./headers.ts";
import { isUpstream, type Realms } from "./realms.ts";
import type { Answer } from "./upstream.ts";

/** How upstream's answers read at the relay's own address. */
export class Translation {
  readonly #upstream: URL;
  readonly #realms: Realms;
  readonly #host: string;

  /** @param host by which the client knows the relay */
  constructor(upstream: URL, realms: Realms, host: string) {
    this.#upstream = upstream;
    this.#realms = realms;
    this.#host = host;
  }

  /** @param asked upstream's address of what was asked for */
  fields(fields: readonly Field[], asked: URL): Field[] {
    return fields.map(([name, value]): Field => {
      switch (name.toLowerCase()) {
        case "location":
        case "content-location":
          return [name, this.#address(value, asked)];
        case "link":
          return [name, value.replace(/<([^<>]+)>/g, (_, address: string) => `<${this.#address(address, asked)}>`)];
        case "www-authenticate":
          return [name, this.#realms.localize(value, this.#host)];
        default:
          return [name, value];
      }
    });
  }

  /**
   * Upstream's own addresses become paths, which every client resolves; others, such as a bucket's, stay, and are whole:
   * a client would take a path of a realm elsewhere for one of the relay's.
   */
  #address(address: string, asked: URL): string {
    if (!URL.canParse(address, asked.href)) return address;
    const url = new URL(address, asked);
    const names = /^([a-z][a-z\d+.-]*:)?(\/\/)?/i.exec(address);
    if (!isUpstream(url, this.#upstream)) return names?.[1] === undefined ? url.href : address;
    return names?.[2] === undefined ? address : url.pathname + url.search + url.hash;
  }
}

/** Sends an answer that was read whole. */
export async function sendAnswer(
  response: ServerResponse,
  answer: Answer,
  translation: Translation,
  asked: URL,
): Promise<void> {
  await readRest(response);
  const fields = without(translation.fields(answer.fields, asked), "content-length", "trailer");
  const length = answer.status === 204 ? [] : ["Content-Length", String(answer.body.length)];
  response.writeHead(answer.status, answer.message, [...fields.flat(), ...length]);
  response.end(answer.body);
}

/** In the envelope of distribution-spec v1.1.1 «Error Codes». */
export async function sendError(response: ServerResponse, error: OciError): Promise<void> {
  await readRest(response);
  const { code, message, detail, status } = error;
  const body = Buffer.from(JSON.stringify({ errors: [{ code, message: `${message}: ${detail.reason}`, detail }] }));
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": body.length });
  response.end(body);
}

/** How long a client is read that is to be told something, ms. */
const REST_MS = 10_000;

/**
 * Reads what a client still sends to nowhere. One that asked for the connection to be closed would find it closed while it
 * writes, and lose the answer; on others the rest is read after it.
 */
export async function readRest({ req: client, shouldKeepAlive }: ServerResponse): Promise<void> {
  if (client.complete) return;
  client.resume();
  if (shouldKeepAlive) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, REST_MS);
    for (const event of ["end", "close", "error"]) {
      client.once(event, () => {
        clearTimeout(timer);
        resolve();
      });
    }
  });
}

/** A request's body, as far as its refusal tells of it. */
export interface RefusedBody {
  /** null: it is not known */
  readonly lengthBytes: number | null;
  /** Of an upload, and so one that can be cut. */
  readonly isUpload: boolean;
}

/** A 413 that is no registry's: no client can show it. null: it is something else. */
export function bodyRefusal(
  status: number,
  fields: readonly Field[],
  { lengthBytes, isUpload }: RefusedBody,
): OciError | null {
  if (status !== 413 || /\bjson\b/i.test(valueOf(fields, "content-type") ?? "")) return null;
  const size = lengthBytes === null ? "of this size" : `of ${String(lengthBytes)} bytes`;
  const mend = isUpload ? ": start the relay with a smaller --max-body" : "";
  return new OciError(
    "SIZE_INVALID",
    { reason: `what stands before the registry takes no body ${size}${mend}` },
    { status: 413 },
  );
}
