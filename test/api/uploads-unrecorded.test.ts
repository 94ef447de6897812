import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { LEASE_IDLE_SECONDS, PART_BYTES } from "../../src/limits.ts";
import { bodyOf, brokenStreamOf, digest, MIB, randomBytes, sameBytes, streamOf } from "../fixtures/content.ts";
import { type WatchedMultiparts, watchMultiparts } from "../fixtures/multiparts.ts";
import { freshRepository, registryWith, serve, streamed } from "../fixtures/registry.ts";
import { objectsMadeBy, runPass } from "../fixtures/storage.ts";
import { begin, beginWith, offsetIn } from "../fixtures/upload.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { type Bytes, locationOf, type RepositoryClient } from "../support/client.ts";

beforeEach(() => {
  // The faults that R2 is given here are logged, as they should be.
  vi.spyOn(console, "error").mockReturnValue(undefined);
});

afterEach(() => {
  vi.restoreAllMocks();
});

interface Started {
  readonly id: string;
  readonly location: string;
}

/** A session that has these bytes. */
async function startWith(repository: RepositoryClient, before: Bytes): Promise<Started> {
  if (before.byteLength === 0) return begin(repository);
  const { id, last } = await beginWith(repository, before);
  return { id, location: last };
}

async function offsetOf(repository: RepositoryClient, location: string): Promise<number> {
  const status = await repository.uploadStatus(location);
  expect(status.status).toBe(204);
  return offsetIn(status);
}

async function expectFinished(repository: RepositoryClient, location: string, bytes: Bytes): Promise<void> {
  expect((await repository.finishUpload(location, digest(bytes))).status).toBe(201);
  expect(sameBytes(await bodyOf(await repository.getBlob(digest(bytes))), bytes)).toBe(true);
}

/** The session may be aborting one yet, behind its answer. */
async function expectNoneOpen(watched: WatchedMultiparts): Promise<void> {
  await vi.waitFor(async () => {
    expect(await watched.open()).toEqual([]);
  });
}

const beginnings: readonly (readonly [what: string, before: number])[] = [
  ["of a session without bytes", 0],
  ["of a session of a single object", 1000],
  ["of a session whose object is copied into parts", PART_BYTES + 1000],
];

describe("a multipart upload of which no part came to be recorded", () => {
  it.each(beginnings)(
    "%s is not there any more when the session is finished, after R2 failed to take its first part",
    async (_what, before) => {
      const repository = freshRepository();
      const bytes = randomBytes(before + PART_BYTES + 1000);
      const made = await objectsMadeBy(async () => {
        const { location } = await startWith(repository, bytes.slice(0, before));
        const watched = watchMultiparts({
          before: ({ method }) => {
            if (method === "uploadPart") throw new Error("R2 is down");
          },
        });
        const failing = registryWith(watched.env).repository(repository.name);
        expect((await failing.appendChunk(location, bytes.slice(before))).status).toBe(500);
        expect(watched.made()).toBe(1);
        expect(await offsetOf(repository, location)).toBe(before);
        const patched = await repository.appendChunk(location, bytes.slice(before), before);
        expect(patched.status).toBe(202);
        // Whoever comes next lets go of it.
        await vi.waitFor(async () => expectNoneOpen(watched));
        await expectFinished(repository, locationOf(patched), bytes);
      });
      expect(made).toHaveLength(1);
    },
  );

  it.each(beginnings)("%s is aborted when the session is cancelled meanwhile", async (_what, before) => {
    const repository = freshRepository();
    const made = await objectsMadeBy(async () => {
      const { id, location } = await startWith(repository, randomBytes(before));
      const watched = watchMultiparts({
        before: async ({ method }) => {
          if (method === "uploadPart") await env.UPLOADS.getByName(id).cancel();
        },
      });
      const patched = await registryWith(watched.env)
        .repository(repository.name)
        .appendChunk(location, randomBytes(PART_BYTES + 1000));
      await expectError(patched, 404, "BLOB_UPLOAD_UNKNOWN");
      expect(watched.made()).toBe(1);
      await expectNoneOpen(watched);
      await expectError(await repository.uploadStatus(location), 404, "BLOB_UPLOAD_UNKNOWN");
      await runPass({ graceSeconds: 3600 });
    });
    expect(made).toEqual([]);
  });

  it.each(beginnings)("%s is aborted when another request took the session over", async (_what, before) => {
    const repository = freshRepository();
    const bytes = randomBytes(before + PART_BYTES + 1000);
    const made = await objectsMadeBy(async () => {
      const { id, location } = await startWith(repository, bytes.slice(0, before));
      let taken: Response | null = null;
      const watched = watchMultiparts({
        after: async ({ method }) => {
          if (method !== "uploadPart" || taken !== null) return;
          vi.spyOn(Date, "now").mockReturnValue(Date.now() + (LEASE_IDLE_SECONDS + 1) * 1000);
          taken = await repository.appendChunk(location, bytes.slice(before), before);
        },
      });
      const late = await registryWith(watched.env)
        .repository(repository.name)
        .appendChunk(location, randomBytes(PART_BYTES + 1000));
      await expectError(late, 416, "BLOB_UPLOAD_INVALID");
      expect(watched.made()).toBe(1);
      await expectNoneOpen(watched);
      expect(await env.UPLOADS.getByName(id).status()).toEqual({ kind: "open", offset: bytes.byteLength });
      await expectFinished(repository, location, bytes);
    });
    expect(made).toHaveLength(1);
  });

  it("is not there any more when the session is finished, after the chunk that had an object copied was refused", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(PART_BYTES + 1000);
    const made = await objectsMadeBy(async () => {
      const { location } = await startWith(repository, bytes);
      const watched = watchMultiparts();
      const tooShort = streamed("PATCH", location, streamOf(randomBytes(10)), {
        "Content-Range": `${String(bytes.byteLength)}-${String(bytes.byteLength + 19)}`,
      });
      await expectError(await serve(tooShort, watched.env), 400, "SIZE_INVALID");
      expect(watched.made()).toBe(1);
      expect(await offsetOf(repository, location)).toBe(bytes.byteLength);
      await expectFinished(repository, location, bytes);
      await expectNoneOpen(watched);
    });
    expect(made).toHaveLength(1);
  });

  it.each<[what: string, body: (bytes: Bytes) => ReadableStream<Uint8Array>]>([
    ["whose bytes are not the digest's", streamOf],
    ["whose body breaks off", brokenStreamOf],
  ])("of a whole blob %s is aborted", async (_what, body) => {
    const repository = freshRepository();
    const { location } = await begin(repository);
    for (const [method, path] of [
      ["POST", `/v2/${repository.name}/blobs/uploads/`],
      ["PUT", location],
    ] as const) {
      const watched = watchMultiparts();
      const made = await objectsMadeBy(async () => {
        const request = streamed(
          method,
          `${path}?digest=${digest(new Uint8Array(1))}`,
          body(randomBytes(PART_BYTES + MIB)),
        );
        expect((await serve(request, watched.env)).status).toBe(400);
      });
      expect([made, watched.made(), await watched.open()]).toEqual([[], 1, []]);
    }
  });

  it.each([1, 2])(
    "of a whole blob is aborted when R2 fails to take part %i, or to make the parts one",
    async (failing) => {
      for (const failed of ["uploadPart", "complete"]) {
        const repository = freshRepository();
        const bytes = randomBytes(PART_BYTES + 1000);
        const { location } = await begin(repository);
        let calls = 0;
        const watched = watchMultiparts({
          before: ({ method }) => {
            if (method === failed && (failed === "complete" || ++calls === failing)) throw new Error("R2 is down");
          },
        });
        const made = await objectsMadeBy(async () => {
          const request = streamed("PUT", `${location}?digest=${digest(bytes)}`, streamOf(bytes));
          expect((await serve(request, watched.env)).status).toBe(500);
        });
        expect([made, watched.made(), await watched.open()]).toEqual([[], 1, []]);
        expect((await repository.finishUpload(location, digest(bytes), bytes)).status).toBe(201);
      }
    },
  );
});
