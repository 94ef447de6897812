import { fc, test } from "@fast-check/vitest";
import { afterEach, describe, expect, it, vi } from "vitest";
import { BodyBudget } from "../../../src/http/body-budget.ts";
import { WAIT_SILENCE_MS } from "../../../src/limits.ts";

interface Holder {
  /** resolves when the budget let it in */
  readonly began: Promise<void>;
  readonly finish: () => void;
  /** resolves when it has given its bytes back */
  readonly ended: Promise<void>;
}

function hold(budget: BodyBudget, bytes: number, onBegin: () => void = () => undefined): Holder {
  const began = Promise.withResolvers<void>();
  const finished = Promise.withResolvers<void>();
  const ended = budget.hold(bytes, async () => {
    onBegin();
    began.resolve();
    await finished.promise;
  });
  return { began: began.promise, finish: finished.resolve, ended };
}

/** Lets everything that can run, run. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("the body budget", () => {
  it("lets in at once what fits, and gives the bytes back at the end", async () => {
    const budget = new BodyBudget(10);
    const [one, other] = [hold(budget, 4), hold(budget, 6)];
    await Promise.all([one.began, other.began]);
    expect(budget.heldBytes).toBe(10);
    one.finish();
    await one.ended;
    expect(budget.heldBytes).toBe(6);
    other.finish();
    await other.ended;
    expect([budget.heldBytes, budget.peakBytes]).toEqual([0, 10]);
  });

  it("gives the bytes back when the work fails, and hands its error on", async () => {
    const budget = new BodyBudget(10);
    const failed = budget.hold(10, async () => Promise.reject(new Error("R2 is down")));
    await expect(failed).rejects.toThrow("R2 is down");
    expect(budget.heldBytes).toBe(0);
  });

  it("hands out what the work returns", async () => {
    expect(await new BodyBudget(1).hold(1, async () => "done")).toBe("done");
  });

  it("refuses at once what could never be let in", async () => {
    await expect(new BodyBudget(10).hold(11, async () => undefined)).rejects.toThrow(RangeError);
  });

  it("lets in first who came first: a small one does not overtake a large one that waits", async () => {
    const budget = new BodyBudget(10);
    const order: string[] = [];
    const first = hold(budget, 6);
    const large = hold(budget, 8, () => order.push("large"));
    const small = hold(budget, 1, () => order.push("small"));
    await settle();
    expect(order).toEqual([]);
    first.finish();
    await large.began;
    await small.began;
    expect(order).toEqual(["large", "small"]);
    large.finish();
    small.finish();
    await Promise.all([first.ended, large.ended, small.ended]);
    expect(budget.heldBytes).toBe(0);
  });

  it("lets in all that fit at once, when one large one ends", async () => {
    const budget = new BodyBudget(10);
    const large = hold(budget, 10);
    const waiting = [hold(budget, 3), hold(budget, 3), hold(budget, 3), hold(budget, 3)];
    await settle();
    expect(budget.heldBytes).toBe(10);
    large.finish();
    await Promise.all(waiting.slice(0, 3).map(({ began }) => began));
    expect(budget.heldBytes).toBe(9);
    for (const { finish } of waiting) finish();
    await Promise.all(waiting.map(({ ended }) => ended));
  });

  it("passes over a waiter whose request is gone: it does not block those behind it", async () => {
    const budget = new BodyBudget(10);
    const first = hold(budget, 10);
    // Nothing of a request that was ended runs any more, its timers neither.
    const timers = vi.spyOn(scheduler, "wait").mockReturnValue(new Promise(() => undefined));
    let ran = false;
    void hold(budget, 10, () => {
      ran = true;
    });
    await settle();
    timers.mockRestore();
    const late = Date.now() + WAIT_SILENCE_MS + 1;
    vi.spyOn(Date, "now").mockReturnValue(late);
    const behind = hold(budget, 10);
    first.finish();
    await behind.began;
    behind.finish();
    await behind.ended;
    expect([ran, budget.heldBytes]).toEqual([false, 0]);
  });

  it("gives its turn after all to a waiter that was silent for long, but is there", async () => {
    const budget = new BodyBudget(10);
    const first = hold(budget, 10);
    const waiter = hold(budget, 10);
    await settle();
    // As after a long stretch of work that let nobody else run.
    const late = Date.now() + WAIT_SILENCE_MS + 1;
    vi.spyOn(Date, "now").mockReturnValue(late);
    first.finish();
    await waiter.began;
    waiter.finish();
    await waiter.ended;
    expect(budget.heldBytes).toBe(0);
  });

  test.prop([
    fc.array(fc.record({ bytes: fc.integer({ min: 0, max: 64 }), turns: fc.nat({ max: 10 }) }), { maxLength: 40 }),
  ])("is never exceeded, and everybody has a turn", async (requests) => {
    const budget = new BodyBudget(64);
    let held = 0;
    let served = 0;
    await Promise.all(
      requests.map(async ({ bytes, turns }) =>
        budget.hold(bytes, async () => {
          held += bytes;
          expect(held).toBeLessThanOrEqual(64);
          for (let turn = 0; turn < turns; turn++) await Promise.resolve();
          held -= bytes;
          served++;
        }),
      ),
    );
    expect([served, budget.heldBytes]).toEqual([requests.length, 0]);
    expect(budget.peakBytes).toBeLessThanOrEqual(64);
  });
});
