import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { PART_BYTES, PART_MIN_BYTES } from "../../../src/limits.ts";
import { choosePartBytes } from "../../../src/uploads/part-size.ts";
import { MIB } from "../../fixtures/content.ts";

describe("the part size of a session", () => {
  it.each<[chunk: number | null, part: number]>([
    [null, PART_BYTES],
    [0, PART_BYTES],
    [1, PART_BYTES],
    [MIB, PART_BYTES],
    [PART_MIN_BYTES - 1, PART_BYTES],
    [PART_MIN_BYTES, PART_MIN_BYTES],
    [6 * MIB, 6 * MIB],
    [8 * MIB, 8 * MIB],
    [9 * MIB, PART_BYTES],
    [10 * MIB, 5 * MIB],
    [16 * MIB, 8 * MIB],
    [100 * MIB, Math.floor((100 * MIB) / 13)],
  ])("for chunks of %j bytes is %j", (chunk, part) => {
    expect(choosePartBytes(chunk)).toBe(part);
  });

  test.prop([fc.nat({ max: 5 * 1024 * MIB })])("is what R2 takes and what a request may hold", (chunk) => {
    const part = choosePartBytes(chunk);
    expect(Number.isInteger(part) && PART_MIN_BYTES <= part && part <= PART_BYTES).toBe(true);
  });

  test.prop([fc.integer({ min: 10 * MIB, max: 5 * 1024 * MIB })])(
    "leaves almost nothing over of a chunk that it can divide",
    (chunk) => {
      expect(chunk % choosePartBytes(chunk)).toBeLessThan(Math.ceil(chunk / PART_BYTES));
    },
  );
});
