import type { Context } from "hono";
import { matchedRoutes } from "hono/route";

/**
 * The short names of the routes, for logs and figures: the end-ids of distribution-spec v1.1.1 «Endpoints», and names of
 * our own where it has none. What shares a route has the first one's.
 */
const endpoints: Readonly<Record<string, string>> = {
  "GET /v2/": "end-1",
  "GET /v2": "end-1",
  "GET /v2/_catalog": "catalog",
  "GET /v2/:name/blobs/:digest": "end-2",
  "GET /v2/:name/manifests/:reference": "end-3",
  "POST /v2/:name/blobs/uploads": "end-4",
  "PATCH /v2/:name/blobs/uploads/:upload": "end-5",
  "PUT /v2/:name/blobs/uploads/:upload": "end-6",
  "PUT /v2/:name/manifests/:reference": "end-7",
  "GET /v2/:name/tags/list": "end-8",
  "DELETE /v2/:name/manifests/:reference": "end-9",
  "DELETE /v2/:name/blobs/:digest": "end-10",
  "GET /v2/:name/referrers/:digest": "end-12",
  "GET /v2/:name/blobs/uploads/:upload": "end-13",
  "DELETE /v2/:name/blobs/uploads/:upload": "end-14",
  "GET /token": "token",
  "POST /token": "token",
  "GET /healthz": "healthz",
  "GET /readyz": "readyz",
  "GET /metrics": "metrics",
};

const known = new Map<string, string>();

/** @param path the pattern of the route; another endpoint of the management API is `api`, what is none `none` */
export function endpointOf(method: string, path: string): string {
  const key = `${method === "HEAD" ? "GET" : method} ${path}`;
  const found = known.get(key);
  if (found !== undefined) return found;
  // A pattern says how its parts look, which is none of its name; an upload's last slash may be left out.
  const plain = key.replaceAll(/\{(?:[^{}]|\{[^{}]*\})*\}/g, "").replace(/(?<=.\/uploads)\/$/, "");
  const endpoint = endpoints[plain] ?? (path.startsWith("/api/") ? "api" : "none");
  known.set(key, endpoint);
  return endpoint;
}

/** By the pattern of the route's own line; what is for all of them has none of its own. */
export function endpointOfRoute(c: Context): string {
  const path = matchedRoutes(c).findLast((route) => route.path !== "/*")?.path ?? "";
  return endpointOf(c.req.method, path);
}
