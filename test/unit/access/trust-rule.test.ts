import { fc, it as property } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { conditionsSchema, issuerSchema, matchesText, misfitOf, readClaim } from "../../../src/access/trust-rule.ts";

const rule = {
  name: "ci",
  issuer: "https://issuer.example.com",
  audience: "registry.example.com",
  conditions: { repository: ["org/app"], ref: ["refs/heads/main", "refs/tags/*"] },
  grants: [],
};
const claims = { aud: "registry.example.com", repository: "org/app", ref: "refs/heads/main" };

describe("a trust rule", () => {
  it.each([
    [claims],
    [{ ...claims, aud: ["other", "registry.example.com"] }],
    [{ ...claims, ref: "refs/tags/v1" }],
    [{ ...claims, repository: ["org/app"] }],
  ])("takes what meets each of its conditions: %j", (token) => {
    expect(misfitOf(rule, token)).toBeNull();
  });

  it.each([
    [{ ...claims, aud: "registry.example.com.evil" }, "audience"],
    [{ ...claims, aud: undefined }, "audience"],
    [{ ...claims, aud: [] }, "audience"],
    [{ ...claims, aud: { 0: "registry.example.com" } }, "audience"],
    [{ ...claims, repository: "org/app2" }, "repository"],
    [{ ...claims, repository: "ORG/APP" }, "repository"],
    [{ ...claims, repository: "evil/org/app" }, "repository"],
    [{ ...claims, repository: undefined }, "repository"],
    [{ ...claims, repository: null }, "repository"],
    [{ ...claims, repository: { toString: "org/app" } }, "repository"],
    [{ ...claims, ref: "refs/heads/main2" }, "ref"],
    [{ ...claims, ref: "refs/heads/tags/v1" }, "ref"],
  ])("takes nothing else: %j", (token, what) => {
    expect(misfitOf(rule, token)).toContain(what);
  });

  it("reads claims in claims, by a path, and names that have dots; never what an object inherits", () => {
    const token = { "kubernetes.io": { namespace: "prod", serviceaccount: { name: "ci" } }, a: { b: "1" } };
    expect(readClaim(token, "kubernetes.io.namespace")).toBe("prod");
    expect(readClaim(token, "kubernetes.io.serviceaccount.name")).toBe("ci");
    expect(readClaim(token, "a.b")).toBe("1");
    expect(readClaim({ "a.b": "1", a: { b: "2" } }, "a.b")).toBeUndefined();
    expect(readClaim(token, "constructor")).toBeUndefined();
    expect(readClaim(token, "a.constructor.name")).toBeUndefined();
    expect(readClaim({ __proto__: { repository: "org/app" } }, "repository")).toBeUndefined();
  });

  it.each([
    ["abc", "abc", true],
    ["abc", "a*", true],
    ["abc", "*c", true],
    ["abc", "a*b*c", true],
    ["abc", "*", true],
    ["abc", "ab", false],
    ["abc", "a*d", false],
    ["ab", "ab*b", false],
    ["aba", "ab*ba", false],
    ["a.c", "abc", false],
    ["abc", "a.c", false],
  ])("%j against %j: %j", (text, pattern, expected) => {
    expect(matchesText(text, pattern)).toBe(expected);
  });

  it("of many stars is judged at once", () => {
    expect(matchesText("a".repeat(10_000), `${"*a".repeat(100)}b`)).toBe(false);
  });

  it.each([
    [{}],
    [{ repository: "*" }],
    [{ repository: ["*", "org/app"] }],
    [{ repository: [] }],
    [{ repository: "" }],
    [{ repository: "**" }],
    [{ aud: "registry.example.com" }],
    [{ iss: "https://issuer.example.com", email_verified: "true" }],
  ])("that would trust everybody of an issuer is refused: %j", (conditions) => {
    expect(conditionsSchema.safeParse(conditions).success).toBe(false);
  });

  it.each([
    "http://issuer.example.com",
    "https://user@issuer.example.com",
    "https://issuer.example.com?x",
    "https://issuer.example.com#x",
    "issuer.example.com",
    "ftp://issuer.example.com",
    "https://issuer.example.com/ x",
    "",
  ])("has no issuer such as %j", (issuer) => {
    expect(issuerSchema.safeParse(issuer).success).toBe(false);
  });

  it.each(["https://token.actions.githubusercontent.com", "https://gitlab.example.com/", "http://127.0.0.1:4000"])(
    "may have the issuer %j",
    (issuer) => {
      expect(issuerSchema.safeParse(issuer).success).toBe(true);
    },
  );
});

describe("a pattern", () => {
  it.each([
    ["team/a", "team/a", true],
    ["team/a", "team/*", true],
    ["team/a/b", "team/*", true],
    ["team/", "team/*", true],
    ["team", "team/*", false],
    ["team-b/a", "team/*", false],
    ["my-team/a", "team/*", false],
    ["Team/a", "team/*", false],
    ["team/a", "team/", false],
    ["team/a", "TEAM/A", false],
    ["refs/heads/main", "refs/heads/main*", true],
    ["refs/heads/main-too", "refs/heads/main*", true],
    ["a", "a*a", false],
    ["aa", "a*a", true],
    ["aba", "a*b*a", true],
    ["ab", "a*b*b", false],
    ["abcabc", "*abc", true],
    ["", "*", true],
    ["a\nb", "a*b", true],
    ["a.b", "a?b", false],
    ["ab", "a.", false],
    ["a", "[a]", false],
    ["é", "e\u0301", false],
  ])("takes %j as %j: %s", (text, pattern, expected) => {
    expect(matchesText(text, pattern)).toBe(expected);
  });

  const letters = fc.string({ unit: fc.constantFrom("a", "b", "/"), maxLength: 12 });
  const patterns = fc.string({ unit: fc.constantFrom("a", "b", "/", "*"), maxLength: 8 });

  property.prop([letters, patterns])("takes what a regular expression would", (text, pattern) => {
    const expression = new RegExp(`^${pattern.replaceAll("*", "[^]*")}$`);
    expect(matchesText(text, pattern)).toBe(expression.test(text));
  });
});
