import { afterEach, describe, expect, it, vi } from "vitest";
import { bodyBudget } from "../../src/http/body-budget.ts";
import { DRAIN_SILENCE_SECONDS, DRAINS_MAX, PART_BYTES } from "../../src/limits.ts";
import { bodyOf, digest, MIB, pausedStream, randomBytes, sameBytes, streamOf } from "../fixtures/content.ts";
import { freshRepository, serve, streamed } from "../fixtures/registry.ts";
import { holdPatience, type Patience } from "../fixtures/silence.ts";
import { objectsMadeBy } from "../fixtures/storage.ts";
import { begin, beginWith, offsetIn } from "../fixtures/upload.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { type Bytes, imageManifest, locationOf, type RepositoryClient } from "../support/client.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

/** All that the budgets hold, whatever there are. */
const heldBytes = (): number => Object.values(bodyBudget).reduce((sum, budget) => sum + budget.heldBytes, 0);

/** A request that is refused before its body ends, and falls silent. */
async function refused(): Promise<Response> {
  return serve(streamed("POST", "/v2/", pausedStream(randomBytes(10), randomBytes(10)).body));
}

/** A request that sends these bytes and then nothing, but does not go away either. */
async function sendSilent(
  method: string,
  path: string,
  came: Bytes,
  headers: Readonly<Record<string, string>> = {},
): Promise<Promise<Response>[]> {
  const { body, reading } = pausedStream(came, randomBytes(1));
  const answered = serve(streamed(method, path, body, headers));
  await reading;
  // In a list, lest it be awaited here.
  return [answered];
}

/** Waits for reads that wait for their bytes, and lets their time run out. */
async function giveUp(patience: Patience, silent: number): Promise<void> {
  await vi.waitFor(() => {
    expect(patience.waiting()).toBe(silent);
  });
  patience.runOut();
}

async function expectPushed(repository: RepositoryClient, bytes: Bytes): Promise<void> {
  const { location } = await begin(repository);
  const patched = await serve(streamed("PATCH", location, streamOf(bytes)));
  expect(patched.status).toBe(202);
  expect((await repository.finishUpload(locationOf(patched), digest(bytes))).status).toBe(201);
  expect(sameBytes(await bodyOf(await repository.getBlob(digest(bytes))), bytes)).toBe(true);
}

describe("a request whose body falls silent is given up, and its room comes back:", () => {
  it.each([
    ["of a few bytes", 0, 100],
    ["of a large chunk", 0, MIB],
    ["behind a tail", PART_BYTES + 1000, MIB],
  ])("end-5 PATCH %s keeps what came before its last read, and goes on from there", async (_what, before, came) => {
    const repository = freshRepository();
    const bytes = randomBytes(before + came + 1000);
    const { location: first } = await begin(repository);
    const location = before === 0 ? first : locationOf(await repository.appendChunk(first, bytes.slice(0, before), 0));
    const patience = holdPatience();
    const silent = await sendSilent("PATCH", location, bytes.slice(before, before + came));
    await giveUp(patience, 1);
    for (const answered of silent) await expectError(await answered, 400, "BLOB_UPLOAD_INVALID");
    expect(heldBytes()).toBe(0);
    const status = await repository.uploadStatus(location);
    const stands = offsetIn(status);
    expect([stands >= before, stands <= before + came]).toEqual([true, true]);
    const patched = await repository.appendChunk(locationOf(status), bytes.slice(stands), stands);
    expect(patched.status).toBe(202);
    expect((await repository.finishUpload(locationOf(patched), digest(bytes))).status).toBe(201);
    expect(sameBytes(await bodyOf(await repository.getBlob(digest(bytes))), bytes)).toBe(true);
  });

  it.each<[what: string, prepare: (repository: RepositoryClient) => Promise<readonly [string, string]>, code: string]>([
    [
      "end-4b POST",
      async ({ name }) => ["POST", `/v2/${name}/blobs/uploads/?digest=${digest(new Uint8Array(1))}`],
      "BLOB_UPLOAD_INVALID",
    ],
    [
      "end-6 PUT of a whole blob",
      async (repository) => ["PUT", `${(await begin(repository)).location}?digest=${digest(new Uint8Array(1))}`],
      "BLOB_UPLOAD_INVALID",
    ],
    ["end-7 PUT manifest", async ({ name }) => ["PUT", `/v2/${name}/manifests/latest`], "MANIFEST_INVALID"],
  ])("%s, which keeps nothing", async (_what, prepare, code) => {
    for (const came of [100, MIB]) {
      const repository = freshRepository();
      const [method, path] = await prepare(repository);
      const made = await objectsMadeBy(async () => {
        const patience = holdPatience();
        const silent = await sendSilent(method, path, randomBytes(came), { "Content-Type": imageManifest });
        await giveUp(patience, 1);
        for (const answered of silent) {
          const errors = await (await answered).json();
          expect(errors).toMatchObject({ errors: [{ code }] });
        }
        expect(heldBytes()).toBe(0);
        vi.restoreAllMocks();
      });
      expect(made).toEqual([]);
    }
  });

  it("end-6 PUT of a last chunk, whose session goes on", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(2000);
    const { last } = await beginWith(repository, bytes.slice(0, 1000));
    const patience = holdPatience();
    const silent = await sendSilent("PUT", `${last}?digest=${digest(bytes)}`, bytes.slice(1000, 1500));
    await giveUp(patience, 1);
    for (const answered of silent) await expectError(await answered, 400, "BLOB_UPLOAD_INVALID");
    expect(heldBytes()).toBe(0);
    expect((await repository.finishUpload(last, digest(bytes), bytes.slice(1000), 1000)).status).toBe(201);
  });
});

describe("a request that is refused while its body is silent", () => {
  it("is answered all the same, when enough was waited for the rest", async () => {
    const patience = holdPatience(DRAIN_SILENCE_SECONDS);
    const { body, reading } = pausedStream(randomBytes(10), randomBytes(10));
    const answered = serve(streamed("POST", "/v2/", body));
    await reading;
    patience.runOut();
    await expectError(await answered, 405, "UNSUPPORTED");
    expect(patience.waiting()).toBe(0);
  });

  it("is waited for by so many at once, and one more is answered at once: nobody need log in to be refused", async () => {
    const patience = holdPatience(DRAIN_SILENCE_SECONDS);
    const silent = Array.from({ length: DRAINS_MAX }, refused);
    await vi.waitFor(() => {
      expect(patience.waiting()).toBe(DRAINS_MAX);
    });
    await expectError(await refused(), 405, "UNSUPPORTED");
    expect(patience.waiting()).toBe(DRAINS_MAX);
    patience.runOut();
    for (const answered of silent) await expectError(await answered, 405, "UNSUPPORTED");
  });
});

describe("an upload for which silent ones have left no room", () => {
  it.each([
    ["among large bodies", MIB],
    ["among small ones", 10],
  ])("goes on when they are given up: %s", async (_what, came) => {
    const repository = freshRepository();
    const patience = holdPatience();
    const waits = vi.spyOn(scheduler, "wait");
    const silent: Promise<Response>[] = [];
    // One after another, until one finds no room and waits for its turn.
    while (waits.mock.calls.length === 0) {
      const { location } = await begin(repository);
      const { body } = pausedStream(randomBytes(came), randomBytes(1));
      const reads = patience.begun();
      silent.push(serve(streamed("PATCH", location, body)));
      await vi.waitFor(() => {
        expect(patience.begun() > reads + (came === MIB ? 2 : 0) || waits.mock.calls.length > 0).toBe(true);
      });
    }
    const pushed = expectPushed(repository, randomBytes(2 * MIB));
    let answers = 0;
    for (const answered of silent) void answered.then(() => answers++);
    await vi.waitFor(() => {
      patience.runOut();
      expect(answers).toBe(silent.length);
    }, WAIT);
    await pushed;
    for (const answered of silent) await expectError(await answered, 400, "BLOB_UPLOAD_INVALID");
    expect(heldBytes()).toBe(0);
  });
});

const WAIT = { timeout: 30_000, interval: 20 };
