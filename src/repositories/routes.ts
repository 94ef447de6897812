import { Hono } from "hono";
import { access } from "../access/access.ts";
import type { RepositoryEnv } from "../env.ts";
import { json } from "../http/text.ts";
import { type CatalogFilter, isListed } from "../access/policy.ts";
import { nextLink, pageQuery } from "../http/page.ts";
import { REPOSITORIES_PAGE_MAX } from "../limits.ts";
import { literalPrefix } from "../oci/repository-pattern.ts";
import { type ListedRepositories, listRepositories } from "./store.ts";

export const repositories = new Hono<RepositoryEnv>();

/** end-1, GET and HEAD: distribution-spec v1.1.1 «Determining Support». No operation. */
repositories.on("GET", ["/v2/", "/v2"], access("login"), () => json({}));

/**
 * The catalogue, of extensions/ in distribution-spec v1.1.1; pages as tags do, and holds what the caller may pull.
 * D1: 1 for all repositories, or those of patterns such as team/**; more where a pattern begins with a star.
 */
repositories.get("/v2/_catalog", access("catalog"), async (c) => {
  const { limit, last } = pageQuery(c, REPOSITORIES_PAGE_MAX);
  const found = await listRepositories(c.env.DB, last, limit + 1, listedBy(c.var.caller.permissions.catalog ?? [[]]));
  const page = found.slice(0, limit);
  const next = page.at(-1);
  const more = found.length > limit && next !== undefined;
  return json({ repositories: page }, more ? nextLink(c.req.path, { last: next, n: String(limit) }) : {});
});

/** Any one of the lists tells enough of the names' beginnings; the one of which the fewest begin with a star, most. */
function listedBy(filter: CatalogFilter): ListedRepositories {
  const lists = filter.map((patterns) => distinctPrefixes(patterns.map(literalPrefix)));
  const [prefixes = []] = lists.toSorted((one, other) => Number(one.includes("")) - Number(other.includes("")));
  return { prefixes, includes: (repository) => isListed(repository, filter) };
}

function distinctPrefixes(prefixes: readonly string[]): readonly string[] {
  const sorted = [...new Set(prefixes)].toSorted();
  return sorted.filter((prefix) => !sorted.some((other) => other !== prefix && prefix.startsWith(other)));
}
