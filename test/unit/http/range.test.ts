import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { parseChunkRange, parseRange } from "../../../src/http/range.ts";
import { RANGES_MAX } from "../../../src/limits.ts";

const whole = { kind: "whole" };
const unsatisfiable = { kind: "unsatisfiable" };
const ranges = (...pairs: readonly (readonly [number, number])[]) => ({
  kind: "ranges",
  ranges: pairs.map(([start, end]) => ({ start, end })),
});

/** A header of as many ranges of one byte. */
const manyRanges = (count: number) =>
  `bytes=${Array.from({ length: count }, (_, at) => `${String(2 * at)}-${String(2 * at)}`).join(",")}`;

describe("the Range header of a pull", () => {
  it.each<[header: string | undefined, size: number, answer: object]>([
    [undefined, 10, whole],
    ["", 10, whole],
    ["bytes=0-0", 10, ranges([0, 0])],
    ["bytes=0-", 10, ranges([0, 9])],
    ["bytes=4-", 10, ranges([4, 9])],
    ["bytes=-4", 10, ranges([6, 9])],
    ["bytes=-40", 10, ranges([0, 9])],
    ["bytes=2-400", 10, ranges([2, 9])],
    ["Bytes=2-3", 10, ranges([2, 3])],
    [" bytes=2-3 ", 10, ranges([2, 3])],
    ["bytes=0-1,4-5", 10, ranges([0, 1], [4, 5])],
    ["bytes=0-1 , -2", 10, ranges([0, 1], [8, 9])],
    ["bytes=,0-1,,", 10, ranges([0, 1])],
    ["bytes=4-5,0-1", 10, ranges([4, 5], [0, 1])],
    ["bytes=0-1,50-60", 10, ranges([0, 1])],
    ["bytes=0-9999999999999999999", 10, ranges([0, 9])],
    // No byte of it is there, or none is asked.
    ["bytes=10-", 10, unsatisfiable],
    ["bytes=10-20", 10, unsatisfiable],
    ["bytes=-0", 10, unsatisfiable],
    ["bytes=5-2", 10, unsatisfiable],
    ["bytes=0-", 0, unsatisfiable],
    ["bytes=-1", 0, unsatisfiable],
    ["bytes=50-,60-", 10, unsatisfiable],
    // What is no range is ignored: RFC 9110 section 14.2.
    ["bytes", 10, whole],
    ["bytes=", 10, whole],
    ["bytes=,", 10, whole],
    ["bytes=-", 10, whole],
    ["bytes=a-b", 10, whole],
    ["bytes=1", 10, whole],
    ["bytes=0x1-2", 10, whole],
    ["bytes=1.5-2", 10, whole],
    ["bytes=0-1,x", 10, whole],
    ["items=0-1", 10, whole],
    ["0-1", 10, whole],
    // Overlapping ranges that ask more than the blob has get the blob.
    ["bytes=0-,0-", 10, whole],
    ["bytes=0-6,3-9", 10, whole],
  ])("%j of %i bytes", (header, size, answer) => {
    expect(parseRange(header, size)).toEqual(answer);
  });

  it("of as many ranges as are read one by one, and one more, which gets the whole blob", () => {
    expect(parseRange(manyRanges(RANGES_MAX), 1000)).toMatchObject({ kind: "ranges" });
    expect(parseRange(manyRanges(RANGES_MAX + 1), 1000)).toEqual(whole);
  });

  test.prop([fc.nat({ max: 1000 }), fc.nat({ max: 1000 }), fc.nat({ max: 1000 })])(
    "that is formatted is read back",
    (start, length, after) => {
      const end = start + length;
      expect(parseRange(`bytes=${String(start)}-${String(end)}`, end + 1 + after)).toEqual(ranges([start, end]));
    },
  );

  test.prop([
    fc.string({ unit: fc.constantFrom(..."bytes=0123456789-, ".split("")), maxLength: 40 }),
    fc.nat({ max: 50 }),
  ])("whatever it says, asks bytes that are there, and no more than there are", (header, size) => {
    const answer = parseRange(`bytes=${header}`, size);
    if (answer.kind !== "ranges") return;
    for (const { start, end } of answer.ranges) expect(0 <= start && start <= end && end < size).toBe(true);
    const bytes = answer.ranges.reduce((sum, { start, end }) => sum + end - start + 1, 0);
    expect(bytes).toBeLessThanOrEqual(size);
  });
});

describe("the Content-Range of a pushed chunk", () => {
  test.prop([fc.nat(), fc.nat()])(
    "that is formatted is read back, in the spec's form and in RFC 9110's",
    (start, length) => {
      const end = start + length;
      const span = `${String(start)}-${String(end)}`;
      for (const header of [
        span,
        `bytes ${span}/*`,
        `bytes ${span}/${String(end + 1)}`,
        `bytes=${span}`,
        ` ${span} `,
      ]) {
        expect(parseChunkRange(header)).toEqual({ start, end });
      }
    },
  );

  it.each([
    "",
    "-",
    "0-",
    "-5",
    "5",
    "a-b",
    "5-4",
    "0-1-2",
    "0 - 1",
    "1.0-2",
    "-1-2",
    "0x0-1",
    "bytes */5",
    "0-9999999999999999",
    "items 0-1/2",
  ])("%j is none", (header) => {
    expect(parseChunkRange(header)).toBeNull();
  });
});
