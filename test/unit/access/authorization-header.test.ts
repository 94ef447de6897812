import { describe, expect, it } from "vitest";
import { parseAuthorization } from "../../../src/access/authorization-header.ts";

const base64 = (text: string): string => new TextEncoder().encode(text).toBase64();

describe("an Authorization header", () => {
  it.each([
    [`Basic ${base64("ann:secret")}`, "ann", "secret"],
    [`basic ${base64("ann:secret")}`, "ann", "secret"],
    [`BASIC   ${base64("ann:se:cr:et")} `, "ann", "se:cr:et"],
    [`Basic ${base64("ann:")}`, "ann", ""],
    [`Basic ${base64(":secret")}`, "", "secret"],
    [`Basic ${base64("änn:pässwörd")}`, "änn", "pässwörd"],
  ])("of Basic is parted at the first colon: %j", (header, user, password) => {
    expect(parseAuthorization(header)).toEqual({ kind: "basic", user, password });
  });

  it.each(["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c "])("of Bearer: %j", (header) => {
    expect(parseAuthorization(header)).toEqual({ kind: "bearer", token: "a.b.c" });
  });

  it.each([undefined, "", "  ", `Basic ${base64(":")}`])("that says nothing is nobody's: %j", (header) => {
    expect(parseAuthorization(header)).toEqual({ kind: "none" });
  });

  it.each([
    "Basic",
    "Bearer ",
    "Bearer a b",
    "Basic %%%",
    `Basic ${base64("no colon")}`,
    `Basic ${new Uint8Array([0xff, 0x3a, 0xff]).toBase64()}`,
    "Digest username=ann",
    `Bearer ${"x".repeat(33_000)}`,
  ])("that can't be read is told from none: %j", (header) => {
    expect(parseAuthorization(header)).toEqual({ kind: "malformed" });
  });
});
