import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { PART_BYTES } from "../../src/limits.ts";
import { bodyOf, digest, randomBytes, sameBytes, streamOf } from "../fixtures/content.ts";
import { interceptOperations } from "../fixtures/intercepted-env.ts";
import { freshRepository, registryWith, serve, streamed } from "../fixtures/registry.ts";
import { objectKeyOf, objectsMadeBy, runPass, UPLOAD_TTL_SECONDS } from "../fixtures/storage.ts";
import { type BegunUpload, begin, beginWith, sessionOf } from "../fixtures/upload.ts";
import { expectError } from "../conformance/error-envelope.ts";
import type { Bytes, RepositoryClient } from "../support/client.ts";

type Begun = BegunUpload & { readonly last: string };

async function expectGone(repository: RepositoryClient, { id, last }: Begun, bytes: Bytes): Promise<void> {
  await expectError(await repository.uploadStatus(last), 404, "BLOB_UPLOAD_UNKNOWN");
  await expectError(await repository.appendChunk(last, bytes), 404, "BLOB_UPLOAD_UNKNOWN");
  await expectError(await repository.finishUpload(last, digest(bytes)), 404, "BLOB_UPLOAD_UNKNOWN");
  await expectError(await repository.cancelUpload(last), 404, "BLOB_UPLOAD_UNKNOWN");
  const kept = await runInDurableObject(sessionOf({ id }), async (_session, state) => [
    ...(await state.storage.list()).keys(),
  ]);
  expect(kept).toEqual([]);
}

describe("the alarm of an abandoned session", () => {
  it("is set for the end of its life, counted from its POST", async () => {
    const before = Date.now();
    const begun = await beginWith(freshRepository(), randomBytes(10));
    const alarm = await runInDurableObject(sessionOf(begun), async (_session, state) => state.storage.getAlarm());
    expect(alarm).toBeGreaterThanOrEqual(before + UPLOAD_TTL_SECONDS * 1000);
    expect(alarm).toBeLessThanOrEqual(Date.now() + UPLOAD_TTL_SECONDS * 1000);
  });

  it.each<[what: string, chunks: readonly number[]]>([
    ["no bytes", [0]],
    ["one chunk", [1000]],
    ["two chunks", [1000, 1000]],
    ["several parts", [PART_BYTES + 1]],
    ["several parts and a tail that was sent twice", [PART_BYTES + 1, 1]],
    ["a single object that a part took in", [1000, PART_BYTES]],
  ])("with %s leaves nothing in R2, and nothing of the session", async (_what, lengths) => {
    const repository = freshRepository();
    const bytes = randomBytes(lengths.reduce((sum, length) => sum + length, 0));
    const made = await objectsMadeBy(async () => {
      let at = 0;
      const begun = await beginWith(repository, ...lengths.map((length) => bytes.slice(at, (at += length))));
      expect(await runDurableObjectAlarm(sessionOf(begun))).toBe(true);
      await expectGone(repository, begun, bytes);
    });
    expect(made).toEqual([]);
  });

  it("ends its multipart upload", async () => {
    const uploads: { key: string; uploadId: string }[] = [];
    const watched = interceptOperations(env, {
      before: ({ method, values: [key, uploadId] }) => {
        if (method === "uploadPart") uploads.push({ key: String(key), uploadId: String(uploadId) });
      },
    });
    const repository = registryWith(watched).repository(freshRepository().name);
    const begun = await beginWith(repository, randomBytes(PART_BYTES + 1));
    expect(uploads.length).toBeGreaterThan(0);
    await runDurableObjectAlarm(sessionOf(begun));
    for (const { key, uploadId } of uploads) {
      await expect(env.BLOBS.resumeMultipartUpload(key, uploadId).uploadPart(9, new Uint8Array(1))).rejects.toThrow(
        "10024",
      );
    }
  });

  it("leaves nothing where a chunk was refused after a part of it was taken", async () => {
    const repository = freshRepository();
    const made = await objectsMadeBy(async () => {
      const begun = await beginWith(repository, randomBytes(10));
      const tooShort = streamed("PATCH", begun.last, streamOf(randomBytes(PART_BYTES + 1000)), {
        "Content-Range": `10-${String(3 * PART_BYTES)}`,
      });
      await expectError(await serve(tooShort), 400, "SIZE_INVALID");
      expect(await runDurableObjectAlarm(sessionOf(begun))).toBe(true);
    });
    expect(made).toEqual([]);
  });
});

describe("the alarm of a finished session", () => {
  it.each([1000, PART_BYTES + 1])("leaves the blob (%i bytes), and forgets the session", async (length) => {
    const repository = freshRepository();
    const bytes = randomBytes(length);
    const begun = await beginWith(repository, bytes);
    expect((await repository.finishUpload(begun.last, digest(bytes))).status).toBe(201);
    expect(await runDurableObjectAlarm(sessionOf(begun))).toBe(true);
    await runPass({ graceSeconds: 3600 });
    expect(sameBytes(await bodyOf(await repository.getBlob(digest(bytes))), bytes)).toBe(true);
    const kept = await runInDurableObject(sessionOf(begun), async (_session, state) => [
      ...(await state.storage.list()).keys(),
    ]);
    expect(kept).toEqual([]);
  });
});

describe("a session that nobody sent bytes to", () => {
  it("has no alarm and no object: nothing has to be cleaned up", async () => {
    const repository = freshRepository();
    const begun = await begin(repository);
    await repository.uploadStatus(begun.location);
    await repository.appendChunk(begun.location, randomBytes(10), 5);
    await repository.finishUpload(begun.location, digest(randomBytes(10)), randomBytes(10));
    expect(await runDurableObjectAlarm(sessionOf(begun))).toBe(false);
    const tables = await runInDurableObject(sessionOf(begun), (_session, state) =>
      state.storage.sql.exec("SELECT name FROM sqlite_master WHERE name NOT LIKE '\\_cf\\_%' ESCAPE '\\'").toArray(),
    );
    expect(tables).toEqual([]);
    expect(await objectKeyOf(digest(new Uint8Array(5)))).toBeNull();
  });
});
