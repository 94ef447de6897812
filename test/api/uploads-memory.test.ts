import { env, exports } from "cloudflare:workers";
import { describe, expect, it, vi } from "vitest";
import { bodyBudget } from "../../src/http/body-budget.ts";
import { LARGE_BODIES_BYTES, PART_BYTES, READ_BYTES, SMALL_BODIES_BYTES, SMALL_BODY_BYTES } from "../../src/limits.ts";
import { bodyOf, digest, MIB, randomBytes, streamOf } from "../fixtures/content.ts";
import { interceptOperations } from "../fixtures/intercepted-env.ts";
import { freshRepository, registry, registryWith, serve, streamed } from "../fixtures/registry.ts";
import { begin, beginWith } from "../fixtures/upload.ts";
import { imageIndex, imageManifest, locationOf } from "../support/client.ts";
import { asAdmin } from "../support/credentials.ts";

function heldBytes(): number {
  return bodyBudget.manifests.heldBytes + bodyBudget.small.heldBytes + bodyBudget.large.heldBytes;
}

/** A body that never ends: sends one byte after another, each when it is asked for. */
function endlessBody(): ReadableStream<Uint8Array> {
  return new ReadableStream({
    type: "bytes",
    async pull(controller) {
      await scheduler.wait(1);
      controller.enqueue(new Uint8Array(1));
    },
  });
}

/** Sends a request with an endless body. @returns what ends it as a client does that goes away */
function sendEndless(method: string, path: string): { goAway: () => Promise<void> } {
  const client = new AbortController();
  const headers = { "Content-Type": imageManifest };
  const sent = exports.default.fetch(registry.resolve(path), {
    method,
    body: endlessBody(),
    headers: { Authorization: asAdmin, ...headers },
    signal: client.signal,
  });
  const ended = sent.then(
    () => undefined,
    () => undefined,
  );
  return {
    goAway: async () => {
      client.abort();
      await ended;
    },
  };
}

async function expectHeld(bytes: number): Promise<void> {
  await vi.waitFor(() => {
    expect(heldBytes()).toBe(bytes);
  }, WAIT);
}

/** What is handed to R2 comes out of a buffer that is counted. */
const sessions: readonly (readonly [what: string, before: number, chunk: number])[] = [
  ["of nothing, a small chunk", 0, 1000],
  ["of nothing, a chunk of several parts", 0, 2 * PART_BYTES + 1000],
  ["of a small object", 3 * MIB, 300_000],
  ["of an object that nearly is a part", PART_BYTES - 1000, 5000],
  ["of a large object, which is copied into parts", 2 * PART_BYTES, 10],
  ["of a large object, a chunk of a part", 2 * PART_BYTES + 1000, PART_BYTES],
];

it.each(sessions)("a chunk behind a session %s counts the buffer that it is kept in", async (_what, before, length) => {
  const repository = freshRepository();
  const { location } = await begin(repository);
  if (before > 0) expect((await serve(streamed("PATCH", location, streamOf(randomBytes(before))))).status).toBe(202);
  const uncounted: { buffer: number; held: number }[] = [];
  const watched = interceptOperations(env, {
    before: ({ method, values }) => {
      const bytes = values.find((value) => value instanceof Uint8Array);
      if (bytes === undefined || (method !== "uploadPart" && method !== "put")) return;
      const [buffer, held] = [bytes.buffer.byteLength, heldBytes()];
      if (buffer > held) uncounted.push({ buffer, held });
    },
  });
  const to = registryWith(watched).repository(repository.name);
  expect((await to.appendChunk(location, randomBytes(length), before)).status).toBe(202);
  expect(uncounted).toEqual([]);
});

const WAIT = { timeout: 30_000, interval: 20 };

describe("the bodies that an isolate holds", () => {
  it(
    "are at most 64 MiB, with 16 streams of more than a part each at once; each ends in its digest",
    { timeout: 120_000 },
    async () => {
      const repository = freshRepository();
      // All alike, but for one byte: the test itself should not hold 16 layers.
      const common = randomBytes(PART_BYTES + 1000);
      const layer = (number: number) => {
        const bytes = common.slice();
        bytes[number] = (bytes[number] ?? 0) ^ 0xff;
        return bytes;
      };
      await Promise.all(
        Array.from({ length: 16 }, async (_, number) => {
          const { location } = await begin(repository);
          // In one context, since the test runner switches off that a request wakes another one in the other's own.
          const patched = await serve(streamed("PATCH", location, streamOf(layer(number))));
          expect([patched.status, patched.headers.get("Range")]).toEqual([202, `0-${String(common.length - 1)}`]);
          const named = digest(layer(number));
          expect((await repository.finishUpload(locationOf(patched), named)).status).toBe(201);
          expect(digest(await bodyOf(await repository.getBlob(named)))).toBe(named);
        }),
      );
      const peaks = [bodyBudget.manifests, bodyBudget.small, bodyBudget.large].map(({ peakBytes }) => peakBytes);
      expect(peaks.reduce((sum, peak) => sum + peak)).toBeLessThanOrEqual(64 * MIB);
      // So many that some had to wait: else the bound was not tried.
      expect(bodyBudget.large.peakBytes).toBeGreaterThan(LARGE_BODIES_BYTES - PART_BYTES - READ_BYTES);
      expect(heldBytes()).toBe(0);
    },
  );

  it("that are layers never keep a manifest waiting, however many they are", async () => {
    await expectHeld(0);
    const layers = [];
    for (let number = 0; number < SMALL_BODIES_BYTES / SMALL_BODY_BYTES; number++) {
      layers.push(sendEndless("PATCH", (await begin(freshRepository())).location));
    }
    await expectHeld(SMALL_BODIES_BYTES);
    const bytes = new TextEncoder().encode('{"schemaVersion":2,"manifests":[]}');
    const path = `/v2/${freshRepository().name}/manifests/latest`;
    // In one context, as above.
    const taken = await serve(streamed("PUT", path, streamOf(bytes), { "Content-Type": imageIndex }));
    expect(taken.status).toBe(201);
    for (const { goAway } of layers) await goAway();
    await expectHeld(0);
  });

  it.each<[what: string, method: string, prepare: () => Promise<string>]>([
    ["end-5 PATCH", "PATCH", async () => (await begin(freshRepository())).location],
    [
      "end-6 PUT of a whole blob",
      "PUT",
      async () => `${(await begin(freshRepository())).location}?digest=${digest(new Uint8Array(1))}`,
    ],
    [
      "end-6 PUT of a last chunk",
      "PUT",
      async () => `${(await beginWith(freshRepository(), randomBytes(10))).last}?digest=${digest(new Uint8Array(1))}`,
    ],
    [
      "end-4b POST",
      "POST",
      async () => `/v2/${freshRepository().name}/blobs/uploads/?digest=${digest(new Uint8Array(1))}`,
    ],
    ["end-7 PUT manifest", "PUT", async () => `/v2/${freshRepository().name}/manifests/latest`],
  ])("are given back when the client of an %s goes away in the midst of its body", async (_what, method, prepare) => {
    await expectHeld(0);
    const { goAway } = sendEndless(method, await prepare());
    await vi.waitFor(() => {
      expect(heldBytes()).toBeGreaterThan(0);
    }, WAIT);
    await goAway();
    await expectHeld(0);
  });
});
