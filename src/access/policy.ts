import type { RepositoryName } from "../oci/repository.ts";
import { matchesAnyPattern } from "../oci/repository-pattern.ts";
import { allows, type Grants, pullPatterns, type RepositoryRight } from "./grants.ts";
import type { Principal } from "../requester.ts";
import type { Scopes } from "./scope.ts";

/**
 * What a route asks of its caller: a right on the repository that its path names, or, where it names none, to be known
 * (`login`), to list the catalogue, or to administer. `public` asks nothing.
 */
export type Right = RepositoryRight | "login" | "catalog" | "admin" | "public";

/**
 * A principal with what it may do whatever a token of it says. Each list of grants must allow a thing: those of a user,
 * and those to which the user's access token is narrowed.
 */
export interface Authority extends Holder {
  readonly admin: boolean;
  readonly grants: readonly Grants[];
}

/** A principal, and what it is held against when a token of it comes back. */
export interface Holder {
  readonly principal: Principal;
  /** by which a job was taken; null: it is none */
  readonly rules: RulesTaken | null;
  /** of the password by which it is known, as `proof.ts` has it; null: it is known by something else */
  readonly proof: string | null;
}

/** Trust rules that took a job's token. */
export interface RulesTaken {
  readonly issuer: string;
  /** each stands for whom one rule takes, as it was: see `markOf` */
  readonly marks: readonly string[];
}

/** Patterns of which one in every list must match a repository for it to be listed. */
export type CatalogFilter = readonly (readonly string[])[];

/** What one request may do. Decided from what it brought, without asking anybody. */
export interface Permissions {
  readonly may: (right: RepositoryRight, repository: RepositoryName) => boolean;
  /**
   * Whether who asks pushes there: with this token or another of theirs. Some clients look with a token for pulls whether they
   * have to send a blob (regctl), and are told then what is so now, as are those whose token is for both.
   */
  readonly pushes: (repository: RepositoryName) => boolean;
  /** null: it may not list the catalogue */
  readonly catalog: CatalogFilter | null;
  readonly admin: boolean;
}

/** @param publicPatterns repositories that everybody may pull (ANONYMOUS_PULL) */
export function permissionsOf(
  authority: Pick<Authority, "admin" | "grants">,
  publicPatterns: readonly string[],
): Permissions {
  const catalog = authority.admin ? [["**"]] : authority.grants.map(pullPatterns);
  const may: Permissions["may"] = (right, repository) =>
    authority.admin ||
    (authority.grants.length > 0 && authority.grants.every((grants) => allows(grants, right, repository))) ||
    isPublic(right, repository, publicPatterns);
  return {
    may,
    pushes: (repository) => may("push", repository),
    catalog: withPublic(catalog, publicPatterns),
    admin: authority.admin,
  };
}

/** By the setting's own array: most requests that nobody sends are for the same one. */
const ofNobody = new WeakMap<readonly string[], Permissions>();

export function anonymousPermissions(publicPatterns: readonly string[]): Permissions {
  const known = ofNobody.get(publicPatterns);
  if (known !== undefined) return known;
  const permissions = permissionsOf({ admin: false, grants: [] }, publicPatterns);
  ofNobody.set(publicPatterns, permissions);
  return permissions;
}

/** What a token of /token carries. */
export interface ScopedPermissions {
  readonly granted: Scopes;
  /** repositories to which its holder may push, and it may not */
  readonly pushable: readonly RepositoryName[];
  /** the patterns to list by, where `registry:catalog:*` was granted */
  readonly catalog: CatalogFilter | null;
}

/** What a bearer token says may be done: its scopes and no more, but that what everybody may pull stays open to it. */
export function permissionsOfScopes(
  { granted, pushable, catalog }: ScopedPermissions,
  publicPatterns: readonly string[],
): Permissions {
  const has = (right: RepositoryRight, repository: RepositoryName): boolean =>
    granted.repositories.get(repository)?.has(right) ?? false;
  return {
    may: (right, repository) => has(right, repository) || isPublic(right, repository, publicPatterns),
    pushes: (repository) => has("push", repository) || pushable.includes(repository),
    catalog,
    admin: false,
  };
}

/** What both allow. */
export function permissionsOfBoth(one: Permissions, other: Permissions): Permissions {
  return {
    may: (right, repository) => one.may(right, repository) && other.may(right, repository),
    pushes: (repository) => one.pushes(repository) && other.pushes(repository),
    catalog: one.catalog === null || other.catalog === null ? null : [...one.catalog, ...other.catalog],
    admin: one.admin && other.admin,
  };
}

export function isListed(repository: RepositoryName, filter: CatalogFilter): boolean {
  return filter.every((patterns) => matchesAnyPattern(repository, patterns));
}

function isPublic(right: RepositoryRight, repository: RepositoryName, publicPatterns: readonly string[]): boolean {
  return right === "pull" && matchesAnyPattern(repository, publicPatterns);
}

/** A list that everybody's patterns are added to lists no less than those patterns, and no more than either. */
function withPublic(lists: CatalogFilter, publicPatterns: readonly string[]): CatalogFilter | null {
  const all = lists.length === 0 ? [[]] : lists;
  const filter = all.map((patterns) => [...patterns, ...publicPatterns]);
  return filter.some((patterns) => patterns.length === 0) ? null : filter;
}

/** Whom a request comes from, and what it may do. */
export interface Caller {
  readonly principal: Principal;
  readonly permissions: Permissions;
  /**
   * `nobody`: nothing was sent, or nothing that holds. `bearer`: a token of /token, which says what it may.
   * `credentials`: what could be sent to /token too.
   */
  readonly proof: "nobody" | "bearer" | "credentials";
  /** a bearer was sent that is none of this registry, or none any more */
  readonly badBearer: boolean;
  /** whose `credentials` they are, with all that is granted to it */
  readonly authority: Authority | null;
  /** what a bearer's holder asked for and may do */
  readonly granted: Scopes | null;
  /** what a bearer's holder asked for and may not do */
  readonly refused: Scopes | null;
}
