import { runInDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { PART_BYTES, PART_MIN_BYTES } from "../../src/limits.ts";
import { digest, randomBytes } from "../fixtures/content.ts";
import { freshRepository } from "../fixtures/registry.ts";
import { begin, sessionOf } from "../fixtures/upload.ts";
import { locationOf } from "../support/client.ts";

/** Bytes of the upload that its Durable Object holds. */
async function bytesIn(id: string): Promise<number> {
  return runInDurableObject(sessionOf({ id }), (_session, { storage }) => {
    const { bytes } = storage.sql
      .exec<{ bytes: number }>("SELECT coalesce(sum(length(bytes)), 0) AS bytes FROM tail")
      .one();
    return bytes;
  });
}

describe("a session's Durable Object holds none of the upload's bytes, but for a tail shorter than a part", () => {
  it.each<[what: string, ranged: boolean, lengths: readonly number[], held: readonly number[]]>([
    ["one PATCH of less than a part", false, [1000], [0]],
    ["one PATCH of several parts", false, [2 * PART_BYTES + 1000], [0]],
    ["small chunks of less than a part in all", true, [1000, 1000, 1000], [0, 0, 0]],
    ["chunks of a part", true, [PART_MIN_BYTES, PART_MIN_BYTES, PART_MIN_BYTES], [0, 0, 0]],
    ["chunks of a part, and a last one", true, [PART_MIN_BYTES, PART_MIN_BYTES, 1000, 1000], [0, 0, 1000, 2000]],
    ["a tail that a next chunk makes a part", true, [PART_MIN_BYTES, 1000, PART_MIN_BYTES - 1000], [0, 1000, 0]],
  ])("%s", async (_what, ranged, lengths, held) => {
    const repository = freshRepository();
    const bytes = randomBytes(lengths.reduce((sum, length) => sum + length, 0));
    const { id, location: first } = await begin(repository);
    let [location, at] = [first, 0];
    const seen: number[] = [];
    for (const length of lengths) {
      const chunk = bytes.slice(at, at + length);
      const patched = await repository.appendChunk(location, chunk, ranged ? at : undefined);
      expect(patched.status).toBe(202);
      location = locationOf(patched);
      at += length;
      seen.push(await bytesIn(id));
    }
    expect(seen).toEqual(held);
    expect((await repository.finishUpload(location, digest(bytes))).status).toBe(201);
    expect(await bytesIn(id)).toBe(0);
  });

  it("nor after it was cancelled", async () => {
    const repository = freshRepository();
    const { id, location } = await begin(repository);
    const first = locationOf(await repository.appendChunk(location, randomBytes(PART_MIN_BYTES), 0));
    const last = locationOf(await repository.appendChunk(first, randomBytes(1000), PART_MIN_BYTES));
    expect(await bytesIn(id)).toBe(1000);
    expect((await repository.cancelUpload(last)).status).toBe(204);
    expect(await bytesIn(id)).toBe(0);
  });
});
