import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { newKey } from "../../src/blobs/keys.ts";
import { LEASE_IDLE_SECONDS } from "../../src/limits.ts";
import { parseDigest } from "../../src/oci/digest.ts";
import type { Multipart, Part, Progress } from "../../src/uploads/ledger.ts";
import type { OpenRequest } from "../../src/uploads/session.ts";
import { randomBytes, unknownDigest } from "../fixtures/content.ts";
import type { Bytes } from "../support/client.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

/** Parts of a few bytes: R2 minds their size when they are made one object, and here they never are. */
const PART_BYTES = 7;

type Session = ReturnType<typeof env.UPLOADS.getByName>;

/** Opens the session. @throws Error where the right to write is not granted; the answer must be disposed */
async function granted(session: Session, asked: Partial<OpenRequest> = {}) {
  const create = { partBytes: PART_BYTES, expiresAtMs: Date.now() + 3_600_000 };
  const answer = await session.open({ start: null, purpose: "append", hasBytes: true, create, ...asked });
  if (answer.kind !== "granted") throw new Error(`the session was not granted: ${answer.kind}`);
  return answer;
}

interface Begun {
  readonly session: Session;
  readonly multipart: Multipart;
  readonly parts: readonly Part[];
  readonly tail: Bytes;
}

/** A session of two whole parts and a tail, all of them in R2. */
async function begun(): Promise<Begun> {
  const session = env.UPLOADS.getByName(crypto.randomUUID());
  const upload = await env.BLOBS.createMultipartUpload(newKey("blobs/", Date.now()));
  const multipart = { objectKey: upload.key, uploadId: upload.uploadId };
  const tail = randomBytes(3);
  const parts: Part[] = [];
  for (const [at, bytes] of [randomBytes(PART_BYTES), randomBytes(PART_BYTES), tail].entries()) {
    const { partNumber, etag } = await upload.uploadPart(at + 1, bytes);
    parts.push({ number: partNumber, etag, size: bytes.byteLength });
  }
  const [whole, last] = [parts.slice(0, -1), parts.at(-1)];
  if (last === undefined) throw new Error("no part was sent");
  using writer = await granted(session);
  expect(await writer.lease.recordParts(whole, multipart)).toBe(true);
  expect(await writer.lease.recordEnd(progressOf(multipart, last, tail), "release")).toBe(true);
  return { session, multipart, parts, tail };
}

function progressOf(multipart: Multipart, last: Part, bytes: Bytes): Progress {
  const offset = 2 * PART_BYTES + last.size;
  return {
    ledger: { offset, multipart, objectKey: null, tailBytes: last.size, nextPart: last.number, hash: null },
    parts: [],
    tail: { part: last, bytes },
  };
}

/** All that the session has in its storage. */
async function storedIn(session: Session): Promise<object> {
  return runInDurableObject(session, (_session, { storage }) => ({
    values: [...storage.kv.list()],
    parts: storage.sql.exec("SELECT number, etag, size FROM parts ORDER BY number").toArray(),
    tail: storage.sql.exec("SELECT row, hex(bytes) AS bytes FROM tail ORDER BY row").toArray(),
  }));
}

/** The multipart upload is neither aborted nor completed. */
async function takesParts({ objectKey, uploadId }: Multipart): Promise<boolean> {
  return env.BLOBS.resumeMultipartUpload(objectKey, uploadId)
    .uploadPart(9_999, new Uint8Array(1))
    .then(
      () => true,
      () => false,
    );
}

function letLeasesGoIdle(): void {
  const late = Date.now() + (LEASE_IDLE_SECONDS + 1) * 1000;
  vi.spyOn(Date, "now").mockReturnValue(late);
}

type Lease = Awaited<ReturnType<typeof granted>>["lease"];

/** Every call that writes, as one that lost its lease might still make it. */
const writes: Readonly<Record<string, (lease: Lease, of: Begun) => Promise<boolean>>> = {
  recordParts: async (lease, { multipart }) =>
    lease.recordParts([{ number: 3, etag: "late", size: PART_BYTES }], multipart),
  "recordParts of another upload": async (lease) =>
    lease.recordParts([{ number: 1, etag: "late", size: PART_BYTES }], {
      objectKey: newKey("blobs/", 0),
      uploadId: "u",
    }),
  "recordEnd of bytes": async (lease, { multipart }) =>
    lease.recordEnd(progressOf(multipart, { number: 3, etag: "late", size: 5 }, randomBytes(5)), "release"),
  "recordEnd of bytes, to seal": async (lease, { multipart }) =>
    lease.recordEnd(progressOf(multipart, { number: 3, etag: "late", size: 5 }, randomBytes(5)), "seal"),
  "recordEnd of nothing": async (lease) => lease.recordEnd(null, "release"),
  "recordEnd of nothing, to seal": async (lease) => lease.recordEnd(null, "seal"),
  finish: async (lease) => lease.finish(parseDigest(unknownDigest())),
  discard: async (lease) => lease.discard(),
  release: async (lease) => lease.release(),
};

describe.each(Object.entries(writes))("%s by one whose session another request took over", (_call, write) => {
  it("answers false, changes nothing in the session or in R2, and leaves the other one its right", async () => {
    const of = await begun();
    using silent = await granted(of.session);
    letLeasesGoIdle();
    using newcomer = await granted(of.session, { start: 2 * PART_BYTES + of.tail.byteLength });
    const before = await storedIn(of.session);
    expect(await write(silent.lease, of)).toBe(false);
    expect(await storedIn(of.session)).toEqual(before);
    expect(await takesParts(of.multipart)).toBe(true);
    expect(await of.session.open({ start: null, purpose: "append", hasBytes: true, create: null })).toEqual({
      kind: "conflict",
      offset: 2 * PART_BYTES + of.tail.byteLength,
    });
    expect(await newcomer.lease.recordEnd(null, "release")).toBe(true);
  });

  it("answers false too where that one has finished, or cancelled, the session", async () => {
    for (const end of ["finished", "cancelled"] as const) {
      const of = await begun();
      using silent = await granted(of.session);
      letLeasesGoIdle();
      using newcomer = await granted(of.session);
      vi.restoreAllMocks();
      if (end === "finished") expect(await newcomer.lease.finish(parseDigest(unknownDigest()))).toBe(true);
      else expect(await of.session.cancel()).toBe("cancelled");
      const before = await storedIn(of.session);
      expect(await write(silent.lease, of)).toBe(false);
      expect(await storedIn(of.session)).toEqual(before);
      expect((await of.session.status()).kind).not.toBe("open");
      // What was cancelled has left R2; what was finished is the blob's.
      expect(await takesParts(of.multipart)).toBe(end === "finished");
    }
  });
});

describe("tail and parts", () => {
  it("are what the session has, to the one who holds it; to one whose session another took over they are null", async () => {
    const of = await begun();
    using silent = await granted(of.session);
    expect([await silent.lease.tail(), await silent.lease.parts()]).toEqual([of.tail, of.parts]);
    letLeasesGoIdle();
    using newcomer = await granted(of.session);
    const before = await storedIn(of.session);
    expect([await silent.lease.tail(), await silent.lease.parts()]).toEqual([null, null]);
    expect([await newcomer.lease.tail(), await newcomer.lease.parts()]).toEqual([of.tail, of.parts]);
    expect(await storedIn(of.session)).toEqual(before);
    // The newcomer's part takes the tail in, under another number than the silent one may still be sending to.
    const { nextPart } = newcomer.ledger;
    expect(nextPart).toBeGreaterThan(of.parts.length);
    const whole = { number: nextPart, etag: "whole", size: PART_BYTES };
    expect(await newcomer.lease.recordParts([whole], of.multipart)).toBe(true);
    expect(await newcomer.lease.tail()).toEqual(new Uint8Array(0));
    expect(await newcomer.lease.parts()).toEqual([...of.parts.slice(0, -1), whole]);
    expect([await silent.lease.tail(), await silent.lease.parts()]).toEqual([null, null]);
  });

  it.each(["cancelled", "finished"])("are null when the session is %s", async (end) => {
    const of = await begun();
    using holder = await granted(of.session);
    if (end === "finished") await holder.lease.finish(parseDigest(unknownDigest()));
    else expect(await of.session.cancel()).toBe("cancelled");
    expect([await holder.lease.tail(), await holder.lease.parts()]).toEqual([null, null]);
  });

  it.each(["tail", "parts"] as const)("%s is a sign of life: the session is not taken from who asks", async (asked) => {
    const of = await begun();
    using busy = await granted(of.session);
    const clock = vi.spyOn(Date, "now");
    const start = Date.now();
    for (let turn = 1; turn <= 3; turn++) {
      clock.mockReturnValue(start + turn * LEASE_IDLE_SECONDS * 1000);
      expect(await busy.lease[asked]()).not.toBeNull();
      expect((await of.session.open({ start: null, purpose: "append", hasBytes: true, create: null })).kind).toBe(
        "conflict",
      );
    }
  });
});

describe("a lease that is let go twice", () => {
  it("does not take the next one's right", async () => {
    const { session } = await begun();
    using first = await granted(session);
    expect(await first.lease.release()).toBe(true);
    using second = await granted(session);
    expect(await first.lease.release()).toBe(false);
    expect((await session.open({ start: null, purpose: "append", hasBytes: true, create: null })).kind).toBe(
      "conflict",
    );
    expect(await second.lease.recordEnd(null, "release")).toBe(true);
  });

  it.each(["recordEnd", "finish", "discard"] as const)("is free after %s without a release", async (how) => {
    const of = await begun();
    using first = await granted(of.session);
    if (how === "recordEnd") await first.lease.recordEnd(null, "release");
    if (how === "finish") await first.lease.finish(parseDigest(unknownDigest()));
    if (how === "discard") await first.lease.discard();
    expect(await first.lease.release()).toBe(false);
  });

  it("is kept after a recordEnd that seals: its holder goes on to make the object whole", async () => {
    const of = await begun();
    using last = await granted(of.session, { purpose: "finish" });
    expect(await last.lease.recordEnd(null, "seal")).toBe(true);
    expect((await of.session.open({ start: null, purpose: "finish", hasBytes: false, create: null })).kind).toBe(
      "conflict",
    );
    expect(await last.lease.release()).toBe(true);
  });
});
