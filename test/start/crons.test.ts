import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { cronRefusal, startCrons } from "../../scripts/crons.ts";

describe("the crons of wrangler.toml", () => {
  beforeEach(() => {
    // A Saturday.
    vi.useFakeTimers({ now: Date.UTC(2026, 7, 1, 12, 0, 30) });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("fire at their times, in UTC, with the time that they were due", async () => {
    const fired: string[] = [];
    const crons = startCrons(
      ["* * * * *", "2 12 * * *"],
      async (cron, time) => void fired.push(`${cron} ${time.toISOString()}`),
      fail,
    );
    await minutes(2);
    crons.stop();
    await minutes(2);
    expect(fired).toEqual([
      "* * * * * 2026-08-01T12:01:00.000Z",
      "* * * * * 2026-08-01T12:02:00.000Z",
      "2 12 * * * 2026-08-01T12:02:00.000Z",
    ]);
  });

  it("number the days of the week from Sunday, which is 1", async () => {
    const fired: string[] = [];
    const crons = startCrons(["0 0 * * 1"], async (_cron, time) => void fired.push(time.toISOString()), fail);
    await minutes(7 * 24 * 60);
    crons.stop();
    expect(fired).toEqual(["2026-08-02T00:00:00.000Z"]);
  });

  it("never run twice at once", async () => {
    const ends: (() => void)[] = [];
    const crons = startCrons(["* * * * *"], () => new Promise((resolve) => ends.push(resolve)), fail);
    await minutes(3);
    expect(ends).toHaveLength(1);
    ends[0]?.();
    await minutes(1);
    expect(ends).toHaveLength(2);
    crons.stop();
  });

  it("report a failure and come again", async () => {
    const reported: string[] = [];
    const fire = vi.fn(async () => Promise.reject(new Error("no such table")));
    const crons = startCrons(["* * * * *"], fire, (message) => reported.push(message));
    await minutes(2);
    crons.stop();
    expect(fire).toHaveBeenCalledTimes(2);
    expect(reported).toEqual(Array(2).fill('the cron "* * * * *" failed: no such table'));
  });

  it("report nothing of a run that is cut off when all is stopped", async () => {
    const reported: string[] = [];
    const cutOff: (() => void)[] = [];
    const fire = () => new Promise<void>((_resolve, reject) => cutOff.push(() => reject(new Error("disposed"))));
    const crons = startCrons(["* * * * *"], fire, (message) => reported.push(message));
    await minutes(1);
    crons.stop();
    cutOff[0]?.();
    await minutes(1);
    expect(cutOff).toHaveLength(1);
    expect(reported).toEqual([]);
  });
});

describe("a cron that is not one", () => {
  it.each([
    ["61 * * * *", '"61 * * * *": Invalid value for minute: 61'],
    ["0 0 * * 0", /^"0 0 \* \* 0": Invalid value for dayOfWeek/],
    ["* * * * * *", '"* * * * * *" does not have five fields'],
    ["@daily", '"@daily" does not have five fields'],
    ["0 0 30 2 *", '"0 0 30 2 *" never comes'],
  ])("is refused: %s", (pattern, refusal) => {
    expect(cronRefusal(pattern)).toMatch(refusal);
  });

  it.each(["* * * * *", "*/5 0-6 1,15 * 2-6", "0 0 * * SUN", "59 23 LW * *"])("is not %s", (pattern) => {
    expect(cronRefusal(pattern)).toBeNull();
  });
});

function fail(message: string): never {
  throw new Error(message);
}

async function minutes(count: number): Promise<void> {
  await vi.advanceTimersByTimeAsync(count * 60_000);
}
