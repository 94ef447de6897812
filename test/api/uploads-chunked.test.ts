import { env } from "cloudflare:workers";
import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { PART_BYTES } from "../../src/limits.ts";
import { bodyOf, digest, MIB, randomBytes, sameBytes, streamOf } from "../fixtures/content.ts";
import { interceptOperations } from "../fixtures/intercepted-env.ts";
import { freshRepository, registryWith, serve, streamed } from "../fixtures/registry.ts";
import { objectKeyOf, objectsMadeBy } from "../fixtures/storage.ts";
import { append, begin, offsetIn } from "../fixtures/upload.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { type Bytes, locationOf, type RepositoryClient } from "../support/client.ts";

async function expectPulled(repository: RepositoryClient, bytes: Bytes): Promise<void> {
  const pulled = await bodyOf(await repository.getBlob(digest(bytes)));
  expect(pulled.byteLength).toBe(bytes.byteLength);
  expect(sameBytes(pulled, bytes)).toBe(true);
}

/** How often each R2 method was called while `work` ran against a repository whose bindings are watched. */
async function r2CallsOf(
  work: (watched: (repository: RepositoryClient) => RepositoryClient) => Promise<void>,
): Promise<Record<string, number>> {
  const calls: Record<string, number> = {};
  const watchedEnv = interceptOperations(env, {
    before: ({ binding, method }) => {
      if (binding === "BLOBS") calls[method] = (calls[method] ?? 0) + 1;
    },
  });
  await work((repository) => registryWith(watchedEnv).repository(repository.name));
  return calls;
}

describe("end-5 PATCH without a length", () => {
  it.each([0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 20 * MIB])(
    "of %i bytes is in R2 when it is answered, as one object",
    async (length) => {
      const repository = freshRepository();
      const bytes = randomBytes(length);
      const { location } = await begin(repository);
      const made = await objectsMadeBy(async () => {
        const patched = await serve(streamed("PATCH", location, streamOf(bytes)));
        expect([patched.status, patched.headers.get("Range")]).toEqual([202, `0-${String(Math.max(0, length - 1))}`]);
        const calls = await r2CallsOf(async (watched) => {
          expect((await watched(repository).finishUpload(locationOf(patched), digest(bytes))).status).toBe(201);
        });
        // The final PUT moves no bytes: at most it makes the parts one object, or writes the object of no bytes.
        expect(Object.keys(calls).filter((method) => method === "uploadPart" || method === "get")).toEqual([]);
        expect(calls["put"] ?? 0).toBe(length === 0 ? 1 : 0);
      });
      expect(made).toEqual([await objectKeyOf(digest(bytes))]);
      await expectPulled(repository, bytes);
    },
  );

  it("costs one R2 put where the blob fits in one part", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(MIB);
    const calls = await r2CallsOf(async (watched) => {
      const { location } = await begin(repository);
      const last = await append(watched(repository), location, bytes);
      expect((await watched(repository).finishUpload(last, digest(bytes))).status).toBe(201);
    });
    expect(calls).toEqual({ put: 1 });
  });
});

describe("end-5 PATCH after PATCH", () => {
  it.each<[what: string, chunks: readonly number[]]>([
    ["of one byte each", [1, 1, 1, 1, 1]],
    ["of 1 MiB each, over the border of a part", [PART_BYTES - 2 * MIB, MIB, MIB, MIB]],
    ["that end one byte before, at, and after the border of a part", [PART_BYTES - 1, 1, 1]],
    [
      "of a part and a tail, then one shorter than the tail, one that fills it, one more",
      [PART_BYTES + 3 * MIB, 100, PART_BYTES - 3 * MIB - 100, 1],
    ],
    ["an empty one between others", [100, 0, 100]],
    ["an empty one first", [0, 100]],
    ["of several parts, then a byte", [2 * PART_BYTES + 5, 1]],
    ["of several parts, then none, then several, then a byte", [PART_BYTES + 5, 0, 2 * PART_BYTES, 1]],
  ])("%s: the bytes are whole and in order, and one object, with ranges and without", async (_what, lengths) => {
    for (const ranged of [true, false]) {
      const repository = freshRepository();
      const bytes = randomBytes(lengths.reduce((sum, length) => sum + length, 0));
      let { location } = await begin(repository);
      let at = 0;
      const made = await objectsMadeBy(async () => {
        for (const length of lengths) {
          const start = ranged && length > 0 ? at : undefined;
          const patched = await repository.appendChunk(location, bytes.slice(at, (at += length)), start);
          expect([patched.status, patched.headers.get("Range")]).toEqual([202, `0-${String(Math.max(0, at - 1))}`]);
          location = locationOf(patched);
        }
        expect((await repository.finishUpload(location, digest(bytes))).status).toBe(201);
      });
      expect(made).toEqual([await objectKeyOf(digest(bytes))]);
      await expectPulled(repository, bytes);
    }
  });

  it("in chunks of 10 MiB sends each byte to R2 once", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(20 * MIB);
    const { location } = await begin(repository);
    const calls = await r2CallsOf(async (watched) => {
      const client = watched(repository);
      const first = await client.appendChunk(location, bytes.slice(0, 10 * MIB), 0);
      expect((await client.appendChunk(locationOf(first), bytes.slice(10 * MIB), 10 * MIB)).status).toBe(202);
    });
    expect(calls).toEqual({ createMultipartUpload: 1, uploadPart: 4 });
    expect((await repository.finishUpload(location, digest(bytes))).status).toBe(201);
    await expectPulled(repository, bytes);
  });

  it("may end in a final PUT that brings the last chunk", async () => {
    for (const ranged of [true, false]) {
      const repository = freshRepository();
      const bytes = randomBytes(PART_BYTES + 200);
      const last = await append(repository, (await begin(repository)).location, bytes.slice(0, PART_BYTES + 100));
      const finished = await repository.finishUpload(
        last,
        digest(bytes),
        bytes.slice(PART_BYTES + 100),
        ranged ? PART_BYTES + 100 : undefined,
      );
      expect(finished.status).toBe(201);
      await expectPulled(repository, bytes);
    }
  });

  it("that repeats, overlaps or leaves out bytes gets 416, says where to go on, and changes nothing", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(300);
    let { location } = await begin(repository);
    for (const start of [0, 100, 200]) {
      for (const wrong of [0, 50, 99, 101, 150, 250, 1000].filter((each) => each !== start)) {
        for (const answer of [
          await repository.appendChunk(location, randomBytes(100), wrong),
          await repository.finishUpload(location, digest(bytes), randomBytes(100), wrong),
        ]) {
          expect(answer.headers.get("Range")).toBe(`0-${String(Math.max(0, start - 1))}`);
          expect(answer.headers.get("Location")).not.toBeNull();
          await expectError(answer, 416, "BLOB_UPLOAD_INVALID");
        }
      }
      location = locationOf(await repository.appendChunk(location, bytes.slice(start, start + 100), start));
    }
    expect((await repository.finishUpload(location, digest(bytes))).status).toBe(201);
    await expectPulled(repository, bytes);
  });

  it.each([
    ["shorter than its Content-Range", 100, "0-199"],
    ["longer than its Content-Range", 100, "0-49"],
    ["longer than a part, and than its Content-Range", PART_BYTES + MIB, `0-${String(PART_BYTES)}`],
    [
      "shorter than its Content-Range, though longer than a part",
      PART_BYTES + MIB,
      `0-${String(PART_BYTES + 2 * MIB)}`,
    ],
  ])("that is %s is refused; where the session says it stands, it goes on", async (_what, length, range) => {
    for (const known of length > PART_BYTES ? [false] : [true, false]) {
      const repository = freshRepository();
      const bytes = randomBytes(length);
      const { location } = await begin(repository);
      const headers = { "Content-Range": range, ...(known ? { "Content-Length": String(length) } : {}) };
      const refused = await serve(streamed("PATCH", location, streamOf(bytes), headers));
      await expectError(refused, 400, "SIZE_INVALID");
      const status = await repository.uploadStatus(location);
      expect(status.status).toBe(204);
      const stands = offsetIn(status);
      const resumed = await repository.finishUpload(locationOf(status), digest(bytes), bytes.slice(stands), stands);
      expect(resumed.status).toBe(201);
      await expectPulled(repository, bytes);
    }
  });

  it.each(["abc", "5", "9-5", "-5", "0-1/x", "bytes"])(
    "with the Content-Range %j is refused, and changes nothing",
    async (range) => {
      const repository = freshRepository();
      const { location } = await begin(repository);
      for (const method of ["PATCH", "PUT"]) {
        const target = method === "PUT" ? `${location}?digest=${digest(new Uint8Array(1))}` : location;
        const response = await repository.registry.request(method, target, {
          headers: { "Content-Range": range },
          body: new Uint8Array(1),
        });
        await expectError(response, 400, "BLOB_UPLOAD_INVALID");
      }
      expect((await repository.uploadStatus(location)).headers.get("Range")).toBe("0-0");
    },
  );
});

describe("any split of a body into chunks", () => {
  const chunk = fc.oneof(
    { weight: 8, arbitrary: fc.nat({ max: 5000 }) },
    { weight: 1, arbitrary: fc.constantFrom(5 * MIB, PART_BYTES - 1) },
  );
  test.prop(
    [fc.array(fc.record({ length: chunk, ranged: fc.boolean() }), { minLength: 1, maxLength: 4 }), fc.boolean()],
    { numRuns: 12 },
  )(
    "ends in the same digest",
    async (chunks, lastWithFinalPut) => {
      const repository = freshRepository();
      const bytes = randomBytes(chunks.reduce((sum, { length }) => sum + length, 0));
      let { location } = await begin(repository);
      let at = 0;
      for (const [index, { length, ranged }] of chunks.entries()) {
        const piece = bytes.slice(at, at + length);
        const start = ranged && length > 0 ? at : undefined;
        at += length;
        if (lastWithFinalPut && index === chunks.length - 1) {
          // At the POST's location a final PUT with bytes is a whole blob, unless it says where they begin.
          const response = await repository.finishUpload(
            location,
            digest(bytes),
            length === 0 ? undefined : piece,
            start,
          );
          expect(response.status).toBe(201);
        } else {
          location = locationOf(await repository.appendChunk(location, piece, start));
        }
      }
      if (!lastWithFinalPut) expect((await repository.finishUpload(location, digest(bytes))).status).toBe(201);
      await expectPulled(repository, bytes);
    },
    60_000,
  );
});
