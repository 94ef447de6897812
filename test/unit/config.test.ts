import { describe, expect, it } from "vitest";
import { configOf, matchesPattern } from "../../src/config.ts";
import { parseRepositoryName } from "../../src/oci/repository.ts";
import { environmentWith } from "../fixtures/registry.ts";

describe("the settings", () => {
  it("are read from the bindings", () => {
    const config = configOf(
      environmentWith({ ALLOW_SPARSE: "mirror/** ,team/*\n", GC_GRACE_SECONDS: "0", UPLOAD_TTL_SECONDS: "60" }),
    );
    expect(config).toEqual({ ALLOW_SPARSE: ["mirror/**", "team/*"], GC_GRACE_SECONDS: 0, UPLOAD_TTL_SECONDS: 60 });
  });

  it("allow nothing sparse, and keep what nobody names for a day, as wrangler.toml has them", () => {
    expect(configOf(environmentWith({}))).toEqual({
      ALLOW_SPARSE: [],
      GC_GRACE_SECONDS: 86_400,
      UPLOAD_TTL_SECONDS: 86_400,
    });
  });

  it.each([
    ["GC_GRACE_SECONDS", ""],
    ["GC_GRACE_SECONDS", "-1"],
    ["GC_GRACE_SECONDS", "1.5"],
    ["GC_GRACE_SECONDS", "1h"],
    ["GC_GRACE_SECONDS", "9999999999"],
    ["UPLOAD_TTL_SECONDS", "0"],
    ["UPLOAD_TTL_SECONDS", "never"],
    ["ALLOW_SPARSE", "/mirror/**"],
    ["ALLOW_SPARSE", "mirror/"],
    ["ALLOW_SPARSE", "mirror//*"],
    ["ALLOW_SPARSE", "Team/*"],
    ["ALLOW_SPARSE", "team/[ab]"],
    ["ALLOW_SPARSE", "(a+)+"],
  ])("that are wrong fail by their name: %s=%j", (name, value) => {
    expect(() => configOf(environmentWith({ [name]: value }))).toThrow(new RegExp(`^setting ${name}\\b`));
  });
});

describe("a repository pattern", () => {
  it.each([
    ["a", "a", true],
    ["a", "ab", false],
    ["a", "a/b", false],
    ["a.b", "a.b", true],
    ["a.b", "a-b", false],
    ["a/*", "a/b", true],
    ["a/*", "a/b/c", false],
    ["a/*", "a", false],
    ["a/**", "a/b", true],
    ["a/**", "a/b/c", true],
    ["a/**", "a", false],
    ["**", "a/b/c", true],
    ["*", "a", true],
    ["*", "a/b", false],
    ["**/cache", "a/b/cache", true],
    ["a*c/d", "abc/d", true],
    ["a*c/d", "a/c/d", false],
  ])("%j on %j: %j", (pattern, name, expected) => {
    expect(matchesPattern(parseRepositoryName(name), [pattern])).toBe(expected);
  });

  it("matches where one of several does, and none where there is none", () => {
    expect(matchesPattern(parseRepositoryName("b"), ["a", "b"])).toBe(true);
    expect(matchesPattern(parseRepositoryName("b"), [])).toBe(false);
  });
});
