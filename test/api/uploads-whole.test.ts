import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { PART_BYTES } from "../../src/limits.ts";
import { bodyOf, digest, MIB, randomBytes, sameBytes, streamOf, unknownDigest } from "../fixtures/content.ts";
import { freshRepository, serve, streamed } from "../fixtures/registry.ts";
import { count, listObjects, objectKeyOf, objectsMadeBy, runPass } from "../fixtures/storage.ts";
import { begin } from "../fixtures/upload.ts";
import { expectError } from "../conformance/error-envelope.ts";
import type { Bytes, RepositoryClient } from "../support/client.ts";

/** Every way to send a blob whose digest is known before its bytes. */
type Send = (repository: RepositoryClient, bytes: Bytes, named: string) => Promise<Response>;

const ways = {
  "end-4b POST with the digest": async (repository, bytes, named) => repository.startUpload({ digest: named }, bytes),
  "end-6 PUT after POST": async (repository, bytes, named) =>
    repository.finishUpload((await begin(repository)).location, named, bytes),
  "end-6 PUT of unknown length": async (repository, bytes, named) =>
    serve(streamed("PUT", `${(await begin(repository)).location}?digest=${named}`, streamOf(bytes))),
  "end-6 PUT with Content-Range": async (repository, bytes, named) =>
    repository.finishUpload((await begin(repository)).location, named, bytes, bytes.length === 0 ? undefined : 0),
} satisfies Record<string, Send>;

describe.each(Object.entries(ways))("%s", (_way, send) => {
  it.each(["sha256", "sha512"] as const)("stores the bytes under their %s digest, as one object", async (algorithm) => {
    const repository = freshRepository();
    const bytes = randomBytes(2000);
    const named = digest(bytes, algorithm);
    const made = await objectsMadeBy(async () => {
      const response = await send(repository, bytes, named);
      expect(response.status).toBe(201);
      expect(response.headers.get("Location")).toBe(`/v2/${repository.name}/blobs/${named}`);
      expect(response.headers.get("Docker-Content-Digest")).toBe(named);
    });
    expect(made).toEqual([await objectKeyOf(named)]);
    expect(await bodyOf(await repository.getBlob(named))).toEqual(bytes);
  });

  it("stores the blob of no bytes", async () => {
    const repository = freshRepository();
    const none = new Uint8Array(0);
    expect((await send(repository, none, digest(none))).status).toBe(201);
    const pulled = await repository.getBlob(digest(none));
    expect([pulled.status, pulled.headers.get("Content-Length")]).toEqual([200, "0"]);
  });

  it.each(["sha256", "sha512"] as const)(
    "with another %s digest is refused, and leaves nothing in R2 and no row",
    async (algorithm) => {
      const repository = freshRepository();
      const named = unknownDigest(algorithm);
      const made = await objectsMadeBy(async () => {
        await expectError(await send(repository, randomBytes(2000), named), 400, "DIGEST_INVALID");
      });
      expect(made).toEqual([]);
      expect(await objectKeyOf(named)).toBeNull();
      expect((await repository.headBlob(named)).status).toBe(404);
      expect(await count("SELECT count(*) AS count FROM repositories WHERE name = ?1", repository.name)).toBe(0);
    },
  );

  it("of what the registry has already links it; the second object goes with the next pass", async () => {
    const [one, other] = [freshRepository(), freshRepository()];
    const bytes = randomBytes(100);
    expect((await send(one, bytes, digest(bytes))).status).toBe(201);
    const key = await objectKeyOf(digest(bytes));
    const made = await objectsMadeBy(async () => {
      expect((await send(other, bytes, digest(bytes))).status).toBe(201);
      await env.DB.prepare("UPDATE repository_blobs SET suspect_at = NULL").run();
      await runPass();
    });
    expect([made, await objectKeyOf(digest(bytes))]).toEqual([[], key]);
    for (const repository of [one, other]) expect(await bodyOf(await repository.getBlob(digest(bytes)))).toEqual(bytes);
  });
});

describe("end-6 PUT of unknown length", () => {
  const send = ways["end-6 PUT of unknown length"];

  it.each([1, PART_BYTES, PART_BYTES + 1, 20 * MIB])("of %i bytes is cut into parts of one object", async (length) => {
    const repository = freshRepository();
    const bytes = randomBytes(length);
    const made = await objectsMadeBy(async () => {
      expect((await send(repository, bytes, digest(bytes))).status).toBe(201);
    });
    expect(made).toHaveLength(1);
    expect(sameBytes(await bodyOf(await repository.getBlob(digest(bytes))), bytes)).toBe(true);
  });

  it("of several parts with another digest leaves nothing in R2", async () => {
    const made = await objectsMadeBy(async () => {
      await expectError(
        await send(freshRepository(), randomBytes(PART_BYTES + 1), unknownDigest()),
        400,
        "DIGEST_INVALID",
      );
    });
    expect(made).toEqual([]);
  });
});

describe("end-6 PUT after POST", () => {
  it("is refused without a digest, and with one that is malformed; the session goes on", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(10);
    const { location } = await begin(repository);
    await expectError(await repository.registry.request("PUT", location, { body: bytes }), 400, "DIGEST_INVALID");
    await expectError(await repository.finishUpload(location, "sha256:abc", bytes), 400, "DIGEST_INVALID");
    await expectError(await repository.finishUpload(location, `md5:${"a".repeat(32)}`, bytes), 400, "DIGEST_INVALID");
    expect((await repository.finishUpload(location, digest(bytes), bytes)).status).toBe(201);
  });

  it("is refused without bytes, though a digest of some is named", async () => {
    const repository = freshRepository();
    const { location } = await begin(repository);
    await expectError(await repository.finishUpload(location, unknownDigest()), 400, "DIGEST_INVALID");
  });

  it("that does not begin at its beginning gets 416, and changes nothing", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(10);
    const { location } = await begin(repository);
    const objects = await listObjects();
    const response = await repository.finishUpload(location, digest(bytes), bytes, 5);
    expect([response.headers.get("Range"), response.headers.get("Location")]).toEqual(["0-0", location]);
    await expectError(response, 416, "BLOB_UPLOAD_INVALID");
    expect(await listObjects()).toEqual(objects);
    expect((await repository.finishUpload(location, digest(bytes), bytes)).status).toBe(201);
  });

  it("never uses an object key twice", async () => {
    const bytes = randomBytes(10);
    const keys = new Set<string>();
    for (let round = 0; round < 3; round++) {
      const repository = freshRepository();
      for (const key of await objectsMadeBy(async () => repository.pushBlob(bytes))) {
        expect(keys).not.toContain(key);
        keys.add(key);
      }
      await repository.deleteBlob(digest(bytes));
      await runPass();
      await runPass();
      expect(await objectKeyOf(digest(bytes))).toBeNull();
    }
    expect(keys.size).toBe(3);
  });
});
