import type { Context } from "hono";
import { createMiddleware } from "hono/factory";
import type { RepositoryEnv } from "../env.ts";
import { OciError } from "../oci/errors.ts";
import { parseRepositoryName } from "../oci/repository.ts";
import { decide, type Right } from "./policy.ts";

/**
 * The one middleware that decides. It stands on each route line, where it states the right that the route needs;
 * a `use` on a pattern above the routes would swallow the greedy name in their paths.
 * @throws OciError NAME_INVALID, DENIED
 */
export function access(right: Right) {
  return createMiddleware<RepositoryEnv>(async (c, next) => {
    const { hostname } = new URL(c.req.url);
    const name = c.req.param("name");
    const repository = name === undefined ? null : parseRepositoryName(name);
    if (!decide({ hostname, right, repository })) {
      throw new OciError("DENIED", {
        reason: "this registry serves its own machine only: call it localhost or 127.0.0.1",
        host: hostname,
        right,
      });
    }
    if (right !== "pull" && isForeignPage(c)) {
      throw new OciError("DENIED", { reason: "a page of another site may not change anything here", right });
    }
    if (repository !== null) c.set("repository", repository);
    c.set("principal", { name: "loopback" });
    c.set("may", (other, where) => decide({ hostname, right: other, repository: where }));
    await next();
  });
}

/**
 * Whether a page of another origin made the browser send this, which it can do with a POST: another site's, or that of
 * another program on this machine. A client is no browser and says nothing of origins.
 */
function isForeignPage(c: Context): boolean {
  const site = c.req.header("sec-fetch-site");
  if (site !== undefined) return site !== "same-origin" && site !== "none";
  const origin = c.req.header("origin");
  return origin !== undefined && origin !== new URL(c.req.url).origin;
}
