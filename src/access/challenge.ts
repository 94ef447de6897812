import type { Context } from "hono";
import { isRepositoryName, type RepositoryName } from "../oci/repository.ts";
import type { RepositoryRight } from "./grants.ts";
import type { Right } from "./policy.ts";
import { catalogScope, repositoryScope } from "./scope.ts";

/** The rights that a client asks for at once where it needs one: who pushes also looks what is there. */
const asked: Readonly<Record<RepositoryRight, readonly RepositoryRight[]>> = {
  pull: ["pull"],
  push: ["pull", "push"],
  delete: ["delete"],
};

/**
 * The `WWW-Authenticate` of a 401: where to get a token, and for what. RFC 6750 section 3, with the parameters of the
 * distribution project's token specification. A mount names its source too: a token must have both.
 */
export function challenge(
  c: Context,
  right: Right,
  repository: RepositoryName | null,
  error: "invalid_token" | "insufficient_scope" | null,
  source: RepositoryName | null = sourceOf(c, right),
): string {
  const { origin, host } = new URL(c.req.url);
  const scope = scopeOf(right, repository, source);
  const parameters = [
    `realm="${origin}/token"`,
    `service="${host}"`,
    ...(scope === "" ? [] : [`scope="${scope}"`]),
    ...(error === null ? [] : [`error="${error}"`]),
  ];
  return `Bearer ${parameters.join(",")}`;
}

function scopeOf(right: Right, repository: RepositoryName | null, source: RepositoryName | null): string {
  if (right === "catalog") return catalogScope;
  if (repository === null || right === "login" || right === "admin" || right === "public") return "";
  const scopes = [repositoryScope(repository, asked[right])];
  if (source !== null && source !== repository) scopes.push(repositoryScope(source, ["pull"]));
  return scopes.join(" ");
}

/** The repository that a mount names as its source. */
function sourceOf(c: Context, right: Right): RepositoryName | null {
  const from = right === "push" && c.req.query("mount") !== undefined ? c.req.query("from") : undefined;
  return from !== undefined && isRepositoryName(from) ? from : null;
}
