import { describe, expect, it } from "vitest";
import { isSameSecret } from "../../../src/access/constant-time.ts";

describe("isSameSecret", () => {
  it.each(["", "a", "a password", "pässword 🔑", "x".repeat(100_000)])("is true of %j and itself", (text) => {
    expect(isSameSecret(text, text)).toBe(true);
  });

  it.each([
    ["a password", "a passwore"],
    ["a password", "b password"],
    ["a password", "a passwor"],
    ["a password", "a password "],
    ["a password", ""],
    ["a password", "A password"],
    // Composed and decomposed: texts of other bytes.
    ["\u00e9", "e\u0301"],
    ["\u0000", ""],
  ])("is false of %j and %j, either way", (one, other) => {
    expect(isSameSecret(one, other)).toBe(false);
    expect(isSameSecret(other, one)).toBe(false);
  });
});
