import { describe, expect, it } from "vitest";
import { Fills } from "../../../src/edge/fills.ts";
import {
  EDGE_FILL_AGAIN_SECONDS,
  EDGE_FILL_SECONDS,
  EDGE_FILLS_KEPT_MAX,
  EDGE_FILLS_MAX,
} from "../../../src/limits.ts";

const many = (count: number): readonly string[] => Array.from({ length: count }, (_, index) => `key-${String(index)}`);

describe("fills of the data centre's cache", () => {
  it("are few at once, and one of each key", () => {
    const fills = new Fills();
    expect(many(EDGE_FILLS_MAX).map((key) => fills.begin(key, 0))).toEqual(many(EDGE_FILLS_MAX).map(() => true));
    expect(fills.begin("another", 0)).toBe(false);
    fills.end("key-0", 1);
    expect(fills.begin("another", 1)).toBe(true);
    expect(fills.begin("another", 1)).toBe(false);
  });

  it("that the platform has ended without a word keep no others from it for long", () => {
    const fills = new Fills();
    for (const key of many(EDGE_FILLS_MAX)) fills.begin(key, 0);
    expect(fills.begin("another", EDGE_FILL_SECONDS * 1000 - 1)).toBe(false);
    expect(fills.begin("another", EDGE_FILL_SECONDS * 1000)).toBe(true);
  });

  it("are not made again so soon, unless it was removed", () => {
    const fills = new Fills();
    fills.begin("key", 0);
    fills.end("key", 1000);
    expect(fills.begin("key", 1000 + EDGE_FILL_AGAIN_SECONDS * 1000 - 1)).toBe(false);
    fills.forget("key");
    expect(fills.begin("key", 2000)).toBe(true);
    fills.end("key", 2000);
    expect(fills.begin("key", 2000 + EDGE_FILL_AGAIN_SECONDS * 1000)).toBe(true);
  });

  it("are remembered of a bounded number", () => {
    const fills = new Fills();
    for (const key of many(EDGE_FILLS_KEPT_MAX + 1)) {
      fills.begin(key, 0);
      fills.end(key, 0);
    }
    expect(fills.begin("key-0", 1)).toBe(true);
    expect(fills.begin("key-1", 1)).toBe(false);
  });
});
