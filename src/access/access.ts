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
        reason: "this registry serves callers on its own machine only (localhost)",
        right,
      });
    }
    // A page of another site can make the browser send a POST here; a client is no browser and says nothing of sites.
    if (right !== "pull" && c.req.header("sec-fetch-site") === "cross-site") {
      throw new OciError("DENIED", { reason: "a page of another site may not change anything here", right });
    }
    if (repository !== null) c.set("repository", repository);
    c.set("principal", { name: "loopback" });
    c.set("may", (other, where) => decide({ hostname, right: other, repository: where }));
    await next();
  });
}
