import { describe, expect, it } from "vitest";
import { etagOf, isNotModified, rangeStands } from "../../../src/http/conditional.ts";
import { parseDigest } from "../../../src/oci/digest.ts";
import { unknownDigest } from "../../fixtures/content.ts";

const digest = parseDigest(unknownDigest());
const etag = etagOf(digest);

describe("an ETag", () => {
  it("is the digest as a strong validator", () => {
    expect(etag).toBe(`"${digest}"`);
  });

  it.each([
    [undefined, false],
    ["", false],
    [etag, true],
    ["*", true],
    [`W/${etag}`, true],
    [`"other", ${etag}`, true],
    [`"other",W/${etag} , "third"`, true],
    ['"other"', false],
    [digest, false],
  ])("If-None-Match %j: not modified is %j", (header, expected) => {
    expect(isNotModified(header, etag)).toBe(expected);
  });

  it.each([
    [undefined, true],
    [etag, true],
    [` ${etag} `, true],
    [`W/${etag}`, false],
    ['"other"', false],
    ["*", false],
    ["", false],
    ["Wed, 21 Oct 2015 07:28:00 GMT", false],
  ])("If-Range %j: the range stands is %j", (header, expected) => {
    expect(rangeStands(header, etag)).toBe(expected);
  });
});
