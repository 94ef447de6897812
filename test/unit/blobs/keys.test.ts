import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { firstKeyAt, keyPrefixes, newKey, sortableTime } from "../../../src/blobs/keys.ts";

const time = fc.integer({ min: 0, max: Date.UTC(5000, 0, 1) });

describe("an R2 key", () => {
  test.prop([time, time, fc.constantFrom(...keyPrefixes)])(
    "sorts as text by the time of its making",
    (one, other, prefix) => {
      fc.pre(one < other);
      expect(newKey(prefix, one) < newKey(prefix, other)).toBe(true);
      expect(newKey(prefix, one) < firstKeyAt(prefix, other)).toBe(true);
      expect(newKey(prefix, other) > firstKeyAt(prefix, other)).toBe(true);
      expect(sortableTime(one) < sortableTime(other)).toBe(true);
    },
  );

  it("is made once, in one millisecond too", () => {
    const keys = Array.from({ length: 10_000 }, () => newKey("blobs/", 0));
    expect(new Set(keys).size).toBe(keys.length);
  });
});
