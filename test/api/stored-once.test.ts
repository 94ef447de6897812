import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { PART_BYTES } from "../../src/limits.ts";
import { bodyOf, digest, randomBytes, sameBytes, streamOf } from "../fixtures/content.ts";
import { interceptOperations } from "../fixtures/intercepted-env.ts";
import { freshRepository, registryWith, serve, streamed } from "../fixtures/registry.ts";
import { count, listObjects, objectKeyOf, objectsMadeBy, runPass } from "../fixtures/storage.ts";
import { begin, beginWith } from "../fixtures/upload.ts";
import type { Bytes, DigestAlgorithm, RepositoryClient } from "../support/client.ts";

type Send = (repository: RepositoryClient, bytes: Bytes, named: string) => Promise<Response>;

const knownBeforehand = {
  "end-4b POST": async (repository, bytes, named) => repository.startUpload({ digest: named }, bytes),
  "end-6 PUT after POST": async (repository, bytes, named) =>
    repository.finishUpload((await begin(repository)).location, named, bytes),
} satisfies Readonly<Record<string, Send>>;

const learnedAtTheEnd = {
  "end-6 PUT after one PATCH": async (repository, bytes, named) =>
    repository.finishUpload((await beginWith(repository, bytes)).last, named),
  "end-6 PUT after two PATCHes": async (repository, bytes, named) =>
    repository.finishUpload((await beginWith(repository, bytes.slice(0, 10), bytes.slice(10))).last, named),
  "end-6 PUT of unknown length": async (repository, bytes, named) =>
    serve(streamed("PUT", `${(await begin(repository)).location}?digest=${named}`, streamOf(bytes))),
} satisfies Readonly<Record<string, Send>>;

describe.each(Object.entries(knownBeforehand))("%s, where the digest is known before the bytes", (_way, send) => {
  it.each<[algorithm: DigestAlgorithm, length: number]>([
    ["sha256", 0],
    ["sha256", 1000],
    ["sha512", 1000],
    ["sha256", PART_BYTES + 1000],
    ["sha512", PART_BYTES + 1000],
  ])("has R2 itself check the %s of %i bytes, in one put", async (algorithm, length) => {
    const bytes = randomBytes(length);
    const named = digest(bytes, algorithm);
    const operations: (readonly unknown[])[] = [];
    const watched = interceptOperations(env, {
      before: ({ binding, method, values: [, , options] }) => {
        if (binding === "BLOBS") operations.push([method, options]);
      },
    });
    const repository = registryWith(watched).repository(freshRepository().name);
    expect((await send(repository, bytes, named)).status).toBe(201);
    expect(operations).toEqual([["put", { [algorithm]: named.slice(named.indexOf(":") + 1) }]]);
  });
});

describe.each(Object.entries({ ...knownBeforehand, ...learnedAtTheEnd }))("%s", (_way, send) => {
  it.each([1000, PART_BYTES + 1000])(
    "of %i bytes that another repository has keeps the content once, linked in both",
    async (length) => {
      const [one, other] = [freshRepository(), freshRepository()];
      const bytes = randomBytes(length);
      const named = digest(bytes);
      await one.pushBlob(bytes);
      const key = await objectKeyOf(named);
      const made = await objectsMadeBy(async () => {
        expect((await send(other, bytes, named)).status).toBe(201);
        // The grace is for what nobody names; the second object is nobody's at once.
        await runPass({ graceSeconds: 3600 });
      });
      expect(made).toEqual([]);
      expect(await objectKeyOf(named)).toBe(key);
      expect(await listObjects()).toContain(key);
      const links = `SELECT count(*) AS count FROM repository_blobs JOIN blobs ON blobs.id = blob_id WHERE digest = ?1`;
      expect(await count(links, named)).toBe(2);
      expect((await one.deleteBlob(named)).status).toBe(202);
      await runPass({ graceSeconds: 3600 });
      expect((await one.headBlob(named)).status).toBe(404);
      expect(sameBytes(await bodyOf(await other.getBlob(named)), bytes)).toBe(true);
    },
  );
});
