import { abortAllDurableObjects, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { newKey } from "../../../src/blobs/keys.ts";
import { ALARM_PATIENCE_SECONDS, LEASE_IDLE_SECONDS, PART_BYTES, PARTS_MAX } from "../../../src/limits.ts";
import { type Digest, parseDigest } from "../../../src/oci/digest.ts";
import type { Progress } from "../../../src/uploads/ledger.ts";
import type { OpenRequest } from "../../../src/uploads/session.ts";
import { MIB, randomBytes, sameBytes, unknownDigest } from "../../fixtures/content.ts";
import { count } from "../../fixtures/storage.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

const LIFE_MS = 3_600_000;

function freshSession() {
  return env.UPLOADS.getByName(crypto.randomUUID());
}

function request(asked: Partial<OpenRequest> = {}): OpenRequest {
  return {
    start: null,
    purpose: "append",
    hasBytes: true,
    create: { partBytes: PART_BYTES, expiresAtMs: Date.now() + LIFE_MS },
    ...asked,
  };
}

type Session = ReturnType<typeof freshSession>;

/** Opens the session. @throws Error where the right to write is not granted; the answer must be disposed */
async function granted(session: Session, asked: Partial<OpenRequest> = {}) {
  const answer = await session.open(request(asked));
  if (answer.kind !== "granted") throw new Error(`the session was not granted: ${answer.kind}`);
  return answer;
}

/** Bytes in R2 as a single object, and how a session is told of them. */
async function single(length: number): Promise<Progress & { readonly key: string }> {
  const key = newKey("blobs/", Date.now());
  await env.BLOBS.put(key, randomBytes(length));
  return {
    key,
    ledger: { offset: length, multipart: null, objectKey: key, tailBytes: 0, nextPart: 1, hash: null },
    parts: [],
    tail: null,
  };
}

/** A short last part under this number, as a request ends with it. */
function tailOf(bytes: number, number: number): Progress {
  const multipart = { objectKey: "blobs/tail", uploadId: "u" };
  return {
    ledger: { offset: bytes, multipart, objectKey: null, tailBytes: bytes, nextPart: number + 1, hash: null },
    parts: [],
    tail: { part: { number, etag: `etag-${String(bytes)}`, size: bytes }, bytes: randomBytes(bytes) },
  };
}

const aDigest = (): Digest => parseDigest(unknownDigest());

describe("a session that nobody opened", () => {
  it("is absent, is opened only by who may make it, and keeps nothing by being asked", async () => {
    const session = freshSession();
    expect(await session.status()).toEqual({ kind: "absent" });
    expect(await session.cancel()).toBe("absent");
    expect((await session.open(request({ create: null }))).kind).toBe("unknown");
    expect(await session.open(request({ start: 5 }))).toEqual({ kind: "conflict", offset: 0 });
    const kept = await runInDurableObject(session, async (_session, state) => [
      [...(await state.storage.list()).keys()],
      await state.storage.getAlarm(),
    ]);
    expect(kept).toEqual([[], null]);
  });
});

describe("the right to write", () => {
  it("is one request's at a time, until it is released", async () => {
    const session = freshSession();
    using first = await granted(session);
    expect(await session.open(request())).toEqual({ kind: "conflict", offset: 0 });
    expect(await first.lease.release()).toBe(true);
    using second = await granted(session);
    expect(await first.lease.release()).toBe(false);
    expect((await session.open(request())).kind).toBe("conflict");
    expect(second.ledger.nextPart).toBe(first.ledger.nextPart);
  });

  it("ends by itself when its holder lets go of it", async () => {
    const session = freshSession();
    (await granted(session))[Symbol.dispose]();
    await vi.waitFor(async () => {
      using again = await granted(session);
      expect(again.ledger.nextPart).toBe(1);
    });
  });

  it("is granted only where the bytes begin at the offset", async () => {
    const session = freshSession();
    using first = await granted(session, { start: 0 });
    await first.lease.recordEnd(await single(100), "release");
    for (const start of [0, 99, 101])
      expect(await session.open(request({ start }))).toEqual({ kind: "conflict", offset: 100 });
    using second = await granted(session, { start: 100 });
    expect(second.ledger.offset).toBe(100);
  });

  it("passes from a silent holder to a newcomer; what the old one says then is not heard", async () => {
    const session = freshSession();
    using silent = await granted(session);
    const idle = Date.now() + LEASE_IDLE_SECONDS * 1000;
    const clock = vi.spyOn(Date, "now").mockReturnValue(idle - 1000);
    expect((await session.open(request())).kind).toBe("conflict");
    clock.mockReturnValue(idle + 1000);
    using newcomer = await granted(session);
    // Whatever number the silent one is sending to R2, the newcomer uses another.
    expect(newcomer.ledger.nextPart).toBeGreaterThan(silent.ledger.nextPart);
    const multipart = { objectKey: newKey("blobs/", 0), uploadId: "u" };
    expect(await silent.lease.recordParts([{ number: 1, etag: "e", size: PART_BYTES }], multipart)).toBe(false);
    expect(await silent.lease.recordUpload(multipart)).toBe(false);
    expect(await silent.lease.recordEnd(await single(10), "release")).toBe(false);
    expect(await silent.lease.touch()).toBe(false);
    expect([await silent.lease.tail(), await silent.lease.parts()]).toEqual([null, null]);
    expect(await silent.lease.finish(aDigest())).toBe(false);
    expect(await silent.lease.discard()).toBe(false);
    expect(await silent.lease.release()).toBe(false);
    expect(await session.status()).toEqual({ kind: "open", offset: 0 });
    expect(await newcomer.lease.recordEnd(null, "release")).toBe(true);
  });

  it("hands out no number that is recorded: a tail that grows goes by turns under two", async () => {
    const session = freshSession();
    const numbers: number[] = [];
    for (let bytes = 1; bytes <= 6; bytes++) {
      using holder = await granted(session);
      numbers.push(holder.ledger.nextPart);
      await holder.lease.recordEnd(tailOf(bytes, holder.ledger.nextPart), "release");
    }
    expect(numbers).toEqual([1, 2, 1, 2, 1, 2]);
  });

  it("leaves out for good what a silent holder may still be sending", async () => {
    const session = freshSession();
    using first = await granted(session);
    await first.lease.recordEnd(tailOf(1, 1), "release");
    using second = await granted(session);
    await second.lease.recordEnd(tailOf(2, 2), "release");
    using silent = await granted(session);
    expect(silent.ledger.nextPart).toBe(1);
    const clock = vi.spyOn(Date, "now");
    clock.mockReturnValue(Date.now() + (LEASE_IDLE_SECONDS + 1) * 1000);
    using newcomer = await granted(session);
    expect(newcomer.ledger.nextPart).toBe(3);
    clock.mockReturnValue(Date.now() + (LEASE_IDLE_SECONDS + 1) * 1000);
    using another = await granted(session);
    expect(another.ledger.nextPart).toBe(4);
    await another.lease.recordEnd(tailOf(3, 4), "release");
    // Of 3 the second one to fall silent may yet be writing, and of 1 the first.
    using later = await granted(session);
    expect(later.ledger.nextPart).toBe(5);
  });

  it("stays with a holder that records a part now and then", async () => {
    const session = freshSession();
    using busy = await granted(session);
    const multipart = { objectKey: newKey("blobs/", 0), uploadId: "u" };
    const start = Date.now();
    const clock = vi.spyOn(Date, "now");
    for (let number = 1; number <= 3; number++) {
      clock.mockReturnValue(start + number * LEASE_IDLE_SECONDS * 1000);
      expect(await busy.lease.recordParts([{ number, etag: "e", size: PART_BYTES }], multipart)).toBe(true);
      expect(await session.open(request())).toEqual({ kind: "conflict", offset: number * PART_BYTES });
    }
  });
});

describe("the ledger", () => {
  it("is there after its machine is gone; the right to write is free then", async () => {
    const id = crypto.randomUUID();
    using first = await granted(env.UPLOADS.getByName(id));
    await first.lease.recordEnd(await single(100), "release");
    using writer = await granted(env.UPLOADS.getByName(id));
    await abortAllDurableObjects();
    await expect(writer.lease.release().then(() => "still held")).rejects.toThrow();
    using again = await granted(env.UPLOADS.getByName(id), { start: 100 });
    expect([again.ledger.offset, again.ledger.nextPart]).toEqual([100, 1]);
  });

  it("leaves out the number of a part that may still be on its way, held of the machine before", async () => {
    const id = crypto.randomUUID();
    using first = await granted(env.UPLOADS.getByName(id));
    await first.lease.recordEnd(tailOf(1, 1), "release");
    using writer = await granted(env.UPLOADS.getByName(id));
    await abortAllDurableObjects();
    await expect(writer.lease.release().then(() => "still held")).rejects.toThrow();
    using again = await granted(env.UPLOADS.getByName(id));
    expect([writer.ledger.nextPart, again.ledger.nextPart]).toEqual([2, 3]);
    await again.lease.release();
    using later = await granted(env.UPLOADS.getByName(id));
    expect(later.ledger.nextPart).toBe(3);
  });

  it("sends a tail under the last number again under its own: there is no other", async () => {
    const session = freshSession();
    using writer = await granted(session);
    await writer.lease.recordEnd(tailOf(1, PARTS_MAX), "release");
    using next = await granted(session);
    expect(next.ledger.nextPart).toBe(PARTS_MAX);
  });

  it("keeps the bytes of a short last part, in rows that storage takes", async () => {
    const session = freshSession();
    const bytes = randomBytes(3 * MIB + 5);
    const multipart = { objectKey: newKey("blobs/", 0), uploadId: "u" };
    using writer = await granted(session);
    await writer.lease.recordParts([{ number: 1, etag: "one", size: PART_BYTES }], multipart);
    const ledger = {
      offset: PART_BYTES + bytes.length,
      multipart,
      objectKey: null,
      tailBytes: bytes.length,
      nextPart: 2,
      hash: null,
    };
    await writer.lease.recordEnd(
      { ledger, parts: [], tail: { part: { number: 2, etag: "two", size: bytes.length }, bytes } },
      "release",
    );
    using next = await granted(session);
    expect(next.ledger).toMatchObject(ledger);
    expect(sameBytes((await next.lease.tail()) ?? new Uint8Array(0), bytes)).toBe(true);
    expect(await next.lease.parts()).toEqual([
      { number: 1, etag: "one", size: PART_BYTES },
      { number: 2, etag: "two", size: bytes.length },
    ]);
  });

  it("lets go of a tail's part when another takes its bytes in, under whatever number", async () => {
    for (const number of [2, 3]) {
      const session = freshSession();
      const multipart = { objectKey: newKey("blobs/", 0), uploadId: "u" };
      using writer = await granted(session);
      await writer.lease.recordParts([{ number: 1, etag: "one", size: PART_BYTES }], multipart);
      const ledger = { offset: PART_BYTES + 5, multipart, objectKey: null, tailBytes: 5, nextPart: 2, hash: null };
      await writer.lease.recordEnd(
        { ledger, parts: [], tail: { part: { number: 2, etag: "tail", size: 5 }, bytes: randomBytes(5) } },
        "release",
      );
      using next = await granted(session);
      await next.lease.recordParts([{ number, etag: "whole", size: PART_BYTES }], multipart);
      expect(await next.lease.parts()).toEqual([
        { number: 1, etag: "one", size: PART_BYTES },
        { number, etag: "whole", size: PART_BYTES },
      ]);
      expect(await session.status()).toEqual({ kind: "open", offset: 2 * PART_BYTES });
    }
  });

  it("remembers how the session ended: finished, or cancelled", async () => {
    const digest = aDigest();
    const finished = freshSession();
    using writer = await granted(finished);
    expect(await writer.lease.finish(digest)).toBe(true);
    expect(await finished.open(request())).toEqual({ kind: "finished", digest });
    expect(await finished.cancel()).toBe("ended");
    const cancelled = freshSession();
    (await granted(cancelled))[Symbol.dispose]();
    expect(await cancelled.cancel()).toBe("cancelled");
    expect(await cancelled.open(request())).toEqual({ kind: "unknown" });
    expect(await cancelled.cancel()).toBe("ended");
    expect(await finished.status()).toEqual({ kind: "finished", digest });
    expect(await cancelled.status()).toEqual({ kind: "cancelled" });
  });
});

describe("a sealed session", () => {
  it("takes no chunk any more, but its final PUT again, with its bytes or without", async () => {
    const session = freshSession();
    using writer = await granted(session);
    await writer.lease.recordEnd(await single(100), "release");
    const last = await granted(session, { purpose: "finish", hasBytes: false });
    last[Symbol.dispose]();
    for (const start of [null, 0, 100]) expect(await session.open(request({ start }))).toEqual({ kind: "sealed" });
    for (const again of [{ hasBytes: false }, { hasBytes: true }, { hasBytes: true, start: 50 }]) {
      using answer = await granted(session, { purpose: "finish", ...again });
      expect(answer.ledger).toMatchObject({ offset: 100, sealed: true });
      await answer.lease.release();
    }
  });

  it("when it is given up puts its object down as garbage, for the database may know it as a blob", async () => {
    const session = freshSession();
    using writer = await granted(session);
    const { key, ...progress } = await single(100);
    await writer.lease.recordEnd(progress, "seal");
    expect(await session.cancel()).toBe("cancelled");
    expect(await count("SELECT count(*) AS count FROM garbage WHERE object_key = ?1", key)).toBe(1);
    expect(await env.BLOBS.head(key)).not.toBeNull();
  });
});

describe("the alarm", () => {
  it("waits for a request that is at work in the session, but not for ever", async () => {
    const session = freshSession();
    using writer = await granted(session);
    const { key, ...progress } = await single(100);
    await writer.lease.recordEnd(progress, "release");
    using working = await granted(session);
    expect(await runDurableObjectAlarm(session)).toBe(true);
    expect(await session.status()).toEqual({ kind: "open", offset: 100 });
    expect(await runInDurableObject(session, async (_session, state) => state.storage.getAlarm())).toBeGreaterThan(
      Date.now(),
    );
    const late = Date.now() + LIFE_MS + ALARM_PATIENCE_SECONDS * 1000 + 1;
    vi.spyOn(Date, "now").mockReturnValue(late);
    expect(await runDurableObjectAlarm(session)).toBe(true);
    expect(await session.status()).toEqual({ kind: "absent" });
    expect(await env.BLOBS.head(key)).toBeNull();
    expect(await working.lease.recordEnd(null, "release")).toBe(false);
  });
});
