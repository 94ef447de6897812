import { describe, expect, it } from "vitest";
import type { Held } from "../../../src/edge/held.ts";
import { Memory } from "../../../src/edge/memory.ts";
import { EDGE_FORGOTTEN_MAX } from "../../../src/limits.ts";

const MAX_BYTES = 64 * 1024;

function held(bytes: number): Held {
  return { mediaType: "text/plain", size: bytes, objectKey: null, body: new Uint8Array(bytes) };
}

function keep(memory: Memory, key: string, bytes = 100, untilMs = 1000, turn = memory.turn): void {
  memory.set(key, held(bytes), untilMs, turn, MAX_BYTES);
}

describe("a memory", () => {
  it("has what was put into it, until its time", () => {
    const memory = new Memory();
    keep(memory, "a", 100, 1000);
    expect(memory.get("a", 999)?.held.size).toBe(100);
    expect(memory.get("a", 1000)).toBeUndefined();
    expect(memory.size).toBe(0);
    expect(memory.bytes).toBe(0);
  });

  it("stays under its bound, whatever is put into it", () => {
    const memory = new Memory();
    for (let index = 0; index < 10_000; index++) {
      keep(memory, `key ${String(index)}`, (index * 7919) % 20_000);
      expect(memory.bytes).toBeLessThanOrEqual(MAX_BYTES);
    }
    expect(memory.size).toBeGreaterThan(0);
  });

  it("lets go first of what was not asked for the longest", () => {
    const memory = new Memory();
    for (const key of ["a", "b", "c"]) keep(memory, key, 20_000);
    memory.get("a", 0);
    keep(memory, "d", 20_000);
    expect(["a", "b", "c", "d"].filter((key) => memory.get(key, 0) !== undefined)).toEqual(["a", "c", "d"]);
  });

  it("does not let go of all for one that has no room at all", () => {
    const memory = new Memory();
    keep(memory, "a");
    keep(memory, "b", MAX_BYTES + 1);
    expect(memory.get("a", 0)).toBeDefined();
    expect(memory.get("b", 0)).toBeUndefined();
  });

  it("counts one that is put twice once", () => {
    const memory = new Memory();
    keep(memory, "a", 100);
    const { bytes } = memory;
    keep(memory, "a", 100);
    expect(memory.bytes).toBe(bytes);
    expect(memory.size).toBe(1);
  });

  it("counts entries without bytes too", () => {
    const memory = new Memory();
    for (let index = 0; index < 10_000; index++) keep(memory, `key ${String(index)}`, 0);
    expect(memory.size).toBeLessThanOrEqual(MAX_BYTES / 1024);
  });

  it("forgets, and does not take what was asked for before that", () => {
    const memory = new Memory();
    keep(memory, "a");
    const { turn } = memory;
    memory.forget("a");
    expect(memory.get("a", 0)).toBeUndefined();
    keep(memory, "a", 100, 1000, turn);
    expect(memory.get("a", 0)).toBeUndefined();
    keep(memory, "b", 100, 1000, turn);
    expect(memory.get("b", 0)).toBeDefined();
    keep(memory, "a");
    expect(memory.get("a", 0)).toBeDefined();
  });

  it("does so after more was forgotten than it remembers", () => {
    const memory = new Memory();
    const { turn } = memory;
    memory.forget("a");
    for (let index = 0; index < 2 * EDGE_FORGOTTEN_MAX; index++) memory.forget(`other ${String(index)}`);
    keep(memory, "a", 100, 1000, turn);
    expect(memory.get("a", 0)).toBeUndefined();
    keep(memory, "a");
    expect(memory.get("a", 0)).toBeDefined();
  });
});
