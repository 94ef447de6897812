import { fc, test } from "@fast-check/vitest";
import { afterEach, describe, expect, it, vi } from "vitest";
import { BodyBroken, BodyReader } from "../../../src/http/body-reader.ts";
import { READ_BYTES, READ_MOST_BYTES } from "../../../src/limits.ts";
import { brokenStreamOf, concatenate, pausedStream, randomBytes, sameBytes, streamOf } from "../../fixtures/content.ts";
import { holdPatience } from "../../fixtures/silence.ts";
import type { Bytes } from "../../support/client.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

async function readAll(reader: BodyReader): Promise<Bytes[]> {
  const pieces: Bytes[] = [];
  // A copy: a piece is valid until the next call.
  for (let piece = await reader.next(); piece !== null; piece = await reader.next()) pieces.push(piece.slice());
  return pieces;
}

describe("a body", () => {
  test.prop([fc.integer({ min: 0, max: 3 * READ_BYTES }), fc.integer({ min: 1, max: 2 * READ_BYTES })], {
    numRuns: 20,
  })("comes whole, in reads that the buffer holds, in whatever pieces it is sent", async (length, pieceBytes) => {
    const bytes = randomBytes(length);
    // At least a kilobyte a piece: of single bytes it would take long.
    const pieces = await readAll(new BodyReader(streamOf(bytes, Math.max(1024, pieceBytes))));
    expect(sameBytes(concatenate(pieces), bytes)).toBe(true);
    for (const piece of pieces) expect(piece.byteLength).toBeLessThanOrEqual(READ_BYTES);
  });

  it("that breaks off is told so", async () => {
    await expect(readAll(new BodyReader(brokenStreamOf(randomBytes(10))))).rejects.toThrow(BodyBroken);
  });

  it("that is released is left to whoever comes next", async () => {
    const body = streamOf(randomBytes(2 * READ_BYTES + 5));
    const reader = new BodyReader(body);
    await reader.next();
    reader.release();
    const rest = await readAll(new BodyReader(body));
    expect(concatenate(rest).byteLength).toBe(READ_BYTES + 5);
  });
});

describe("a body that was fast and grows slow", () => {
  it("is read in small pieces: none of them takes so long that it seems silent", async () => {
    const before = 4 * READ_BYTES + READ_MOST_BYTES;
    const { body } = pausedStream(randomBytes(before), randomBytes(10));
    const reader = new BodyReader(body);
    let read = 0;
    // It would wait for more than has come, and for ever, if it waited for as much as its buffer holds.
    while (read < before) read += (await reader.next())?.byteLength ?? 0;
    expect(read).toBe(before);
  });
});

describe("a body that falls silent", () => {
  it("is taken for broken off when its time has run out, and is cancelled", async () => {
    const patience = holdPatience();
    let cancelled = 0;
    const silent = new ReadableStream({
      type: "bytes",
      cancel: () => {
        cancelled++;
      },
    });
    const broken = expect(new BodyReader(silent).next()).rejects.toThrow(BodyBroken);
    expect([patience.waiting(), cancelled]).toEqual([1, 0]);
    patience.runOut();
    await broken;
    expect([patience.waiting(), cancelled]).toEqual([0, 1]);
  });

  it("after a read that was full is given up all the same", async () => {
    const patience = holdPatience();
    const { body, reading } = pausedStream(randomBytes(READ_BYTES + 10), randomBytes(10));
    const reader = new BodyReader(body);
    expect((await reader.next())?.byteLength).toBe(READ_BYTES);
    const broken = expect(reader.next()).rejects.toThrow(BodyBroken);
    await reading;
    patience.runOut();
    await broken;
  });

  it("and speaks again in time goes on; no timer is left behind", async () => {
    const patience = holdPatience();
    const { body, reading, resume } = pausedStream(randomBytes(100), randomBytes(100));
    const reader = new BodyReader(body);
    const read = reader.next();
    await reading;
    expect(patience.waiting()).toBe(1);
    resume();
    expect((await read)?.byteLength).toBe(200);
    expect([await reader.next(), patience.waiting()]).toEqual([null, 0]);
  });
});
