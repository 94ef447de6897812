import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { grantableRights } from "../../../src/access/grants.ts";
import { permissionsOf } from "../../../src/access/policy.ts";
import { parseScopes, repositoryScope } from "../../../src/access/scope.ts";
import { SCOPES_MAX } from "../../../src/limits.ts";
import { OciError } from "../../../src/oci/errors.ts";
import { isRepositoryName, parseRepositoryName } from "../../../src/oci/repository.ts";
import { divideScopes } from "../../../src/token/divide-scopes.ts";

function read(...texts: readonly string[]): { repositories: Record<string, string[]>; catalog: boolean } {
  const { repositories, catalog } = parseScopes(texts);
  return {
    repositories: Object.fromEntries([...repositories].map(([name, rights]) => [name, [...rights].toSorted()])),
    catalog,
  };
}

describe("a scope", () => {
  it.each([
    ["repository:a/b:pull", { "a/b": ["pull"] }],
    ["repository:a/b:push,pull", { "a/b": ["pull", "push"] }],
    ["repository:a/b:*", { "a/b": ["delete", "pull", "push"] }],
    ["repository:a:pull repository:b:push", { a: ["pull"], b: ["push"] }],
    ["repository:a:pull  repository:a:push ", { a: ["pull", "push"] }],
    ["repository(plugin):a/b:pull", { "a/b": ["pull"] }],
    ["repository:a/b:pull,metadata,admin,fly", { "a/b": ["pull"] }],
    ["repository:a/b:", { "a/b": [] }],
  ])("is read: %j", (text, repositories) => {
    expect(read(text)).toEqual({ repositories, catalog: false });
  });

  it.each([
    "",
    "pull",
    "repository",
    "repository:a",
    "repository:A/b:pull",
    "repository:a//b:pull",
    "repository:../a:pull",
    "repository:a%2fb:pull",
    "repository::pull",
    "repository:host:5000/a:pull",
    "Repository:a:pull",
    "repositories:a:pull",
    "registry:other:*",
    "registry:catalog:pull",
    "aws",
    "repository:__proto__:pull",
  ])("that names nothing there is asks for nothing: %j", (text) => {
    expect(read(text)).toEqual({ repositories: {}, catalog: false });
  });

  it("of the catalogue is told from those of repositories", () => {
    expect(read("registry:catalog:*", "repository:catalog:pull")).toEqual({
      repositories: { catalog: ["pull"] },
      catalog: true,
    });
  });

  it(`that comes with more than ${String(SCOPES_MAX)} others is refused, not cut off`, () => {
    const texts = Array.from({ length: SCOPES_MAX + 1 }, (_, index) => `repository:r${String(index)}:pull`);
    expect(parseScopes(texts.slice(1)).repositories.size).toBe(SCOPES_MAX);
    expect(() => parseScopes(texts)).toThrow(OciError);
  });

  it("is written as clients write it, whatever the order of its rights", () => {
    expect(repositoryScope(parseRepositoryName("a/b"), ["delete", "push", "pull"])).toBe(
      "repository:a/b:pull,push,delete",
    );
  });
});

describe("a token's scopes", () => {
  const names = ["a", "a/b", "a/b/c", "a/bc", "public/a"].filter(isRepositoryName);
  const rights = fc.subarray([...grantableRights]);
  const grants = fc.array(fc.record({ pattern: fc.constantFrom("a", "a/*", "a/**", "a/b", "**"), rights }), {
    maxLength: 3,
  });
  const asked = fc
    .array(fc.tuple(fc.constantFrom(...names), rights), { maxLength: 6 })
    .map((scopes) => ({ repositories: new Map(scopes.map(([name, each]) => [name, new Set(each)])), catalog: true }));

  test.prop([asked, fc.array(grants, { maxLength: 2 }), fc.boolean()])(
    "are what was asked and is allowed, and what is neither granted nor refused was not asked for",
    (scopes, lists, admin) => {
      const permissions = permissionsOf({ admin, grants: lists }, ["public/*"]);
      const { granted, refused } = divideScopes(scopes, permissions);
      for (const name of names) {
        for (const right of grantableRights) {
          const wanted = scopes.repositories.get(name)?.has(right) ?? false;
          const may = permissions.may(right, name);
          expect(granted.repositories.get(name)?.has(right) ?? false).toBe(wanted && may);
          expect(refused.repositories.get(name)?.has(right) ?? false).toBe(wanted && !may);
        }
      }
    },
  );
});
