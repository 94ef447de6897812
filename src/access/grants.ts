import { z } from "zod";
import type { RepositoryName } from "../oci/repository.ts";
import { matchesPattern, repositoryPatternGrammar } from "../oci/repository-pattern.ts";

/** What can be granted on a repository; each for itself: `push` alone can't pull, and only `delete` deletes. */
export const grantableRights = ["pull", "push", "delete"] as const;
export type RepositoryRight = (typeof grantableRights)[number];

/** Rights that no grant takes yet; named, so that nobody's grant comes to mean more one day than when it was made. */
const reservedRights = new Set(["metadata", "admin"]);

/** Some rights on the repositories of a pattern. Written `team-a/*:pull,push`. */
export interface Grant {
  readonly pattern: string;
  readonly rights: readonly RepositoryRight[];
}

export type Grants = readonly Grant[];

/** Most grants of one principal: they ride in its answers and are looked through at each of its requests. */
export const GRANTS_MAX = 100;

export function allows(grants: Grants, right: RepositoryRight, repository: RepositoryName): boolean {
  return grants.some((grant) => grant.rights.includes(right) && matchesPattern(repository, grant.pattern));
}

/** The patterns of what may be pulled. */
export function pullPatterns(grants: Grants): readonly string[] {
  return grants.filter((grant) => grant.rights.includes("pull")).map((grant) => grant.pattern);
}

export function formatGrant({ pattern, rights }: Grant): string {
  return `${pattern}:${rights.join(",")}`;
}

export function isGrantableRight(value: string): value is RepositoryRight {
  return grantableRights.some((right) => right === value);
}

/** A grant as its text, read and checked; anything but known rights on a pattern is refused in words. */
export const grantSchema = z.string().transform((text, context): Grant => {
  const colon = text.lastIndexOf(":");
  const pattern = text.slice(0, Math.max(0, colon));
  const rights = text.slice(colon + 1).split(",");
  const refuse = (message: string): never => {
    context.addIssue({ code: "custom", message, input: text });
    return z.NEVER;
  };
  if (!repositoryPatternGrammar.test(pattern)) {
    return refuse("a grant is <repository pattern>:<rights>, such as team-a/*:pull,push");
  }
  const unknown = rights.find((right) => !isGrantableRight(right));
  if (unknown !== undefined) {
    return refuse(
      reservedRights.has(unknown)
        ? `the right ${unknown} is reserved and can't be granted yet; use ${grantableRights.join(", ")}`
        : `"${unknown.slice(0, 40)}" is no right; use ${grantableRights.join(", ")}`,
    );
  }
  return { pattern, rights: grantableRights.filter((right) => rights.includes(right)) };
});

/** Grants as somebody writes them. */
export const grantsSchema = z
  .array(grantSchema)
  .max(GRANTS_MAX)
  .meta({
    description:
      "each is <repository pattern>:<rights>; * is one part of a name or a piece of it, ** any number of parts",
    examples: [["team-a/*:pull,push"]],
  });

/** Grants as they are kept and told: their texts. */
export const grantTextsSchema = z.array(z.string()).meta({ examples: [["team-a/*:pull,push"]] });
