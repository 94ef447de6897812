import { describe, expect, test, type TestContext } from "vitest";
import { digestOf } from "../support/client.ts";
import { bodyOf, randomBytes, unknownDigest } from "./content.ts";
import { expectDigestHeader } from "./digest-header.ts";
import { expectSpecError } from "./error-envelope.ts";
import { freshRepository } from "./registry-under-test.ts";

describe.each(["sha256", "sha512"] as const)("%s", (algorithm) => {
  test("end-2 GET blob: answers 200 with the bytes and their digest", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(3000);
    const { digest } = await repository.pushBlob(bytes, { algorithm });
    const response = await repository.getBlob(digest);
    expect(response.status).toBe(200);
    await expectDigestHeader(response, bytes);
    expect(await bodyOf(response)).toEqual(bytes);
  });

  test("end-2 HEAD blob: answers 200 with digest and size, without a body", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(3000);
    const { digest } = await repository.pushBlob(bytes, { algorithm });
    const response = await repository.headBlob(digest);
    expect(response.status).toBe(200);
    await expectDigestHeader(response, bytes);
    expect(response.headers.get("Content-Length")).toBe("3000");
    expect(await bodyOf(response)).toHaveLength(0);
  });

  test("end-2 GET and HEAD blob: the empty blob is a blob like any other", async () => {
    const repository = freshRepository();
    const { digest } = await repository.pushBlob(new Uint8Array(0), { algorithm });
    const head = await repository.headBlob(digest);
    expect(head.status).toBe(200);
    expect(head.headers.get("Content-Length")).toBe("0");
    const get = await repository.getBlob(digest);
    expect(get.status).toBe(200);
    await expectDigestHeader(get, new Uint8Array(0));
    expect(await bodyOf(get)).toHaveLength(0);
  });

  test("end-2 GET and HEAD blob: 404 for a digest that the repository does not have", async () => {
    const repository = freshRepository();
    await repository.pushBlob(randomBytes(10));
    const digest = await unknownDigest(algorithm);
    await expectSpecError(await repository.getBlob(digest), [404], ["BLOB_UNKNOWN"]);
    expect((await repository.headBlob(digest)).status).toBe(404);
  });

  test("end-10 DELETE blob: answers 202, and the blob is gone", async (context) => {
    const repository = freshRepository();
    const { digest } = await repository.pushBlob(randomBytes(100), { algorithm });
    const deleted = await repository.deleteBlob(digest);
    skipWhereDisabled(context, deleted);
    expect(deleted.status).toBe(202);
    expect((await repository.getBlob(digest)).status).toBe(404);
    expect((await repository.headBlob(digest)).status).toBe(404);
  });

  test("end-10 DELETE blob: it can be pushed again afterwards", async (context) => {
    const repository = freshRepository();
    const bytes = randomBytes(100);
    const { digest } = await repository.pushBlob(bytes, { algorithm });
    skipWhereDisabled(context, await repository.deleteBlob(digest));
    await repository.pushBlob(bytes, { algorithm });
    expect(await bodyOf(await repository.getBlob(digest))).toEqual(bytes);
  });
});

test("end-2 GET blob: 404 in a repository that does not exist", async () => {
  await expectSpecError(
    await freshRepository().getBlob(await unknownDigest()),
    [404],
    ["BLOB_UNKNOWN", "NAME_UNKNOWN"],
  );
});

test("end-2 GET blob: a blob of another repository is not in this one", async () => {
  const { digest } = await freshRepository().pushBlob(randomBytes(64));
  expect((await freshRepository().getBlob(digest)).status).toBe(404);
});

test("end-2 GET blob: a malformed digest is refused", async () => {
  const response = await freshRepository().getBlob("sha256:not-a-digest");
  await expectSpecError(response, [400, 404], ["DIGEST_INVALID", "BLOB_UNKNOWN"]);
});

test("end-10 DELETE blob: 404 for a digest that the repository does not have", async (context) => {
  const repository = freshRepository();
  await repository.pushBlob(randomBytes(10));
  const response = await repository.deleteBlob(await unknownDigest());
  skipWhereDisabled(context, response);
  await expectSpecError(response, [404], ["BLOB_UNKNOWN"]);
});

test("end-10 DELETE blob: another repository keeps its own", async (context) => {
  const bytes = randomBytes(64);
  const digest = await digestOf(bytes);
  const [first, second] = [freshRepository(), freshRepository()];
  await first.pushBlob(bytes);
  await second.pushBlob(bytes);
  skipWhereDisabled(context, await first.deleteBlob(digest));
  expect((await first.getBlob(digest)).status).toBe(404);
  expect(await bodyOf(await second.getBlob(digest))).toEqual(bytes);
});

/** Deletion may be disabled (end-10); Moorage's own promises hold that it is not. */
function skipWhereDisabled(context: TestContext, response: Response): void {
  context.skip(response.status === 405 || response.status === 400, "deletion of blobs is disabled in this registry");
}
