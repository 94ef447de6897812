import { describe, expect, test } from "vitest";
import { type Bytes, digestOf, locationOf, type RepositoryClient } from "../../support/client.ts";
import { bodyOf, randomBytes, unknownDigest } from "../content.ts";
import { expectError } from "../error-envelope.ts";
import { freshRepository } from "../registry-under-test.ts";

const MIB = 1024 * 1024;
const LONG_MS = 120_000;

async function started(repository: RepositoryClient, query: Readonly<Record<string, string>> = {}): Promise<string> {
  const response = await repository.startUpload(query);
  expect(response.status).toBe(202);
  return locationOf(response);
}

async function expectStored(repository: RepositoryClient, digest: string, bytes: Bytes): Promise<void> {
  const head = await repository.headBlob(digest);
  expect(head.status).toBe(200);
  expect(head.headers.get("Content-Length")).toBe(String(bytes.length));
  const pulled = await bodyOf(await repository.getBlob(digest));
  expect(await digestOf(pulled, digest.startsWith("sha512") ? "sha512" : "sha256")).toBe(digest);
}

describe("the life of a session", () => {
  test("end-13 GET upload: without bytes Range is 0-0", async () => {
    const repository = freshRepository();
    const response = await repository.uploadStatus(await started(repository));
    expect(response.status).toBe(204);
    expect(response.headers.get("Range")).toBe("0-0");
  });

  test("end-5 PATCH: the first location stays good for the whole session", async () => {
    const repository = freshRepository();
    const location = await started(repository);
    const bytes = randomBytes(20);
    expect((await repository.appendChunk(location, bytes.slice(0, 10), 0)).status).toBe(202);
    expect((await repository.appendChunk(location, bytes.slice(10), 10)).status).toBe(202);
    expect((await repository.uploadStatus(location)).headers.get("Range")).toBe("0-19");
    expect((await repository.finishUpload(location, await digestOf(bytes))).status).toBe(201);
  });

  test.each(["POST and PUT", "PATCH and PUT"])(
    "end-6 PUT repeated after %s: 201 again, 400 with another digest, else 404",
    async (way) => {
      const repository = freshRepository();
      const bytes = randomBytes(50);
      const digest = await digestOf(bytes);
      let location = await started(repository);
      if (way === "PATCH and PUT") location = locationOf(await repository.appendChunk(location, bytes, 0));
      const body = way === "PATCH and PUT" ? undefined : bytes;
      expect((await repository.finishUpload(location, digest, body)).status).toBe(201);
      const repeated = await repository.finishUpload(location, digest, body);
      expect(repeated.status).toBe(201);
      expect(repeated.headers.get("Docker-Content-Digest")).toBe(digest);
      await expectError(await repository.finishUpload(location, await unknownDigest(), body), 400, "DIGEST_INVALID");
      await expectError(await repository.uploadStatus(location), 404, "BLOB_UPLOAD_UNKNOWN");
      await expectError(await repository.appendChunk(location, bytes, 50), 404, "BLOB_UPLOAD_UNKNOWN");
      await expectError(await repository.cancelUpload(location), 404, "BLOB_UPLOAD_UNKNOWN");
      expect(await bodyOf(await repository.getBlob(digest))).toEqual(bytes);
    },
  );

  test(
    "end-6 PUT repeated with its body: 201 each time, and the client gets to send it all",
    { timeout: LONG_MS },
    async () => {
      const repository = freshRepository();
      const bytes = randomBytes(20 * MIB);
      const digest = await digestOf(bytes);
      const location = await started(repository);
      for (let times = 0; times < 8; times++)
        expect((await repository.finishUpload(location, digest, bytes)).status).toBe(201);
    },
  );

  test(
    "end-4a POST upload with a body that nobody asked for: 202, and the client gets to send it all",
    { timeout: LONG_MS },
    async () => {
      const repository = freshRepository();
      for (let times = 0; times < 8; times++)
        expect((await repository.startUpload({}, randomBytes(4 * MIB))).status).toBe(202);
    },
  );

  test("end-14 DELETE upload: 204 before the first PATCH and after it, and 404 for all that follows", async () => {
    const repository = freshRepository();
    for (const length of [0, 100, 9 * MIB]) {
      let location = await started(repository);
      if (length > 0) location = locationOf(await repository.appendChunk(location, randomBytes(length), 0));
      expect((await repository.cancelUpload(location)).status).toBe(204);
      await expectError(await repository.uploadStatus(location), 404, "BLOB_UPLOAD_UNKNOWN");
      const bytes = randomBytes(5);
      await expectError(
        await repository.finishUpload(location, await digestOf(bytes), bytes),
        404,
        "BLOB_UPLOAD_UNKNOWN",
      );
      await expectError(await repository.appendChunk(location, bytes, length), 404, "BLOB_UPLOAD_UNKNOWN");
      await expectError(await repository.cancelUpload(location), 404, "BLOB_UPLOAD_UNKNOWN");
    }
  });

  test("end-5 PATCH: a tampered location is unknown", async () => {
    const repository = freshRepository();
    const location = await started(repository);
    // The last character of the signature has bits to spare, so it is left alone.
    for (let at = location.length - 2; at > location.length - 60 && at > location.indexOf("/uploads/") + 9; at -= 7) {
      const tampered = location.slice(0, at) + (location[at] === "0" ? "1" : "0") + location.slice(at + 1);
      await expectError(await repository.appendChunk(tampered, randomBytes(5), 0), 404, "BLOB_UPLOAD_UNKNOWN");
    }
  });
});

describe("two requests on one session at once", () => {
  test(
    "end-5 PATCH: one wins, the other gets 416, and the winner's bytes are stored",
    { timeout: LONG_MS },
    async () => {
      const repository = freshRepository();
      const location = await started(repository);
      const bodies = [randomBytes(9 * MIB), randomBytes(9 * MIB)];
      const answers = await Promise.all(bodies.map((body) => repository.appendChunk(location, body, 0)));
      expect(answers.map((answer) => answer.status).toSorted((one, other) => one - other)).toEqual([202, 416]);
      const winner = bodies[answers.findIndex((answer) => answer.status === 202)] ?? randomBytes(0);
      const digest = await digestOf(winner);
      expect((await repository.finishUpload(location, digest)).status).toBe(201);
      await expectStored(repository, digest, winner);
    },
  );

  test(
    "end-6 PUT: two closings with the same bytes store them once, and neither breaks the other",
    { timeout: LONG_MS },
    async () => {
      const repository = freshRepository();
      const bytes = randomBytes(2 * MIB);
      const digest = await digestOf(bytes);
      const location = locationOf(await repository.appendChunk(await started(repository), bytes, 0));
      const answers = await Promise.all([
        repository.finishUpload(location, digest),
        repository.finishUpload(location, digest),
      ]);
      const statuses = answers.map((answer) => answer.status);
      expect(statuses).toContain(201);
      for (const status of statuses) expect([201, 416]).toContain(status);
      await expectStored(repository, digest, bytes);
    },
  );

  test(
    "end-6 PUT: sixteen pushes of one blob to one repository at once are all 201",
    { timeout: LONG_MS },
    async () => {
      const repository = freshRepository();
      const bytes = randomBytes(300_000);
      const pushed = await Promise.all(Array.from({ length: 16 }, () => repository.pushBlob(bytes)));
      expect(new Set(pushed.map((descriptor) => descriptor.digest)).size).toBe(1);
      await expectStored(repository, await digestOf(bytes), bytes);
    },
  );
});
