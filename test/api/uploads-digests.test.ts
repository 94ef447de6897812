import { createHash } from "node:crypto";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { HASHES_KEPT_MAX, PART_BYTES } from "../../src/limits.ts";
import { keepHash } from "../../src/uploads/running-hashes.ts";
import { bodyOf, digest, randomBytes, sameBytes, streamOf, unknownDigest } from "../fixtures/content.ts";
import { interceptOperations } from "../fixtures/intercepted-env.ts";
import { freshRepository, registryWith, serve, streamed } from "../fixtures/registry.ts";
import { count, objectKeyOf, objectsMadeBy, runPass } from "../fixtures/storage.ts";
import { append, begin, beginWith } from "../fixtures/upload.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { type Bytes, type DigestAlgorithm, locationOf, type RepositoryClient } from "../support/client.ts";

/** The final PUT, and how many R2 objects it read. */
async function finishCountingReads(
  repository: RepositoryClient,
  location: string,
  named: string,
): Promise<{ status: number; reads: number }> {
  let reads = 0;
  const watched = interceptOperations(env, {
    before: ({ binding, method }) => {
      if (binding === "BLOBS" && method === "get") reads++;
    },
  });
  const { status } = await registryWith(watched).repository(repository.name).finishUpload(location, named);
  return { status, reads };
}

/** Leaves this isolate's memory of hashes as a new isolate's is: without those that it had. */
function forgetHashes(): void {
  for (let at = 0; at < HASHES_KEPT_MAX; at++) keepHash(createHash("sha256").update(String(at)), "sha256");
}

describe("end-4c POST with digest-algorithm", () => {
  it.each<[announced: DigestAlgorithm | undefined, named: DigestAlgorithm, chunks: readonly number[], reads: number]>([
    [undefined, "sha256", [1000], 0],
    [undefined, "sha256", [PART_BYTES + 1000], 0],
    ["sha256", "sha256", [1000], 0],
    ["sha512", "sha512", [1000], 0],
    ["sha512", "sha512", [PART_BYTES + 1000], 0],
    [undefined, "sha512", [1000], 1],
    [undefined, "sha512", [PART_BYTES + 1000], 1],
    ["sha512", "sha256", [1000], 1],
    ["sha256", "sha512", [1000], 1],
    [undefined, "sha256", [500, 500], 0],
    ["sha512", "sha512", [500, 500], 0],
    [undefined, "sha512", [500, 500], 1],
    [undefined, "sha256", [PART_BYTES + 500, 0, 500, PART_BYTES], 0],
    [undefined, "sha256", [1000, 0], 0],
    [undefined, "sha512", [0], 0],
  ])(
    "announced %s, finished with %s, chunks of %j bytes: the final PUT reads %i objects back",
    async (announced, named, lengths, reads) => {
      const repository = freshRepository();
      const bytes = randomBytes(lengths.reduce((sum, length) => sum + length, 0));
      let { location } = await begin(repository, announced === undefined ? {} : { "digest-algorithm": announced });
      let at = 0;
      for (const length of lengths) location = await append(repository, location, bytes.slice(at, (at += length)));
      expect(await finishCountingReads(repository, location, digest(bytes, named))).toEqual({ status: 201, reads });
      expect(sameBytes(await bodyOf(await repository.getBlob(digest(bytes, named))), bytes)).toBe(true);
      // What is stored under one algorithm is not answered under another.
      const other = digest(bytes, named === "sha256" ? "sha512" : "sha256");
      expect((await repository.headBlob(other)).status).toBe(404);
    },
  );

  it("of a layer without a length, as docker sends it, causes no read back", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(PART_BYTES + 5);
    const { location } = await begin(repository);
    const patched = await serve(streamed("PATCH", location, streamOf(bytes)));
    expect(await finishCountingReads(repository, locationOf(patched), digest(bytes))).toEqual({
      status: 201,
      reads: 0,
    });
  });

  it("of chunks that came to another isolate than their last is read back, once", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(2000);
    const { last } = await beginWith(repository, bytes.slice(0, 500), bytes.slice(500, 1000));
    forgetHashes();
    const finished = await append(repository, last, bytes.slice(1000, 1500), bytes.slice(1500));
    expect(await finishCountingReads(repository, finished, digest(bytes))).toEqual({ status: 201, reads: 1 });
    expect(sameBytes(await bodyOf(await repository.getBlob(digest(bytes))), bytes)).toBe(true);
  });

  it("is refused for an algorithm that nobody knows, and the known ones are named", async () => {
    const errors = await expectError(
      await freshRepository().startUpload({ "digest-algorithm": "md5" }),
      400,
      "DIGEST_INVALID",
    );
    expect(JSON.stringify(errors)).toContain("sha512");
  });
});

describe("end-6 PUT with a digest that is not that of the bytes", () => {
  const sent = randomBytes(1000);
  const halves = [sent.slice(0, 500), sent.slice(500)] as const;
  it.each<[what: string, send: (repository: RepositoryClient, wrong: string) => Promise<Response>]>([
    [
      "after one PATCH",
      async (repository, wrong) => repository.finishUpload((await beginWith(repository, sent)).last, wrong),
    ],
    [
      "after two",
      async (repository, wrong) => repository.finishUpload((await beginWith(repository, ...halves)).last, wrong),
    ],
    [
      "with the last chunk",
      async (repository, wrong) =>
        repository.finishUpload((await beginWith(repository, halves[0])).last, wrong, halves[1]),
    ],
    [
      "after one PATCH of several parts",
      async (repository, wrong) =>
        repository.finishUpload((await beginWith(repository, randomBytes(PART_BYTES + 1))).last, wrong),
    ],
    [
      "after an empty PATCH",
      async (repository, wrong) =>
        repository.finishUpload((await beginWith(repository, new Uint8Array(0))).last, wrong),
    ],
  ])("%s is refused, and leaves nothing in R2 and no row", async (_what, send) => {
    for (const algorithm of ["sha256", "sha512"] as const) {
      const repository = freshRepository();
      const wrong = unknownDigest(algorithm);
      const made = await objectsMadeBy(async () => {
        await expectError(await send(repository, wrong), 400, "DIGEST_INVALID");
        // What had been offered to the database goes by way of the collector, whatever its grace.
        await runPass({ graceSeconds: 3600 });
      });
      expect(made).toEqual([]);
      expect(await objectKeyOf(wrong)).toBeNull();
      expect((await repository.headBlob(wrong)).status).toBe(404);
      expect(await count("SELECT count(*) AS count FROM repositories WHERE name = ?1", repository.name)).toBe(0);
      expect(await count("SELECT count(*) AS count FROM garbage WHERE deleted_at IS NULL")).toBe(0);
    }
  });

  it("of one algorithm is refused though the same bytes are stored under the other", async () => {
    const repository = freshRepository();
    const bytes: Bytes = randomBytes(100);
    await repository.pushBlob(bytes, { algorithm: "sha512" });
    await expectError(
      await repository.finishUpload((await beginWith(repository, bytes)).last, unknownDigest()),
      400,
      "DIGEST_INVALID",
    );
    expect((await repository.headBlob(digest(bytes))).status).toBe(404);
    expect((await repository.headBlob(digest(bytes, "sha512"))).status).toBe(200);
  });
});
