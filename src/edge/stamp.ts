import type { Context } from "hono";
import type { RepositoryEnv } from "../env.ts";

/** What every answer says besides; it is put on each at the end, unless it was made with it. */
export function stampOf(requestId: string): Record<string, string> {
  return { "Docker-Distribution-API-Version": "registry/2.0", "X-Request-Id": requestId };
}

/** For the warm pulls: to put a header on an answer that stands costs as much as all that the cache does. */
export function stampedResponse(
  c: Context<RepositoryEnv>,
  body: BodyInit | null,
  headers: Readonly<Record<string, string>>,
): Response {
  c.set("isStamped", true);
  return new Response(body, { headers: { ...headers, ...stampOf(c.get("requestId")) } });
}
