import { describe, expect, inject, test } from "vitest";
import { type Bytes, digestOf, locationOf, octetStream, type RepositoryClient } from "../../support/client.ts";
import { bodyOf, randomBytes } from "../content.ts";
import { rawRequest, targetOf } from "../raw-http.ts";
import { freshRepository } from "../registry-under-test.ts";

const MIB = 1024 * 1024;
const LONG_MS = 120_000;
const algorithms = ["sha256", "sha512"] as const;

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

describe.each(algorithms)("what the spec leaves optional is there (%s)", (algorithm) => {
  test.each([0, 1, 1000, 9 * MIB])(
    "end-4b POST with digest and %i bytes: 201 at once",
    { timeout: LONG_MS },
    async (length) => {
      const repository = freshRepository();
      const bytes = randomBytes(length);
      const digest = await digestOf(bytes, algorithm);
      const response = await repository.startUpload({ digest }, bytes);
      expect(response.status).toBe(201);
      expect(locationOf(response)).toContain(`/v2/${repository.name}/blobs/`);
      await expectStored(repository, digest, bytes);
    },
  );

  test.each(["with from", "without from"])("end-11 POST mount %s: 201", async (way) => {
    const [source, target] = [freshRepository(), freshRepository()];
    const bytes = randomBytes(100);
    const { digest } = await source.pushBlob(bytes, { algorithm });
    const response = await target.mountBlob(digest, way === "with from" ? source.name : undefined);
    expect(response.status).toBe(201);
    await expectStored(target, digest, bytes);
  });

  test("end-11 POST mount: of a blob that the repository has already, 201", async () => {
    const repository = freshRepository();
    const { digest } = await repository.pushBlob(randomBytes(100), { algorithm });
    expect((await repository.mountBlob(digest, repository.name)).status).toBe(201);
  });

  test("end-11 POST mount: of what nobody has, and from a repository that is not there, 202 and an upload", async () => {
    for (const from of [undefined, "no/such/repository"]) {
      const repository = freshRepository();
      const bytes = randomBytes(100);
      const digest = await digestOf(bytes, algorithm);
      const response = await repository.mountBlob(digest, from);
      expect(response.status).toBe(202);
      expect((await repository.finishUpload(locationOf(response), digest, bytes)).status).toBe(201);
    }
  });

  test("end-10 DELETE blob: 202", async () => {
    const repository = freshRepository();
    const { digest } = await repository.pushBlob(randomBytes(100), { algorithm });
    expect((await repository.deleteBlob(digest)).status).toBe(202);
    expect((await repository.deleteBlob(digest)).status).toBe(404);
  });
});

describe.each(algorithms)("a body without Content-Length (%s)", (algorithm) => {
  test.each([0, 1, MIB, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 20 * MIB + 3])(
    "end-5 PATCH of %i bytes with neither Content-Length nor Content-Range, then an empty PUT",
    { timeout: LONG_MS },
    async (length) => {
      const repository = freshRepository();
      const url = inject("registryUrl");
      const bytes = randomBytes(length);
      const digest = await digestOf(bytes, algorithm);
      const patched = await rawRequest(url, {
        method: "PATCH",
        target: targetOf(url, await started(repository)),
        headers: { "Content-Type": octetStream },
        body: bytes,
        framing: "chunked",
        chunkBytes: 100_003,
      });
      expect(patched.status).toBe(202);
      expect(patched.header("Range")).toBe(`0-${Math.max(0, length - 1)}`);
      expect(patched.header("Docker-Upload-UUID")).toMatch(/./);
      const finished = await repository.finishUpload(patched.header("Location") ?? "", digest);
      expect(finished.status).toBe(201);
      await expectStored(repository, digest, bytes);
    },
  );

  test("end-6 PUT of the whole, end-4b POST with digest", { timeout: LONG_MS }, async () => {
    const repository = freshRepository();
    const url = inject("registryUrl");
    for (const length of [0, 1000, 9 * MIB]) {
      const bytes = randomBytes(length);
      const digest = await digestOf(bytes, algorithm);
      const request = { headers: { "Content-Type": octetStream }, body: bytes, framing: "chunked" } as const;
      const target = targetOf(url, await started(repository), { digest });
      expect((await rawRequest(url, { method: "PUT", target, ...request })).status).toBe(201);
      await expectStored(repository, digest, bytes);
      const other = freshRepository();
      const posted = await rawRequest(url, {
        method: "POST",
        target: targetOf(url, `/v2/${other.name}/blobs/uploads/`, { digest }),
        ...request,
      });
      expect(posted.status).toBe(201);
      await expectStored(other, digest, bytes);
    }
  });
});

describe("chunks", () => {
  test.each(algorithms)("end-5 PATCH: twenty chunks of 1 MiB (%s)", { timeout: LONG_MS }, async (algorithm) => {
    const repository = freshRepository();
    const bytes = randomBytes(20 * MIB + 17);
    let location = await started(repository);
    for (let at = 0; at < bytes.length; at += MIB) {
      const response = await repository.appendChunk(location, bytes.slice(at, at + MIB), at);
      expect(response.status).toBe(202);
      location = locationOf(response);
    }
    const digest = await digestOf(bytes, algorithm);
    expect((await repository.finishUpload(location, digest)).status).toBe(201);
    await expectStored(repository, digest, bytes);
  });

  test("end-5 PATCH: chunks of 1 byte", { timeout: LONG_MS }, async () => {
    const repository = freshRepository();
    const bytes = randomBytes(40);
    let location = await started(repository);
    for (let at = 0; at < bytes.length; at++) {
      const response = await repository.appendChunk(location, bytes.slice(at, at + 1), at);
      expect(response.status).toBe(202);
      expect(response.headers.get("Range")).toBe(`0-${at}`);
      location = locationOf(response);
    }
    const digest = await digestOf(bytes);
    expect((await repository.finishUpload(location, digest)).status).toBe(201);
    await expectStored(repository, digest, bytes);
  });

  test(
    "end-5 PATCH: chunks without Content-Range are appended, small after large and large after small",
    { timeout: LONG_MS },
    async () => {
      const repository = freshRepository();
      const bytes = randomBytes(12 * MIB);
      let location = await started(repository);
      let at = 0;
      for (const length of [5, 9 * MIB, 1, 2 * MIB, 1000]) {
        const response = await repository.appendChunk(location, bytes.slice(at, at + length));
        expect(response.status).toBe(202);
        at += length;
        expect(response.headers.get("Range")).toBe(`0-${at - 1}`);
        location = locationOf(response);
      }
      const digest = await digestOf(bytes);
      expect((await repository.finishUpload(location, digest, bytes.slice(at))).status).toBe(201);
      await expectStored(repository, digest, bytes);
    },
  );

  test("end-5 PATCH: chunks that are no multiple of the part", { timeout: LONG_MS }, async () => {
    const repository = freshRepository();
    const step = 8 * MIB + 1;
    const bytes = randomBytes(3 * step - 2);
    let location = await started(repository);
    for (let at = 0; at < bytes.length; at += step) {
      location = locationOf(await repository.appendChunk(location, bytes.slice(at, at + step), at));
    }
    const digest = await digestOf(bytes);
    expect((await repository.finishUpload(location, digest)).status).toBe(201);
    await expectStored(repository, digest, bytes);
  });

  test("end-4a POST: OCI-Chunk-Min-Length gives the part size as advice", async () => {
    const advice = Number((await freshRepository().startUpload()).headers.get("OCI-Chunk-Min-Length"));
    expect(advice).toBeGreaterThanOrEqual(5 * MIB);
    expect(advice).toBeLessThanOrEqual(8 * MIB);
  });

  test.each([
    ["sha512", "sha512"],
    ["sha512", "sha256"],
    ["sha256", "sha512"],
  ] as const)(
    "end-4c POST with digest-algorithm=%s, closed with a %s digest",
    { timeout: LONG_MS },
    async (announced, used) => {
      const repository = freshRepository();
      const bytes = randomBytes(9 * MIB);
      let location = await started(repository, { "digest-algorithm": announced });
      location = locationOf(await repository.appendChunk(location, bytes.slice(0, MIB), 0));
      location = locationOf(await repository.appendChunk(location, bytes.slice(MIB), MIB));
      const digest = await digestOf(bytes, used);
      expect((await repository.finishUpload(location, digest)).status).toBe(201);
      await expectStored(repository, digest, bytes);
    },
  );
});
