import { describe, expect, test } from "vitest";
import { type Bytes, digestOf, locationOf, type RepositoryClient } from "../support/client.ts";
import { bodyOf, randomBytes, unknownDigest } from "./content.ts";
import { expectSpecError } from "./error-envelope.ts";
import { freshRepository, registryUnderTest } from "./registry-under-test.ts";

/** The Location of a 201 must be a URL that the blob can be pulled from. */
async function expectPullable(response: Response, bytes: Bytes): Promise<void> {
  const pulled = await registryUnderTest().request("GET", locationOf(response));
  expect(pulled.status).toBe(200);
  expect(await bodyOf(pulled)).toEqual(bytes);
}

async function started(repository: RepositoryClient): Promise<string> {
  const response = await repository.startUpload();
  expect(response.status).toBe(202);
  return locationOf(response);
}

describe.each(["sha256", "sha512"] as const)("%s", (algorithm) => {
  test.each([0, 1, 1000, 300_000])(
    "end-6 PUT upload: POST then PUT of %i bytes is 201 with a pullable Location",
    async (length) => {
      const repository = freshRepository();
      const bytes = randomBytes(length);
      const response = await repository.finishUpload(
        await started(repository),
        await digestOf(bytes, algorithm),
        bytes,
      );
      expect(response.status).toBe(201);
      await expectPullable(response, bytes);
    },
  );

  test.each([0, 1000])("end-4b POST with digest and %i bytes: 201, or 202 and a PUT", async (length) => {
    const repository = freshRepository();
    const bytes = randomBytes(length);
    const digest = await digestOf(bytes, algorithm);
    const posted = await repository.startUpload({ digest }, bytes);
    expect([201, 202]).toContain(posted.status);
    const response = posted.status === 201 ? posted : await repository.finishUpload(locationOf(posted), digest, bytes);
    expect(response.status).toBe(201);
    await expectPullable(response, bytes);
  });

  test("end-6 PUT upload: bytes of another digest are 400, and nothing is stored", async () => {
    const repository = freshRepository();
    const digest = await unknownDigest(algorithm);
    const response = await repository.finishUpload(await started(repository), digest, randomBytes(100));
    await expectSpecError(response, [400], ["DIGEST_INVALID"]);
    expect((await repository.headBlob(digest)).status).toBe(404);
  });

  test("end-4b POST with digest: bytes of another digest are 400 at the POST or at the PUT after it", async () => {
    const repository = freshRepository();
    const digest = await unknownDigest(algorithm);
    const bytes = randomBytes(100);
    const posted = await repository.startUpload({ digest }, bytes);
    const response = posted.status === 202 ? await repository.finishUpload(locationOf(posted), digest, bytes) : posted;
    await expectSpecError(response, [400], ["DIGEST_INVALID"]);
    expect((await repository.headBlob(digest)).status).toBe(404);
  });
});

test("end-4a POST upload: 202 with a Location that holds a UUID of its own", async () => {
  const repository = freshRepository();
  const uuid = /[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}/i;
  const locations = [await started(repository), await started(repository)];
  // The names of the suite's repositories hold a UUID, too.
  const ids = locations.map((location) => uuid.exec(location.replaceAll(repository.name, ""))?.[0]);
  expect(ids[0]).toBeDefined();
  expect(ids[1]).toBeDefined();
  expect(ids[0]).not.toBe(ids[1]);
});

test("end-4a POST upload: its Location is absolute, or a path that resolves against the request", async () => {
  const location = await started(freshRepository());
  const resolved = new URL(location, registryUnderTest().baseUrl);
  expect(resolved.protocol).toMatch(/^https?:$/);
});

test.each([
  ["malformed", "sha256:zzz"],
  ["of an unsupported algorithm", "md5:d41d8cd98f00b204e9800998ecf8427e"],
  ["without an algorithm", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
])("end-6 PUT upload: a digest %s is 400 (main: «Pushing blobs»)", async (_name, digest) => {
  const repository = freshRepository();
  const response = await repository.finishUpload(await started(repository), digest, randomBytes(10));
  await expectSpecError(response, [400], ["DIGEST_INVALID"]);
});

test("end-6 PUT upload: the same blob may be pushed twice", async () => {
  const repository = freshRepository();
  const bytes = randomBytes(100);
  const first = await repository.pushBlob(bytes);
  expect(await repository.pushBlob(bytes)).toEqual(first);
});
