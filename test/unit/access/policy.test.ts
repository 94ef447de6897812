import { describe, expect, it } from "vitest";
import { type Grants, grantsSchema } from "../../../src/access/grants.ts";
import {
  anonymousPermissions,
  isListed,
  permissionsOf,
  permissionsOfBoth,
  permissionsOfScopes,
} from "../../../src/access/policy.ts";
import { parseScopes } from "../../../src/access/scope.ts";
import { parseRepositoryName } from "../../../src/oci/repository.ts";

const grants = (...texts: string[]): Grants => grantsSchema.parse(texts);
const may = (lists: readonly Grants[], publicPatterns: readonly string[] = []) => {
  const permissions = permissionsOf({ admin: false, grants: lists }, publicPatterns);
  return (right: "pull" | "push" | "delete", name: string) => permissions.may(right, parseRepositoryName(name));
};

describe("grants", () => {
  it("open what they name, each right for itself", () => {
    const somebody = may([grants("a/*:pull,push", "b:delete")]);
    expect(somebody("pull", "a/x")).toBe(true);
    expect(somebody("push", "a/x")).toBe(true);
    expect(somebody("delete", "a/x")).toBe(false);
    expect(somebody("delete", "b")).toBe(true);
    expect(somebody("pull", "b")).toBe(false);
  });

  it("of a/b open neither a/b/c nor a/bc nor a", () => {
    const somebody = may([grants("a/b:pull")]);
    expect(["a/b", "a/b/c", "a/bc", "a", "xa/b"].filter((name) => somebody("pull", name))).toEqual(["a/b"]);
  });

  it("of a user and of its token must both allow a thing", () => {
    const narrowed = may([grants("a/**:pull,push"), grants("a/b:pull", "c:pull")]);
    expect(narrowed("pull", "a/b")).toBe(true);
    expect(narrowed("push", "a/b")).toBe(false);
    expect(narrowed("pull", "a/c")).toBe(false);
    expect(narrowed("pull", "c")).toBe(false);
    expect(may([grants("**:pull"), []])("pull", "a")).toBe(false);
  });

  it("that nobody has open nothing; what is public is open to all, to pull", () => {
    expect(may([])("pull", "a")).toBe(false);
    expect(may([[]], ["public/**"])("pull", "public/a")).toBe(true);
    expect(may([grants("public/**:push")], ["public/**"])("delete", "public/a")).toBe(false);
    const nobody = anonymousPermissions(["public/**"]);
    expect(nobody.may("pull", parseRepositoryName("public/a"))).toBe(true);
    expect(nobody.may("push", parseRepositoryName("public/a"))).toBe(false);
    expect(nobody.may("pull", parseRepositoryName("private/a"))).toBe(false);
  });

  it.each([
    ["a/*:pull,admin", /reserved/],
    ["a/*:metadata", /reserved/],
    ["a/*:fly", /no right/],
    ["a/*:", /no right/],
    ["a/*", /<repository pattern>:<rights>/],
    [":pull", /<repository pattern>:<rights>/],
    ["A/*:pull", /<repository pattern>:<rights>/],
    ["a/../b:pull,*", /no right/],
  ])("that can't be read are refused in words: %j", (text, reason) => {
    expect(grantsSchema.safeParse([text]).error?.issues[0]?.message).toMatch(reason);
  });
});

const listed = (lists: readonly Grants[], publicPatterns: readonly string[]): string[] | null => {
  const { catalog } = permissionsOf({ admin: false, grants: lists }, publicPatterns);
  const names = ["a/x", "b", "public/a"].map((name) => parseRepositoryName(name));
  return catalog === null ? null : names.filter((name) => isListed(name, catalog));
};

describe("the catalogue", () => {
  it("has what may be pulled, and no more", () => {
    expect(listed([grants("a/*:pull", "b:push")], ["public/*"])).toEqual(["a/x", "public/a"]);
    expect(listed([grants("**:pull"), grants("b:pull")], [])).toEqual(["b"]);
    expect(listed([grants("**:pull"), grants("b:pull")], ["public/*"])).toEqual(["b", "public/a"]);
    expect(listed([], ["public/*"])).toEqual(["public/a"]);
  });

  it("is no one's who may pull nothing", () => {
    expect(listed([], [])).toBeNull();
    expect(listed([grants("b:push")], [])).toBeNull();
  });
});

describe("a bearer", () => {
  it("opens its scopes and what is public, whatever its principal may do besides", () => {
    const permissions = permissionsOfScopes(
      { granted: parseScopes(["repository:a:pull"]), pushable: [], catalog: null },
      ["public/*"],
    );
    expect(permissions.may("pull", parseRepositoryName("a"))).toBe(true);
    expect(permissions.may("push", parseRepositoryName("a"))).toBe(false);
    expect(permissions.may("pull", parseRepositoryName("a/b"))).toBe(false);
    expect(permissions.may("pull", parseRepositoryName("public/a"))).toBe(true);
    expect(permissions.may("push", parseRepositoryName("public/a"))).toBe(false);
    expect(permissions.admin).toBe(false);
  });
});

describe("what two allow", () => {
  const one = permissionsOf({ admin: false, grants: [grants("a/*:pull,push", "b:pull")] }, []);
  const other = permissionsOf({ admin: true, grants: [] }, []);
  const less = permissionsOf({ admin: false, grants: [grants("a/x:pull", "c:pull")] }, []);
  const none = permissionsOf({ admin: false, grants: [] }, []);

  it("is what each of them allows", () => {
    const both = permissionsOfBoth(one, less);
    const [x, y, c] = ["a/x", "a/y", "c"].map((name) => parseRepositoryName(name));
    if (x === undefined || y === undefined || c === undefined) throw new Error("three names");
    expect([x, y, c].map((name) => both.may("pull", name))).toEqual([true, false, false]);
    expect([both.may("push", x), both.pushes(x), both.admin]).toEqual([false, false, false]);
    expect([x, y, c].map((name) => isListed(name, both.catalog ?? [[]]))).toEqual([true, false, false]);
    expect(permissionsOfBoth(one, other).pushes(y)).toBe(true);
    expect(permissionsOfBoth(other, other).admin).toBe(true);
    expect(permissionsOfBoth(one, none).catalog).toBeNull();
  });
});
