/**
 * Whether a request comes from a program that was told of the relay. A browser on this machine reaches it too, and would
 * lend its place in the network to any page: by a form or a script (which it marks), or by a name of the page's own that
 * it makes lead here (DNS rebinding), which `Host` gives away.
 */
import type { IncomingHttpHeaders } from "node:http";
import { isIP } from "node:net";
import { isLoopback } from "../../src/access/trust-rule.ts";

/** @returns why it is refused; null: it is not */
export function refusalOf(headers: IncomingHttpHeaders, listenHost: string): string | null {
  const site = headers["sec-fetch-site"];
  if (headers.origin !== undefined || (site !== undefined && site !== "none")) {
    return "the relay serves programs of this machine, and no web pages";
  }
  const { host = "" } = headers;
  return isOwnHost(host, listenHost) ? null : `the relay is not ${JSON.stringify(host)}: it goes by localhost`;
}

function isOwnHost(host: string, listenHost: string): boolean {
  if (!URL.canParse(`http://${host}/`)) return false;
  const { hostname, host: parsed } = new URL(`http://${host}/`);
  // A path, a user or a query in it is no host.
  if (parsed !== host.toLowerCase().replace(/:80$/, "")) return false;
  if (isLoopback(hostname)) return true;
  if (hostname === listenHost.toLowerCase() || hostname === `[${listenHost.toLowerCase()}]`) return true;
  // On all addresses it goes by each of them; no name of a page's is an address.
  return isWildcard(listenHost) && isIP(hostname.replace(/^\[|\]$/g, "")) !== 0;
}

function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}
