import type { RepositoryRight } from "../access/grants.ts";
import type { Permissions, ScopedPermissions } from "../access/policy.ts";
import type { Scopes } from "../access/scope.ts";
import type { RepositoryName } from "../oci/repository.ts";

/** What is asked for, parted into what is allowed and what is not: never more than either. */
export function divideScopes(
  asked: Scopes,
  permissions: Permissions,
): ScopedPermissions & { readonly refused: Scopes } {
  const granted = new Map<RepositoryName, Set<RepositoryRight>>();
  const refused = new Map<RepositoryName, Set<RepositoryRight>>();
  for (const [repository, rights] of asked.repositories) {
    for (const right of rights) {
      const into = permissions.may(right, repository) ? granted : refused;
      into.set(repository, (into.get(repository) ?? new Set()).add(right));
    }
  }
  const mayList = permissions.catalog !== null;
  return {
    granted: { repositories: granted, catalog: asked.catalog && mayList },
    refused: { repositories: refused, catalog: asked.catalog && !mayList },
    pushable: [...granted].flatMap(([repository, rights]) =>
      !rights.has("push") && permissions.may("push", repository) ? [repository] : [],
    ),
    catalog: asked.catalog ? permissions.catalog : null,
  };
}
