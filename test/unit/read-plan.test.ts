import { expect, test } from "vitest";
import { readPlan } from "../../src/read-plan.ts";

const primary = { from: "primary", askAgain: false };
const nearest = { from: "nearest", askAgain: true };
const bounded = { from: "bounded", askAgain: true };

test.each([
  ["digest", false, 0, nearest],
  ["digest", false, 30, nearest],
  ["digest", true, 0, primary],
  ["digest", true, 30, primary],
  ["name", false, 0, primary],
  ["name", false, 30, bounded],
  ["name", true, 0, primary],
  ["name", true, 30, primary],
] as const)("by %s, primary: %s, TAG_STALENESS_SECONDS %i: %j", (by, isPrimary, tagStalenessSeconds, plan) => {
  expect(readPlan({ by, isPrimary, tagStalenessSeconds })).toEqual(plan);
});
