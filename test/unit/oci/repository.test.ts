import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { isRepositoryName, parseRepositoryName } from "../../../src/oci/repository.ts";
import { refusalOf } from "../../fixtures/oci-errors.ts";

/** distribution-spec v1.1.1 «Pulling manifests»: the grammar of `<name>`, built up instead of matched. */
const word = fc.string({ unit: fc.constantFrom(..."abcxyz0189".split("")), minLength: 1, maxLength: 6 });
const separator = fc.constantFrom(".", "_", "__", "-", "--", "-----");
const component = fc
  .tuple(word, fc.array(fc.tuple(separator, word), { maxLength: 3 }))
  .map(([first, rest]) => first + rest.map(([mark, next]) => mark + next).join(""));
const name = fc.array(component, { minLength: 1, maxLength: 5 }).map((components) => components.join("/"));

describe("a repository name", () => {
  test.prop([name])("made by the spec's grammar is taken as it is", (value) => {
    expect(parseRepositoryName(value)).toBe(value);
  });

  test.prop([name, fc.constantFrom("/", "//", ".", "-", "_", "A", " ", "%2f", "é", "\n", ":", "@"), fc.boolean()])(
    "with a separator or a strange character at one end is refused",
    (value, mark, atEnd) => {
      expect(isRepositoryName(atEnd ? value + mark : mark + value)).toBe(false);
    },
  );

  it.each(["a", "0", "library/alpine", "a.b_c__d-e---f/g", "manifests/x", "a/manifests/b", "a".repeat(255)])(
    "%j is taken",
    (value) => {
      expect(isRepositoryName(value)).toBe(true);
    },
  );

  it.each(["", "A/b", "a//b", "a..b", "a___b", "a._b", "a/-b", "a/b/", "a b", "a\u0000b", "ﬁ"])(
    "%j is refused",
    (value) => {
      refusalOf(() => parseRepositoryName(value), "NAME_INVALID");
    },
  );

  it("of more than 255 characters is refused, with that reason", () => {
    expect(refusalOf(() => parseRepositoryName("a".repeat(256)), "NAME_INVALID").detail.reason).toContain("255");
  });

  it("that is refused is not repeated at any length", () => {
    const { detail } = refusalOf(() => parseRepositoryName("A".repeat(100_000)), "NAME_INVALID");
    expect(JSON.stringify(detail).length).toBeLessThan(1000);
  });

  it("is read in linear time: no name makes the grammar try over and over", () => {
    expect(isRepositoryName(`${"a-".repeat(127)}!`)).toBe(false);
    expect(isRepositoryName(`${"-".repeat(254)}!`)).toBe(false);
  });
});
