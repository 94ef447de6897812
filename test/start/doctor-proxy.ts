/** A proxy before a registry that spoils one thing. It passes Host on, so that the registry takes its name for its own. */
import { once } from "node:events";
import http, { type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import https from "node:https";
import { buffer } from "node:stream/consumers";
import type { Certificate } from "./doctor-certificate.ts";

export interface ProxyAnswer {
  status: number;
  readonly headers: IncomingHttpHeaders;
  body: Buffer;
  /** only so many bytes of it are sent; then the connection ends */
  cutAfterBytes?: number;
}

/** What is asked. */
export interface ProxyRequest {
  readonly method: string;
  /** path and query; a spoiler may write another */
  target: string;
  readonly headers: IncomingHttpHeaders;
}

export interface Spoiler {
  /** Before the registry is asked: an answer in its place, "hang" for none, or null. */
  readonly before?: (request: ProxyRequest, proxy: Proxy) => ProxyAnswer | "hang" | null;
  /** What the registry answered, to be changed. */
  readonly after?: (request: ProxyRequest, answer: ProxyAnswer, proxy: Proxy) => void;
}

export interface Proxy {
  readonly url: string;
  readonly host: string;
  /** Each request as it came. */
  readonly requests: readonly ProxyRequest[];
  close(): void;
}

/** @param registry its URL */
export async function startProxy(
  registry: string,
  spoiler: Spoiler,
  certificate: Certificate | null = null,
): Promise<Proxy> {
  const requests: ProxyRequest[] = [];
  const listener = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    const request = { method: incoming.method ?? "", target: incoming.url ?? "", headers: { ...incoming.headers } };
    requests.push({ ...request });
    void serve(registry, spoiler, proxy, { request, incoming, outgoing }).catch(() => outgoing.destroy());
  };
  const server = certificate === null ? http.createServer(listener) : https.createServer({ ...certificate }, listener);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("a TCP server has an address with a port");
  const host = `127.0.0.1:${String(address.port)}`;
  const proxy: Proxy = {
    url: `${certificate === null ? "http" : "https"}://${host}`,
    host,
    requests,
    close() {
      server.close().closeAllConnections();
    },
  };
  return proxy;
}

interface Exchange {
  readonly request: ProxyRequest;
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
}

async function serve(
  registry: string,
  { before, after }: Spoiler,
  proxy: Proxy,
  { request, incoming, outgoing }: Exchange,
): Promise<void> {
  const own = before?.(request, proxy) ?? null;
  if (own === "hang") return;
  const answer = own ?? (await ask(registry, request, await buffer(incoming)));
  if (own === null) {
    // A proxy that ends TLS would pass on that it did, and the registry would say https by itself.
    const challenge = answer.headers["www-authenticate"];
    if (challenge !== undefined && proxy.url.startsWith("https:")) {
      answer.headers["www-authenticate"] = challenge.replace('realm="http:', 'realm="https:');
    }
    after?.(request, answer, proxy);
  }
  outgoing.sendDate = false;
  outgoing.writeHead(answer.status, answer.headers);
  if (answer.cutAfterBytes === undefined) {
    outgoing.end(request.method === "HEAD" ? undefined : answer.body);
    return;
  }
  outgoing.write(answer.body.subarray(0, answer.cutAfterBytes), () => outgoing.destroy());
}

async function ask(registry: string, { method, target, headers }: ProxyRequest, body: Buffer): Promise<ProxyAnswer> {
  const { hostname, port } = new URL(registry);
  const outgoing = http.request({ hostname, port, path: target, method, headers, agent: new http.Agent() });
  outgoing.end(body);
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    outgoing.once("response", resolve).once("error", reject);
  });
  const { connection: _connection, "transfer-encoding": _encoding, ...rest } = response.headers;
  return { status: response.statusCode ?? 0, headers: rest, body: await buffer(response) };
}
