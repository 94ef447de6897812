import { abortAllDurableObjects } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { PART_BYTES } from "../../src/limits.ts";
import { bodyOf, digest, randomBytes, sameBytes, streamOf } from "../fixtures/content.ts";
import { type Hooks, interceptOperations } from "../fixtures/intercepted-env.ts";
import { freshRepository, registryWith, serve, streamed } from "../fixtures/registry.ts";
import { append, begin, beginWith, offsetIn } from "../fixtures/upload.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { type Bytes, locationOf, type RepositoryClient } from "../support/client.ts";

beforeEach(() => {
  // The faults that are made here are logged, as they should be.
  vi.spyOn(console, "error").mockReturnValue(undefined);
});

afterEach(() => {
  vi.restoreAllMocks();
});

/** A session that has these bytes in two chunks: a whole part, and a short one behind it. */
async function withTail(repository: RepositoryClient, bytes: Bytes): Promise<string> {
  const { last } = await beginWith(repository, bytes.slice(0, 1000));
  const patched = await repository.appendChunk(last, bytes.slice(1000), 1000);
  expect(patched.status).toBe(202);
  return locationOf(patched);
}

async function expectPulled(repository: RepositoryClient, bytes: Bytes): Promise<void> {
  expect(sameBytes(await bodyOf(await repository.getBlob(digest(bytes))), bytes)).toBe(true);
}

/** A request to the session breaks off there. */
const breaks: Readonly<Record<string, Hooks>> = {
  "R2 has the longer tail, and the ledger is not told": {
    before: ({ method }) => {
      if (method === "recordEnd") throw new Error("the machine is gone");
    },
  },
  "R2's answer for the longer tail is lost": {
    after: ({ method }) => {
      if (method === "uploadPart") throw new Error("the answer is lost");
    },
  },
};

describe.each(Object.entries(breaks))("a chunk behind a short part, where %s", (_what, hooks) => {
  const stands = PART_BYTES + 2000;

  async function broken(repository: RepositoryClient, whole: Bytes): Promise<string> {
    const location = await withTail(repository, whole.slice(0, stands));
    const failing = registryWith(interceptOperations(env, hooks)).repository(repository.name);
    expect((await failing.appendChunk(location, whole.slice(stands), stands)).status).toBe(500);
    expect(offsetIn(await repository.uploadStatus(location))).toBe(stands);
    return location;
  }

  it("leaves what the ledger has whole: a final PUT of just that is taken", async () => {
    const repository = freshRepository();
    const whole = randomBytes(stands + 1000);
    const location = await broken(repository, whole);
    const bytes = whole.slice(0, stands);
    expect((await repository.finishUpload(location, digest(bytes))).status).toBe(201);
    await expectPulled(repository, bytes);
  });

  it("can be sent again", async () => {
    const repository = freshRepository();
    const whole = randomBytes(stands + 1000);
    const location = await broken(repository, whole);
    const again = await repository.appendChunk(location, whole.slice(stands), stands);
    expect(again.status).toBe(202);
    expect((await repository.finishUpload(locationOf(again), digest(whole))).status).toBe(201);
    await expectPulled(repository, whole);
  });

  it("is told to be missing where the final PUT comes too early, by a digest that has to be read back", async () => {
    const repository = freshRepository();
    const whole = randomBytes(stands + 1000);
    const location = await broken(repository, whole);
    await expectError(await repository.finishUpload(location, digest(whole, "sha512")), 400, "DIGEST_INVALID");
  });
});

it("a part that was on its way when the session's object moved to another machine harms nothing", async () => {
  const repository = freshRepository();
  const stands = PART_BYTES + 2000;
  const whole = randomBytes(stands + 3000);
  const location = await withTail(repository, whole.slice(0, stands));
  const [reached, landed] = [Promise.withResolvers<null>(), Promise.withResolvers<null>()];
  const slow = interceptOperations(env, {
    before: async ({ method }) => {
      if (method !== "uploadPart") return;
      reached.resolve(null);
      await landed.promise;
    },
  });
  const late = registryWith(slow).repository(repository.name).appendChunk(location, whole.slice(stands, -100), stands);
  await reached.promise;
  await abortAllDurableObjects();
  const patched = await repository.appendChunk(location, whole.slice(stands), stands);
  expect(patched.status).toBe(202);
  landed.resolve(null);
  expect((await late).status).toBe(500);
  expect((await repository.finishUpload(locationOf(patched), digest(whole))).status).toBe(201);
  await expectPulled(repository, whole);
});

it("a tail that grows chunk by chunk, past part after part, is in the blob once", async () => {
  const repository = freshRepository();
  const bytes = randomBytes(2 * PART_BYTES + 5000);
  const { location } = await begin(repository);
  const cuts = [1000, PART_BYTES + 1, PART_BYTES + 2, PART_BYTES + 3, PART_BYTES + 4000, 2 * PART_BYTES];
  const ends = [...cuts, 2 * PART_BYTES + 1, 2 * PART_BYTES + 2, bytes.byteLength];
  const chunks = ends.map((end, at) => bytes.slice(ends[at - 1] ?? 0, end));
  let last = location;
  for (const [at, chunk] of chunks.entries()) {
    const patched = await repository.appendChunk(last, chunk, ends[at - 1] ?? 0);
    expect({ at, status: patched.status }).toEqual({ at, status: 202 });
    last = locationOf(patched);
  }
  expect((await repository.finishUpload(last, digest(bytes))).status).toBe(201);
  await expectPulled(repository, bytes);
});

describe("a final PUT that broke off", () => {
  it("lets no PATCH follow, says so, and can be repeated", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(PART_BYTES + 1000);
    const location = await withTail(repository, bytes);
    const failing = registryWith(
      interceptOperations(env, {
        before: ({ method }) => {
          if (method === "complete") throw new Error("R2 is down");
        },
      }),
    ).repository(repository.name);
    expect((await failing.finishUpload(location, digest(bytes))).status).toBe(500);
    const more = await repository.appendChunk(location, randomBytes(10), bytes.byteLength);
    const [refused] = await expectError(more, 400, "BLOB_UPLOAD_INVALID");
    expect(JSON.stringify(refused?.detail)).toContain("repeat that PUT");
    expect((await repository.finishUpload(location, digest(bytes))).status).toBe(201);
    await expectPulled(repository, bytes);
  });

  it("after its rows were written is refused with another digest, as one that came to its end is", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(3000);
    const { last } = await beginWith(repository, bytes);
    const failing = registryWith(
      interceptOperations(env, {
        before: ({ method }) => {
          if (method === "finish") throw new Error("the machine is gone");
        },
      }),
    ).repository(repository.name);
    expect((await failing.finishUpload(last, digest(bytes))).status).toBe(500);
    const other = await repository.finishUpload(last, digest(bytes, "sha512"));
    const [refused] = await expectError(other, 400, "DIGEST_INVALID");
    expect(refused?.detail).toMatchObject({ finished: digest(bytes) });
    expect((await repository.finishUpload(last, digest(bytes))).status).toBe(201);
    await expectPulled(repository, bytes);
  });
});

describe("a final PUT of unknown length that brings nothing, at the POST's location", () => {
  it("ends the upload that a PATCH has filled", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(3000);
    const { location } = await begin(repository);
    await append(repository, location, bytes);
    const target = `${location}?digest=${digest(bytes)}`;
    expect((await serve(streamed("PUT", target, streamOf(new Uint8Array(0))))).status).toBe(201);
    await expectPulled(repository, bytes);
  });

  it("is refused where nothing came before, unless its digest is that of nothing", async () => {
    const repository = freshRepository();
    const { location } = await begin(repository);
    const put = async (named: string): Promise<Response> =>
      serve(streamed("PUT", `${location}?digest=${named}`, streamOf(new Uint8Array(0))));
    await expectError(await put(digest(randomBytes(10))), 400, "DIGEST_INVALID");
    expect((await put(digest(new Uint8Array(0)))).status).toBe(201);
  });

  it("is taken after a PATCH of nothing, and again when it is repeated", async () => {
    const repository = freshRepository();
    const nothing = new Uint8Array(0);
    const { location } = await begin(repository);
    await append(repository, location, nothing);
    for (let times = 0; times < 2; times++) {
      const put = await serve(streamed("PUT", `${location}?digest=${digest(nothing)}`, streamOf(nothing)));
      expect(put.status).toBe(201);
    }
  });

  it("repeats a final PUT that brought the blob whole", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(3000);
    const { location } = await begin(repository);
    expect((await repository.finishUpload(location, digest(bytes), bytes)).status).toBe(201);
    const again = streamed("PUT", `${location}?digest=${digest(bytes)}`, streamOf(new Uint8Array(0)));
    expect((await serve(again)).status).toBe(201);
  });
});

it("a wrong digest after a PATCH tells the right one, and that the upload is over", async () => {
  const repository = freshRepository();
  const bytes = randomBytes(3000);
  const { last } = await beginWith(repository, bytes);
  const wrong = await repository.finishUpload(last, digest(randomBytes(10)));
  const [refused] = await expectError(wrong, 400, "DIGEST_INVALID");
  expect(refused?.detail).toMatchObject({ computed: digest(bytes) });
  expect(JSON.stringify(refused?.detail)).toContain("begin another with POST");
  await expectError(await repository.uploadStatus(last), 404, "BLOB_UPLOAD_UNKNOWN");
});
