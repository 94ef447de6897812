import { runDurableObjectAlarm } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ALARM_PATIENCE_SECONDS, PART_BYTES, PART_MIN_BYTES } from "../../src/limits.ts";
import { bodyOf, digest, randomBytes, sameBytes } from "../fixtures/content.ts";
import { type Hooks, interceptOperations } from "../fixtures/intercepted-env.ts";
import { freshRepository, registryWith } from "../fixtures/registry.ts";
import { emptyRegistry, listObjects, namedObjects, runPass, UPLOAD_TTL_SECONDS } from "../fixtures/storage.ts";
import { begin, offsetIn, sessionOf } from "../fixtures/upload.ts";
import { type Bytes, type DigestAlgorithm, locationOf, type RepositoryClient } from "../support/client.ts";

beforeEach(async () => {
  await emptyRegistry();
});

afterEach(() => {
  vi.restoreAllMocks();
});

/** The requests that commit a blob, each with what comes before it. */
interface Commit {
  readonly id: string | null;
  readonly bytes: Bytes;
  /** the request; the same when repeated */
  readonly send: (repository: RepositoryClient) => Promise<Response>;
}

function finalPut(
  chunks: readonly number[],
  last: number,
  options: { readonly ranged?: boolean; readonly whole?: boolean; readonly algorithm?: DigestAlgorithm } = {},
) {
  return async (repository: RepositoryClient): Promise<Commit> => {
    const before = chunks.reduce((sum, length) => sum + length, 0);
    const bytes = randomBytes(before + last);
    const { id, location: first } = await begin(repository);
    let location = first;
    let at = 0;
    for (const length of chunks) {
      const start = at;
      at += length;
      const range = options.whole === true ? undefined : start;
      location = locationOf(await repository.appendChunk(location, bytes.slice(start, at), range));
    }
    const body = last === 0 ? undefined : bytes.slice(before);
    const start = options.ranged === true ? before : undefined;
    return { id, bytes, send: async (to) => to.finishUpload(location, digest(bytes, options.algorithm), body, start) };
  };
}

const commits: Readonly<Record<string, (repository: RepositoryClient) => Promise<Commit>>> = {
  "end-4b POST with the digest": async () => {
    const bytes = randomBytes(1000);
    return { id: null, bytes, send: async (to) => to.startUpload({ digest: digest(bytes) }, bytes) };
  },
  "end-6 PUT after POST": finalPut([], 1000),
  "end-6 PUT after one PATCH": finalPut([1000], 0),
  "end-6 PUT after two PATCHes": finalPut([500, 500], 0, { algorithm: "sha512" }),
  "end-6 PUT after PATCHes of several parts": finalPut([PART_MIN_BYTES, 1], 0),
  "end-6 PUT with the last chunk": finalPut([1000], 500),
  "end-6 PUT with the last chunk and Content-Range": finalPut([1000], 500, { ranged: true }),
  "end-6 PUT with the last chunk, after a PATCH that seemed to be all": finalPut([PART_BYTES + 1000], 500, {
    whole: true,
  }),
};

class Crash extends Error {}

/** Bytes to R2 and rows to D1, or a ledger and rows. */
const LEAST_OPERATIONS = 2;

/** Sends the request with something done at its `at`-th operation. @returns whether there was one */
async function sendDoing(
  repository: RepositoryClient,
  commit: Commit,
  at: number,
  when: keyof Hooks,
  act: () => Promise<void> | void,
): Promise<{ reached: boolean; response: Response }> {
  let operations = 0;
  let reached = false;
  const hook = async (): Promise<void> => {
    if (operations++ !== at) return;
    reached = true;
    await act();
  };
  const watched = registryWith(interceptOperations(env, { [when]: hook })).repository(repository.name);
  return { response: await commit.send(watched), reached };
}

async function expectStored(repository: RepositoryClient, commit: Commit, response: Response): Promise<void> {
  const named = response.headers.get("Docker-Content-Digest") ?? "";
  const pulled = await repository.getBlob(named);
  expect(pulled.status).toBe(200);
  expect(sameBytes(await bodyOf(pulled), commit.bytes)).toBe(true);
}

/** After its life, and passes of the collector with a sweep, nothing is in R2 that no row names. */
async function expectNothingLeftOver(commit: Commit): Promise<void> {
  if (commit.id !== null) await runDurableObjectAlarm(sessionOf({ id: commit.id }));
  const nowMs = Date.now() + 3 * UPLOAD_TTL_SECONDS * 1000;
  for (let pass = 0; pass < 2; pass++) await runPass({ sweep: true, nowMs, graceSeconds: 100 * UPLOAD_TTL_SECONDS });
  expect(await listObjects()).toEqual(await namedObjects());
}

describe.each(Object.entries(commits))("%s", (_request, prepare) => {
  it.each(["before", "after"] as const)(
    "that breaks off right %s any of its operations is healed by repeating it",
    async (when) => {
      for (let at = 0; ; at++) {
        const repository = freshRepository();
        const commit = await prepare(repository);
        const { reached } = await sendDoing(repository, commit, at, when, () => {
          throw new Crash("the machine is gone");
        });
        if (!reached) {
          expect(at).toBeGreaterThanOrEqual(LEAST_OPERATIONS);
          break;
        }
        const repeated = await commit.send(repository);
        expect({ at, status: repeated.status }).toEqual({ at, status: 201 });
        await expectStored(repository, commit, repeated);
        await expectNothingLeftOver(commit);
      }
    },
  );

  it("that breaks off and is not repeated is cleaned up by the alarm and the collector", async () => {
    for (let at = 0; ; at++) {
      const repository = freshRepository();
      const commit = await prepare(repository);
      const { reached } = await sendDoing(repository, commit, at, "before", () => {
        throw new Crash("the machine is gone");
      });
      if (!reached) {
        expect(at).toBeGreaterThanOrEqual(LEAST_OPERATIONS);
        break;
      }
      await expectNothingLeftOver(commit);
    }
  });

  it.each<[what: string, act: (commit: Commit, repository: RepositoryClient) => Promise<void>]>([
    [
      "its alarm, long over its time,",
      async ({ id }) => {
        const late = Date.now() + (UPLOAD_TTL_SECONDS + ALARM_PATIENCE_SECONDS) * 1000 + 1;
        const clock = vi.spyOn(Date, "now").mockReturnValue(late);
        if (id !== null) await runDurableObjectAlarm(sessionOf({ id }));
        clock.mockRestore();
      },
    ],
    [
      "end-14 DELETE",
      async ({ id }) => {
        if (id !== null) await env.UPLOADS.getByName(id).cancel();
      },
    ],
  ])("never says 201 for what is lost, when %s and the collector come in between", async (_what, act) => {
    for (let at = 0; ; at++) {
      const repository = freshRepository();
      const commit = await prepare(repository);
      const { reached, response } = await sendDoing(repository, commit, at, "before", async () => {
        await act(commit, repository);
        await runPass({ graceSeconds: 3600 });
      });
      if (!reached) {
        expect(at).toBeGreaterThanOrEqual(LEAST_OPERATIONS);
        break;
      }
      expect({ at, status: response.status }).not.toEqual({ at, status: 500 });
      if (response.status === 201) await expectStored(repository, commit, response);
      await expectNothingLeftOver(commit);
    }
  });
});

describe.each<[what: string, before: number, ranged: boolean]>([
  ["that brings all of a large blob", 0, false],
  ["of several parts", 0, true],
  ["of several parts after a small one", 1000, true],
  ["after one that seemed to be all", PART_BYTES + 1000, false],
])("end-5 PATCH %s", (_what, before, ranged) => {
  const start = ranged ? before : undefined;

  async function prepared(repository: RepositoryClient) {
    const bytes = randomBytes(before + 2 * PART_BYTES + 2000);
    const { id, location } = await begin(repository);
    if (before > 0) await repository.appendChunk(location, bytes.slice(0, before), ranged ? 0 : undefined);
    // More is to follow, whatever the PATCH seemed to be.
    const chunk = bytes.slice(before, bytes.byteLength - 1000);
    return { id, location, bytes, send: async (to: RepositoryClient) => to.appendChunk(location, chunk, start) };
  }

  it.each(["before", "after"] as const)(
    "that breaks off right %s any of its operations goes on from where the session says it stands",
    async (when) => {
      for (let at = 0; ; at++) {
        const repository = freshRepository();
        const patch = await prepared(repository);
        const { reached } = await sendDoing(repository, patch, at, when, () => {
          throw new Crash("the machine is gone");
        });
        const status = await repository.uploadStatus(patch.location);
        expect({ at, status: status.status }).toEqual({ at, status: 204 });
        const stands = offsetIn(status);
        const resumed = await repository.appendChunk(patch.location, patch.bytes.slice(stands), stands);
        expect({ at, status: resumed.status }).toEqual({ at, status: 202 });
        const finished = await repository.finishUpload(patch.location, digest(patch.bytes));
        expect({ at, status: finished.status }).toEqual({ at, status: 201 });
        await expectStored(repository, patch, finished);
        await expectNothingLeftOver(patch);
        if (!reached) {
          expect(at).toBeGreaterThan(2 * LEAST_OPERATIONS);
          break;
        }
      }
    },
  );

  it("that breaks off for good is cleaned up by the alarm and the collector", async () => {
    for (let at = 0; ; at++) {
      const repository = freshRepository();
      const patch = await prepared(repository);
      const { reached } = await sendDoing(repository, patch, at, "after", () => {
        throw new Crash("the machine is gone");
      });
      await expectNothingLeftOver(patch);
      if (!reached) {
        expect(at).toBeGreaterThan(2 * LEAST_OPERATIONS);
        break;
      }
    }
  });
});
