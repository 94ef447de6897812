import { describe, expect, it } from "vitest";
import { PART_BYTES, READ_BYTES } from "../../src/limits.ts";
import { bodyOf, brokenStreamOf, digest, MIB, randomBytes, sameBytes, unknownDigest } from "../fixtures/content.ts";
import { freshRepository, serve, streamed } from "../fixtures/registry.ts";
import { objectsMadeBy, runPass } from "../fixtures/storage.ts";
import { begin, beginWith, offsetIn } from "../fixtures/upload.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { type Bytes, imageManifest, locationOf, type RepositoryClient } from "../support/client.ts";

/** Where the session stands: GET <location> says it by the last byte that it has. */
async function resumePoint(
  repository: RepositoryClient,
  location: string,
): Promise<{ offset: number; location: string }> {
  const status = await repository.uploadStatus(location);
  expect(status.status).toBe(204);
  return { offset: offsetIn(status), location: locationOf(status) };
}

async function expectResumed(repository: RepositoryClient, location: string, bytes: Bytes): Promise<void> {
  const at = await resumePoint(repository, location);
  const patched = await repository.appendChunk(at.location, bytes.slice(at.offset), at.offset);
  expect(patched.status).toBe(202);
  expect((await repository.finishUpload(locationOf(patched), digest(bytes))).status).toBe(201);
  expect(sameBytes(await bodyOf(await repository.getBlob(digest(bytes))), bytes)).toBe(true);
}

describe("end-5 PATCH whose body breaks off", () => {
  it.each<[what: string, before: number, came: number, ranged?: "ranged"]>([
    ["at once", 0, 0],
    ["in a first chunk", 0, MIB + 1000],
    ["in a first chunk of several parts", 0, 2 * PART_BYTES + 1000],
    ["in a chunk that follows one", 5000, MIB],
    ["in a chunk that follows a tail", PART_BYTES + 1000, 3 * MIB, "ranged"],
    ["in one that follows a PATCH that seemed to be all", PART_BYTES + 1000, 3 * MIB],
    ["in one of several parts that follows a PATCH that seemed to be all", PART_BYTES + 1000, 2 * PART_BYTES],
    ["in a chunk that completes the part", PART_BYTES - MIB, 2 * MIB],
  ])(
    "%s keeps what came, but for one read at most; GET tells where to go on, and it goes on",
    async (_what, before, came, ranged) => {
      const repository = freshRepository();
      const bytes = randomBytes(before + came + MIB);
      const made = await objectsMadeBy(async () => {
        const { location: first } = await begin(repository);
        const start = ranged === undefined ? undefined : 0;
        const location =
          before === 0 ? first : locationOf(await repository.appendChunk(first, bytes.slice(0, before), start));
        const broken = await serve(streamed("PATCH", location, brokenStreamOf(bytes.slice(before, before + came))));
        await expectError(broken, 400, "BLOB_UPLOAD_INVALID");
        const { offset } = await resumePoint(repository, location);
        expect(offset).toBeGreaterThanOrEqual(before + came - READ_BYTES);
        expect(offset).toBeLessThanOrEqual(before + came);
        await expectResumed(repository, location, bytes);
      });
      expect(made).toHaveLength(1);
    },
  );

  it("again and again still comes to its end", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(3 * MIB);
    let { location } = await begin(repository);
    for (let turn = 0; turn < 3; turn++) {
      const at = await resumePoint(repository, location);
      await serve(
        streamed("PATCH", at.location, brokenStreamOf(bytes.slice(at.offset, at.offset + 2 * READ_BYTES + 7)), {
          "Content-Range": `${String(at.offset)}-${String(bytes.length - 1)}`,
        }),
      );
      location = at.location;
    }
    expect((await resumePoint(repository, location)).offset).toBeGreaterThan(READ_BYTES);
    await expectResumed(repository, location, bytes);
  });
});

describe("end-6 PUT whose body breaks off", () => {
  it("of a session with chunks keeps what came, and the session goes on", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(3 * MIB);
    const { last } = await beginWith(repository, bytes.slice(0, 1000));
    const broken = await serve(
      streamed("PUT", `${last}?digest=${digest(bytes)}`, brokenStreamOf(bytes.slice(1000, 1000 + MIB))),
    );
    await expectError(broken, 400, "BLOB_UPLOAD_INVALID");
    await expectResumed(repository, last, bytes);
  });

  it.each([1000, PART_BYTES + 1000])(
    "as a whole blob, after %i bytes, keeps nothing; the session is as before",
    async (came) => {
      const repository = freshRepository();
      const bytes = randomBytes(came + 1000);
      const { location } = await begin(repository);
      const made = await objectsMadeBy(async () => {
        const broken = await serve(
          streamed("PUT", `${location}?digest=${digest(bytes)}`, brokenStreamOf(bytes.slice(0, came))),
        );
        await expectError(broken, 400, "BLOB_UPLOAD_INVALID");
        await runPass({ graceSeconds: 3600 });
      });
      expect(made).toEqual([]);
      expect((await repository.headBlob(digest(bytes))).status).toBe(404);
      expect((await repository.finishUpload(location, digest(bytes), bytes)).status).toBe(201);
    },
  );
});

describe("another request whose body breaks off", () => {
  it("end-4b POST is a client's error, and keeps nothing", async () => {
    const repository = freshRepository();
    const made = await objectsMadeBy(async () => {
      const path = `/v2/${repository.name}/blobs/uploads/?digest=${unknownDigest()}`;
      await expectError(
        await serve(streamed("POST", path, brokenStreamOf(randomBytes(1000)))),
        400,
        "BLOB_UPLOAD_INVALID",
      );
    });
    expect(made).toEqual([]);
  });

  it("end-7 PUT manifest is a client's error, and keeps nothing", async () => {
    const repository = freshRepository();
    const request = streamed("PUT", `/v2/${repository.name}/manifests/latest`, brokenStreamOf(randomBytes(100_000)), {
      "Content-Type": imageManifest,
    });
    await expectError(await serve(request), 400, "MANIFEST_INVALID");
    expect((await repository.headManifest("latest")).status).toBe(404);
  });
});
