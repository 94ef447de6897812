import { SCOPES_MAX } from "../limits.ts";
import { OciError } from "../oci/errors.ts";
import { isRepositoryName, type RepositoryName } from "../oci/repository.ts";
import { grantableRights, isGrantableRight, type RepositoryRight } from "./grants.ts";

/** What a token is asked for, or says. */
export interface Scopes {
  readonly repositories: ReadonlyMap<RepositoryName, ReadonlySet<RepositoryRight>>;
  /** `registry:catalog:*` */
  readonly catalog: boolean;
}

/**
 * Reads scopes in the form of the distribution project's token specification: `repository:<name>:<action>,…` and
 * `registry:catalog:*`. What is neither (a placeholder, another registry's extension) is passed over: it asks for
 * nothing that there is. `*` stands for every right.
 * @param texts each may hold several scopes, parted by spaces
 * @throws OciError DENIED (400) where there are more than a token can hold
 */
export function parseScopes(texts: readonly string[]): Scopes {
  const repositories = new Map<RepositoryName, Set<RepositoryRight>>();
  let catalog = false;
  for (const scope of texts.flatMap((text) => text.split(/\s+/))) {
    const [type = "", ...rest] = scope.split(":");
    const actions = rest.pop()?.split(",") ?? [];
    const name = rest.join(":");
    if (type === "registry" && name === "catalog") catalog ||= actions.includes("*");
    // `repository(plugin)` is a resource with a class; what it names is a repository all the same.
    if (!/^repository(\([a-z0-9]+\))?$/.test(type) || !isRepositoryName(name)) continue;
    const rights = actions.includes("*") ? grantableRights : actions.filter(isGrantableRight);
    const known = repositories.get(name) ?? new Set();
    for (const right of rights) known.add(right);
    repositories.set(name, known);
  }
  if (repositories.size > SCOPES_MAX) {
    throw new OciError(
      "DENIED",
      {
        reason: `a token names at most ${String(SCOPES_MAX)} repositories; ask for another one`,
        repositories: repositories.size,
      },
      { status: 400 },
    );
  }
  return { repositories, catalog };
}

/** The text of a repository's scope, its rights in the order in which clients write them. */
export function repositoryScope(repository: RepositoryName, rights: Iterable<RepositoryRight>): string {
  const wanted = new Set(rights);
  return `repository:${repository}:${grantableRights.filter((right) => wanted.has(right)).join(",")}`;
}

export const catalogScope = "registry:catalog:*";
