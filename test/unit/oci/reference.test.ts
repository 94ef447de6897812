import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { isTag, parseReference } from "../../../src/oci/reference.ts";
import { unknownDigest } from "../../fixtures/content.ts";
import { refusalOf } from "../../fixtures/oci-errors.ts";

const first = fc.constantFrom(..."azAZ09_".split(""));
const later = fc.string({ unit: fc.constantFrom(..."azAZ09_.-".split("")), maxLength: 127 });

describe("a reference", () => {
  test.prop([first, later])("of the tag grammar is that tag", (start, rest) => {
    expect(parseReference(start + rest)).toEqual({ kind: "tag", tag: start + rest });
  });

  it.each(["sha256", "sha512"] as const)("of a %s digest is that digest", (algorithm) => {
    const digest = unknownDigest(algorithm);
    expect(parseReference(digest)).toEqual({ kind: "digest", digest });
  });

  it.each(["latest", "v1.0.0", "_", "sha256-abc.sig", "1", "a".repeat(128)])("%j is a tag", (value) => {
    expect(isTag(value)).toBe(true);
  });

  it.each(["", ".hidden", "-x", "a b", "a/b", "a+b", "é", "a".repeat(129), "a\n"])(
    "%j is malformed: a value, for a pull of it is a miss",
    (value) => {
      expect(parseReference(value)).toMatchObject({ kind: "malformed" });
    },
  );

  it("with a colon that is no digest is refused as one", () => {
    refusalOf(() => parseReference("sha256:abc"), "DIGEST_INVALID");
    refusalOf(() => parseReference("latest:"), "DIGEST_INVALID");
  });
});
