import { afterEach, describe, expect, it, vi } from "vitest";
import { LEASE_IDLE_SECONDS, PART_BYTES } from "../../src/limits.ts";
import { bodyOf, digest, pausedStream, randomBytes, sameBytes, unknownDigest } from "../fixtures/content.ts";
import { freshRepository, serve, streamed } from "../fixtures/registry.ts";
import { objectsMadeBy, runPass } from "../fixtures/storage.ts";
import { beginWith, begin } from "../fixtures/upload.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { type Bytes, locationOf, type RepositoryClient } from "../support/client.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

/** Makes every lease that is held now an idle one. */
function letLeasesGoIdle(): void {
  const late = Date.now() + (LEASE_IDLE_SECONDS + 1) * 1000;
  vi.spyOn(Date, "now").mockReturnValue(late);
}

/** A request that is in the midst of its body: `seen` bytes of the chunk have been taken. */
async function paused(method: "PATCH" | "PUT", target: string, chunk: Bytes, seen: number) {
  const { body, reading, resume } = pausedStream(chunk.slice(0, seen), chunk.slice(seen));
  const answered = serve(streamed(method, target, body));
  await reading;
  return {
    resume: async (): Promise<Response> => {
      resume();
      return answered;
    },
  };
}

async function expectFinished(repository: RepositoryClient, location: string, bytes: Bytes): Promise<void> {
  const finished = await repository.finishUpload(location, digest(bytes));
  expect(finished.status, await finished.text()).toBe(201);
  expect(sameBytes(await bodyOf(await repository.getBlob(digest(bytes))), bytes)).toBe(true);
}

describe("two requests on one session at once", () => {
  it.each([
    ["a first PATCH", 0],
    ["a PATCH after another", 100],
    ["a PATCH after several parts", PART_BYTES + 100],
  ])("%s: the one that came first wins, the other gets 416 and where the session stands", async (_what, offset) => {
    const repository = freshRepository();
    const bytes = randomBytes(offset + 1000);
    const location =
      offset === 0 ? (await begin(repository)).location : (await beginWith(repository, bytes.slice(0, offset))).last;
    const running = await paused("PATCH", location, bytes.slice(offset), 500);
    for (const other of [
      await repository.appendChunk(location, randomBytes(10)),
      await repository.appendChunk(location, bytes.slice(offset), offset),
      await repository.finishUpload(location, unknownDigest(), randomBytes(10), offset),
    ]) {
      expect(other.headers.get("Range")).toBe(`0-${String(Math.max(0, offset - 1))}`);
      await expectError(other, 416, "BLOB_UPLOAD_INVALID");
    }
    const patched = await running.resume();
    expect(patched.status).toBe(202);
    await expectFinished(repository, locationOf(patched), bytes);
  });

  it("many PATCHes of the same chunk: one is taken", async () => {
    const repository = freshRepository();
    const chunks = Array.from({ length: 8 }, () => randomBytes(1000));
    const { location } = await begin(repository);
    const answers = await Promise.all(chunks.map(async (chunk) => repository.appendChunk(location, chunk, 0)));
    expect(answers.map(({ status }) => status).toSorted((one, other) => one - other)).toEqual([
      202,
      ...Array.from({ length: 7 }, () => 416),
    ]);
    const winner = answers.findIndex(({ status }) => status === 202);
    const [won, patched] = [chunks[winner], answers[winner]];
    if (won === undefined || patched === undefined) throw new Error("nobody won");
    await expectFinished(repository, locationOf(patched), won);
  });

  it("a final PUT while a PATCH runs gets 416, and does not end the upload", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(2000);
    const { last } = await beginWith(repository, bytes.slice(0, 1000));
    const running = await paused("PATCH", last, bytes.slice(1000), 500);
    await expectError(await repository.finishUpload(last, digest(bytes.slice(0, 1000))), 416, "BLOB_UPLOAD_INVALID");
    const patched = await running.resume();
    expect(patched.status).toBe(202);
    await expectFinished(repository, locationOf(patched), bytes);
  });

  it("several final PUTs: each is 201, or 416 and 201 when repeated", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(1000);
    const { last } = await beginWith(repository, bytes.slice(0, 500), bytes.slice(500));
    const answers = await Promise.all(
      Array.from({ length: 5 }, async () => repository.finishUpload(last, digest(bytes))),
    );
    expect(answers.map(({ status }) => status)).toContain(201);
    for (const { status } of answers) expect([201, 416]).toContain(status);
    await expectFinished(repository, last, bytes);
  });

  it("several final PUTs of a session without chunks, of different blobs: one digest wins", async () => {
    const repository = freshRepository();
    const blobs = Array.from({ length: 5 }, () => randomBytes(1000));
    const { location } = await begin(repository);
    const answers = await Promise.all(blobs.map(async (blob) => repository.finishUpload(location, digest(blob), blob)));
    expect(answers.map(({ status }) => status).toSorted((one, other) => one - other)).toEqual([
      201, 400, 400, 400, 400,
    ]);
    const stored = await Promise.all(blobs.map(async (blob) => (await repository.headBlob(digest(blob))).status));
    expect(stored).toEqual(answers.map(({ status }) => (status === 201 ? 200 : 404)));
  });

  it("end-14 DELETE while a PATCH runs cancels the upload; nothing of it stays in R2", async () => {
    for (const length of [1000, PART_BYTES + 1000]) {
      const repository = freshRepository();
      const made = await objectsMadeBy(async () => {
        const { last } = await beginWith(repository, randomBytes(1000));
        const running = await paused("PATCH", last, randomBytes(length), length - 500);
        expect((await repository.cancelUpload(last)).status).toBe(204);
        await expectError(await running.resume(), 404, "BLOB_UPLOAD_UNKNOWN");
        expect((await repository.uploadStatus(last)).status).toBe(404);
        await runPass({ graceSeconds: 3600 });
      });
      expect(made).toEqual([]);
    }
  });
});

describe("a PATCH whose client fell silent", () => {
  it.each<[what: string, before: number, silent: number, taken: number, ranged?: "ranged"]>([
    ["in a session without bytes", 0, 1000, 500],
    ["in a session of a single object", 1000, 1000, 500],
    ["in a session of a single object that is large", PART_BYTES + 1000, 1000, 500],
    ["in a session with a tail", PART_BYTES + 1000, 1000, 500, "ranged"],
    ["after it sent a part of its own", 1000, 2 * PART_BYTES, PART_BYTES + 500],
    ["after it sent the part that took a tail in", PART_BYTES + 1000, 2 * PART_BYTES, PART_BYTES + 500, "ranged"],
    ["after it copied a large object, and sent a part", PART_BYTES + 1000, 2 * PART_BYTES, PART_BYTES + 500],
  ])(
    "%s gives way to another at the right offset, and its late bytes change nothing",
    async (_what, before, silent, taken, ranged) => {
      const repository = freshRepository();
      const bytes = randomBytes(before + silent + 3000);
      const { location: first } = await begin(repository);
      const start = ranged === undefined ? undefined : 0;
      const location =
        before === 0 ? first : locationOf(await repository.appendChunk(first, bytes.slice(0, before), start));
      const garbage = randomBytes(silent);
      // The parts that went through are right; what comes after the silence is not what the newcomer sends.
      const lost = new Uint8Array(garbage);
      lost.set(bytes.subarray(before, before + taken));
      const made = await objectsMadeBy(async () => {
        const running = await paused("PATCH", location, lost, taken);
        letLeasesGoIdle();
        const status = await repository.uploadStatus(location);
        const recorded = Number(/^0-(\d+)$/.exec(status.headers.get("Range") ?? "")?.[1]) + 1;
        const stands = before === 0 && recorded === 1 ? 0 : recorded;
        const taking = await repository.appendChunk(locationOf(status), bytes.slice(stands), stands);
        expect(taking.status).toBe(202);
        const late = await running.resume();
        await expectError(late, 416, "BLOB_UPLOAD_INVALID");
        await expectFinished(repository, locationOf(taking), bytes);
      });
      expect(made).toHaveLength(1);
    },
  );

  it("gives way to a final PUT too", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(PART_BYTES + 1000);
    const { last } = await beginWith(repository, bytes);
    const silent = await paused("PATCH", last, randomBytes(1000), 500);
    letLeasesGoIdle();
    await expectFinished(repository, last, bytes);
    await expectError(await silent.resume(), 404, "BLOB_UPLOAD_UNKNOWN");
    expect(sameBytes(await bodyOf(await repository.getBlob(digest(bytes))), bytes)).toBe(true);
  });

  it.each([1000, PART_BYTES + 1000])(
    "and a final PUT too: after %i bytes it is told where the session stands by then",
    async (before) => {
      const repository = freshRepository();
      const bytes = randomBytes(before + 3000);
      const { last } = await beginWith(repository, bytes.slice(0, before));
      const silent = await paused("PUT", `${last}?digest=${digest(bytes)}`, randomBytes(3000), 500);
      letLeasesGoIdle();
      const taking = await repository.appendChunk(last, bytes.slice(before), before);
      expect(taking.status).toBe(202);
      const late = await silent.resume();
      expect(late.headers.get("Range")).toBe(`0-${String(bytes.byteLength - 1)}`);
      await expectError(late, 416, "BLOB_UPLOAD_INVALID");
      await expectFinished(repository, locationOf(taking), bytes);
    },
  );

  it.each([0, undefined])(
    "gives way twice, and the silent ones' late parts are not part of the blob (from %s)",
    async (start) => {
      const repository = freshRepository();
      const bytes = randomBytes(3 * PART_BYTES);
      const before = PART_BYTES + 1000;
      const { location } = await begin(repository);
      const last = locationOf(await repository.appendChunk(location, bytes.slice(0, before), start));
      const late = [];
      for (let silent = 0; silent < 2; silent++) {
        late.push(await paused("PATCH", last, randomBytes(2 * PART_BYTES), 500));
        letLeasesGoIdle();
      }
      const taking = await repository.appendChunk(last, bytes.slice(before), before);
      expect(taking.status).toBe(202);
      for (const running of late) await expectError(await running.resume(), 416, "BLOB_UPLOAD_INVALID");
      await expectFinished(repository, locationOf(taking), bytes);
    },
  );
});
