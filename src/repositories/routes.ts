import { Hono } from "hono";
import { access } from "../access/access.ts";
import type { RepositoryEnv } from "../env.ts";
import { json } from "../http/text.ts";
import { nextLink, pageQuery } from "../http/page.ts";
import { REPOSITORIES_PAGE_MAX } from "../limits.ts";
import { listRepositories } from "./store.ts";

export const repositories = new Hono<RepositoryEnv>();

/** end-1, GET and HEAD: distribution-spec v1.1.1 «Determining Support». No operation. */
repositories.on("GET", ["/v2/", "/v2"], access("pull"), () => json({}));

/** The catalogue, of extensions/ in distribution-spec v1.1.1; pages as tags do. D1: 1. */
repositories.get("/v2/_catalog", access("pull"), async (c) => {
  const { limit, last } = pageQuery(c, REPOSITORIES_PAGE_MAX);
  const found = await listRepositories(c.env.DB, last, limit + 1);
  const page = found.slice(0, limit);
  const next = page.at(-1);
  const more = found.length > limit && next !== undefined;
  return json({ repositories: page }, more ? nextLink(c.req.path, { last: next, n: String(limit) }) : {});
});
