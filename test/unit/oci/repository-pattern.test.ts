import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { parseRepositoryName } from "../../../src/oci/repository.ts";
import { matchesAnyPattern, matchesPattern } from "../../../src/oci/repository-pattern.ts";

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
    ["a*b*c", "abxbxc", true],
    ["a**b*c", "ab/bc", true],
    ["a**b*c", "ab/c", false],
    ["a***", "a/b/c", true],
    ["*/b/**", "a/b/c/d", true],
    ["*/b/**", "a/a/b/c", false],
  ])("%j on %j: %j", (pattern, name, expected) => {
    expect(matchesPattern(parseRepositoryName(name), pattern)).toBe(expected);
  });

  it("matches where one of several does, and none where there is none", () => {
    expect(matchesAnyPattern(parseRepositoryName("b"), ["a", "b"])).toBe(true);
    expect(matchesAnyPattern(parseRepositoryName("b"), [])).toBe(false);
  });

  /** The same said as a regular expression, which is slow where there are many stars, and there are few here. */
  test.prop([
    fc.stringMatching(/^[ab/]{0,6}(?:\*{1,2}[ab/]{0,3}){0,3}$/),
    fc.stringMatching(/^[ab]{1,3}(?:\/[ab]{1,3}){0,3}$/),
  ])("means what its regular expression does", (pattern, name) => {
    const source = pattern
      .split(/(\*{2,}|\*)/)
      .map((piece) => (piece.startsWith("**") ? ".*" : piece === "*" ? "[^/]*" : piece))
      .join("");
    expect(matchesPattern(parseRepositoryName(name), pattern)).toBe(new RegExp(`^${source}$`).test(name));
  });

  it("of many stars is judged at once, whatever the name", () => {
    const name = parseRepositoryName("a".repeat(255));
    expect(matchesPattern(name, `${"*a".repeat(100)}b`)).toBe(false);
    expect(matchesPattern(name, `${"**a".repeat(80)}b`)).toBe(false);
    expect(matchesPattern(name, "*a".repeat(100))).toBe(true);
  });
});
