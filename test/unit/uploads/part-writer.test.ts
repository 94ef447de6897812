import { createHash } from "node:crypto";
import { env } from "cloudflare:workers";
import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { PARTS_MAX } from "../../../src/limits.ts";
import { OciError } from "../../../src/oci/errors.ts";
import { BodyBroken } from "../../../src/http/body-reader.ts";
import { LeaseLost, PartWriter, type PartWriterStart } from "../../../src/uploads/part-writer.ts";
import { brokenStreamOf, concatenate, digest, randomBytes, sameBytes, streamOf } from "../../fixtures/content.ts";

const none = new Uint8Array(0);

/** A writer with parts of a few bytes, so that small bodies have many; R2 minds their size at `complete` alone. */
function writerOf(start: Partial<PartWriterStart>): PartWriter {
  return new PartWriter({
    bucket: env.BLOBS,
    partBytes: 7,
    multipart: null,
    nextPart: 1,
    before: none,
    hash: null,
    expectedBytes: null,
    onUpload: async () => true,
    onCopied: async () => true,
    onParts: async () => true,
    onGrow: async () => undefined,
    ...start,
  });
}

describe("a body of any length", () => {
  test.prop(
    [
      fc.uint8Array({ maxLength: 60 }),
      fc.oneof(
        fc.record({ before: fc.uint8Array({ maxLength: 7 }), isObject: fc.constant(false) }),
        fc.record({ before: fc.uint8Array({ minLength: 8, maxLength: 30 }), isObject: fc.constant(true) }),
      ),
      fc.integer({ min: 1, max: 60 }),
      fc.boolean(),
    ],
    { numRuns: 60 },
  )(
    "is cut into equal parts and a tail; the hash is of its bytes alone",
    async (body, { before, isObject }, pieceBytes, lengthKnown) => {
      const told: number[][] = [];
      const hash = createHash("sha256");
      const writer = writerOf({
        before: isObject ? async () => streamOf(before, pieceBytes) : before,
        hash,
        expectedBytes: lengthKnown ? body.byteLength : null,
        onParts: async (parts) => {
          told.push(parts.map(({ size }) => size));
          return true;
        },
      });
      expect(await writer.consume(streamOf(body, pieceBytes), Number.POSITIVE_INFINITY)).toBe(true);
      // An object that holds the bytes before is copied only when there are more.
      const whole = isObject && body.byteLength === 0 ? body : concatenate([before, body]);
      // A part goes only when a byte after it has come: at least one byte stays in the tail, where there is any.
      const parts = whole.byteLength === 0 ? 0 : Math.ceil(whole.byteLength / 7) - 1;
      expect([...told.flat(), ...writer.untold.map(({ size }) => size)]).toEqual(
        Array.from({ length: parts }, () => 7),
      );
      // The first that is told of comes with those that were copied.
      const copied = isObject ? Math.ceil(before.byteLength / 7) - 1 : 0;
      expect(told.map(({ length }) => length)).toEqual(
        Array.from({ length: parts - copied }, (_, at) => (at === 0 ? copied + 1 : 1)),
      );
      expect(Uint8Array.from(writer.tail)).toEqual(whole.slice(parts * 7));
      expect([writer.newBytes, writer.nextPart, writer.multipart === null]).toEqual([
        body.byteLength,
        parts + 1,
        parts === 0,
      ]);
      expect(`sha256:${hash.digest("hex")}`).toBe(digest(body));
    },
  );

  it("that is longer than its limit is not taken to its end, and the writer says so", async () => {
    const writer = writerOf({});
    expect(await writer.consume(streamOf(randomBytes(100)), 99)).toBe(false);
    const exact = writerOf({});
    expect(await exact.consume(streamOf(randomBytes(100)), 100)).toBe(true);
  });

  it("that breaks off leaves in the tail what came before, but for the read that broke", async () => {
    const READ = 256 * 1024;
    const bytes = randomBytes(2 * READ + 100);
    const writer = writerOf({ partBytes: 4 * READ });
    await expect(writer.consume(brokenStreamOf(bytes), Number.POSITIVE_INFINITY)).rejects.toThrow(BodyBroken);
    expect(writer.newBytes).toBeGreaterThanOrEqual(READ);
    expect(sameBytes(writer.tail, bytes.slice(0, writer.newBytes))).toBe(true);
  });

  it("is not what broke when it is the bytes before that can't be read", async () => {
    const writer = writerOf({ before: async () => brokenStreamOf(randomBytes(100)) });
    const failure = await writer
      .consume(streamOf(randomBytes(100)), Number.POSITIVE_INFINITY)
      .catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(Error);
    expect(failure).not.toBeInstanceOf(BodyBroken);
  });

  it.each<[when: string, start: Partial<PartWriterStart>]>([
    ["before its first part", { onUpload: async () => false }],
    ["after a part", { onParts: async () => false }],
    ["while it copies", { before: async () => streamOf(randomBytes(30)), onCopied: async () => false }],
  ])("is let go when the lease is lost %s; the rest can be read", async (_when, start) => {
    const body = streamOf(randomBytes(100));
    await expect(writerOf(start).consume(body, Number.POSITIVE_INFINITY)).rejects.toThrow(LeaseLost);
    expect(body.locked).toBe(false);
  });

  it("tells of its upload before that has a part", async () => {
    const order: string[] = [];
    const writer = writerOf({
      onUpload: async () => order.push("upload") > 0,
      onParts: async () => order.push("part") > 0,
    });
    await writer.consume(streamOf(randomBytes(20)), Number.POSITIVE_INFINITY);
    expect(order).toEqual(["upload", "part", "part"]);
  });

  it("of more parts than R2 takes is refused with 413", async () => {
    const writer = writerOf({ nextPart: PARTS_MAX });
    const refusal = await writer
      .consume(streamOf(randomBytes(100)), Number.POSITIVE_INFINITY)
      .catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(OciError);
    expect(refusal).toMatchObject({ code: "SIZE_INVALID", status: 413 });
  });
});
