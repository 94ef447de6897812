import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import {
  type DigestAlgorithm,
  digestAlgorithm,
  digestAlgorithms,
  digestHex,
  isDigest,
  parseDigest,
  parseDigestAlgorithm,
} from "../../../src/oci/digest.ts";
import { refusalOf } from "../../fixtures/oci-errors.ts";

const hexCharacter = fc.constantFrom(..."0123456789abcdef".split(""));
const hex = (length: number) => fc.string({ unit: hexCharacter, minLength: length, maxLength: length });
const anyDigest = fc.oneof(
  fc.record({ algorithm: fc.constant<DigestAlgorithm>("sha256"), hex: hex(64) }),
  fc.record({ algorithm: fc.constant<DigestAlgorithm>("sha512"), hex: hex(128) }),
);

describe("a digest", () => {
  test.prop([anyDigest])("is parsed into its algorithm and its hex, and back", ({ algorithm, hex: encoded }) => {
    const parsed = parseDigest(`${algorithm}:${encoded}`);
    expect(`${digestAlgorithm(parsed)}:${digestHex(parsed)}`).toBe(`${algorithm}:${encoded}`);
    expect(digestAlgorithm(parsed)).toBe(algorithm);
  });

  test.prop([
    anyDigest,
    fc.nat(),
    fc.string({ unit: fc.constantFrom(..."gG:-/ .".split("")), minLength: 1, maxLength: 1 }),
  ])("with one character that is no lower-case hex is refused", ({ algorithm, hex: encoded }, at, wrong) => {
    const place = at % encoded.length;
    const broken = `${algorithm}:${encoded.slice(0, place)}${wrong}${encoded.slice(place + 1)}`;
    expect(isDigest(broken)).toBe(false);
  });

  const hex64 = "a".repeat(64);
  it.each([
    ["no colon", hex64, "form"],
    ["nothing", "", "form"],
    ["an algorithm that is not registered", `md5:${"a".repeat(32)}`, "not supported"],
    ["upper-case algorithm", `SHA256:${hex64}`, "not supported"],
    ["no algorithm", `:${hex64}`, "not supported"],
    ["the length of another algorithm", `sha512:${hex64}`, "128"],
    ["one character less", `sha256:${hex64.slice(1)}`, "64"],
    ["one character more", `sha256:${hex64}a`, "64"],
    ["upper-case hex", `sha256:${"A".repeat(64)}`, "64"],
    ["a line break at its end", `sha256:${hex64}\n`, "64"],
  ])("with %s is refused, with the reason", (_case, value, reason) => {
    expect(isDigest(value)).toBe(false);
    expect(refusalOf(() => parseDigest(value), "DIGEST_INVALID").detail.reason).toContain(reason);
  });

  it("that is refused is not repeated at any length", () => {
    const { detail } = refusalOf(() => parseDigest("x".repeat(100_000)), "DIGEST_INVALID");
    expect(JSON.stringify(detail).length).toBeLessThan(1000);
  });
});

describe("a digest algorithm", () => {
  it.each(digestAlgorithms)("%s is taken", (algorithm) => {
    expect(parseDigestAlgorithm(algorithm)).toBe(algorithm);
  });

  it.each(["", "sha1", "SHA256", "sha256 ", "toString", "__proto__"])(
    "%j is refused, and the known ones named",
    (value) => {
      expect(refusalOf(() => parseDigestAlgorithm(value), "DIGEST_INVALID").detail.reason).toContain("sha256, sha512");
    },
  );
});
