import { Hono } from "hono";
import { access } from "../access/access.ts";
import { read } from "../databases.ts";
import type { RepositoryEnv } from "../env.ts";
import { json } from "../http/text.ts";
import { nextLink, pageQuery } from "../http/page.ts";
import { TAGS_PAGE_MAX } from "../limits.ts";
import { OciError } from "../oci/errors.ts";
import { listTags } from "./store.ts";

export const tags = new Hono<RepositoryEnv>();

/** end-8a, end-8b: distribution-spec v1.1.1 «Listing Tags»; in byte order, which main allows by name. D1: 1; 2 where a replica is asked that does not have the repository. */
tags.get("/v2/:name{.+}/tags/list", access("pull"), async (c) => {
  const name = c.var.repository;
  const { limit, last } = pageQuery(c, TAGS_PAGE_MAX);
  const isPrimary = c.var.caller.permissions.pushes(name);
  const found = await read(c.env, name, { by: "name", isPrimary }, async (queryable) =>
    listTags(queryable, name, last, limit + 1),
  );
  if (found === null) throw new OciError("NAME_UNKNOWN", { reason: "no such repository", name });
  const page = found.slice(0, limit);
  const next = page.at(-1);
  const more = found.length > limit && next !== undefined;
  return json({ name, tags: page }, more ? nextLink(c.req.path, { last: next, n: String(limit) }) : {});
});
