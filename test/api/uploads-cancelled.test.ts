import { describe, expect, it } from "vitest";
import { PART_BYTES, PART_MIN_BYTES } from "../../src/limits.ts";
import { pausedStream, randomBytes } from "../fixtures/content.ts";
import { watchMultiparts } from "../fixtures/multiparts.ts";
import { freshRepository, registryWith, serve, streamed } from "../fixtures/registry.ts";
import { objectsMadeBy, runPass } from "../fixtures/storage.ts";
import { begin } from "../fixtures/upload.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { locationOf, type RepositoryClient } from "../support/client.ts";

interface Kind {
  /** bytes of the chunks that came before, each with Content-Range */
  readonly before: readonly number[];
  /** bytes of the PATCH that is in flight when its session is cancelled */
  readonly length: number;
  /** with Content-Range: a PATCH without one is taken for all of the blob */
  readonly ranged: boolean;
  /** D1, R2 and session operations of the PATCH, at least */
  readonly operations: number;
}

const kinds: Readonly<Record<string, Kind>> = {
  "of a single object": { before: [], length: 1000, ranged: true, operations: 3 },
  "of a single object behind another": { before: [1000], length: 1000, ranged: true, operations: 3 },
  "of several parts, which it makes one object": {
    before: [],
    length: PART_BYTES + 1000,
    ranged: false,
    operations: 6,
  },
  "of several parts": { before: [], length: 2 * PART_MIN_BYTES + 1000, ranged: true, operations: 5 },
  "behind a tail": { before: [PART_MIN_BYTES, 1000], length: PART_MIN_BYTES, ranged: true, operations: 3 },
};

async function startWith(repository: RepositoryClient, lengths: readonly number[]): Promise<string> {
  let { location } = await begin(repository);
  let at = 0;
  for (const length of lengths) {
    const patched = await repository.appendChunk(location, randomBytes(length), at);
    expect(patched.status).toBe(202);
    location = locationOf(patched);
    at += length;
  }
  return location;
}

const sum = (lengths: readonly number[]): number => lengths.reduce((total, length) => total + length, 0);

/** Nothing of it is there, and nobody can go on with it. */
async function expectCancelled(repository: RepositoryClient, location: string, patched: Response): Promise<void> {
  await expectError(patched, patched.status === 416 ? 416 : 404, ["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"]);
  await expectError(await repository.uploadStatus(location), 404, "BLOB_UPLOAD_UNKNOWN");
  await expectError(await repository.appendChunk(location, randomBytes(10)), 404, "BLOB_UPLOAD_UNKNOWN");
}

describe.each(Object.entries(kinds))("end-14 DELETE while a PATCH %s is in flight", (_kind, kind) => {
  it.each(["before", "after"] as const)(
    "right %s any of its operations: 204, the PATCH is refused in the end, and nothing stays in R2",
    { timeout: 120_000 },
    async (when) => {
      for (let at = 0; ; at++) {
        const repository = freshRepository();
        let reached = false;
        const made = await objectsMadeBy(async () => {
          const location = await startWith(repository, kind.before);
          let operations = 0;
          const watched = watchMultiparts({
            [when]: async () => {
              if (operations++ !== at) return;
              reached = true;
              expect({ at, status: (await repository.cancelUpload(location)).status }).toEqual({ at, status: 204 });
            },
          });
          const start = kind.ranged ? sum(kind.before) : undefined;
          const patched = await registryWith(watched.env)
            .repository(repository.name)
            .appendChunk(location, randomBytes(kind.length), start);
          // After its last word to the session it had come to its end before the DELETE did.
          const ended = when === "after" && patched.status === 202;
          if (reached && ended) expect((await repository.uploadStatus(location)).status).toBe(404);
          else if (reached) await expectCancelled(repository, location, patched);
          else expect((await repository.cancelUpload(locationOf(patched))).status).toBe(204);
          await runPass({ graceSeconds: 3600 });
          expect({ at, open: await watched.open() }).toEqual({ at, open: [] });
        });
        expect({ at, made }).toEqual({ at, made: [] });
        if (!reached) {
          expect(at).toBeGreaterThanOrEqual(kind.operations);
          return;
        }
      }
    },
  );

  it("in the midst of its body: 204, the PATCH is refused in the end, and nothing stays in R2", async () => {
    const repository = freshRepository();
    const made = await objectsMadeBy(async () => {
      const location = await startWith(repository, kind.before);
      const start = sum(kind.before);
      const range = `${String(start)}-${String(start + kind.length - 1)}`;
      const { body, reading, resume } = pausedStream(randomBytes(kind.length - 500), randomBytes(500));
      const watched = watchMultiparts();
      const headers: Readonly<Record<string, string>> = kind.ranged ? { "Content-Range": range } : {};
      const answered = serve(streamed("PATCH", location, body, headers), watched.env);
      await reading;
      expect((await repository.cancelUpload(location)).status).toBe(204);
      resume();
      await expectCancelled(repository, location, await answered);
      await runPass({ graceSeconds: 3600 });
      expect(await watched.open()).toEqual([]);
    });
    expect(made).toEqual([]);
  });
});
