import { describe, expect, test } from "vitest";
import { type Bytes, digestOf, locationOf, type RepositoryClient } from "../support/client.ts";
import { bodyOf, randomBytes, unknownDigest } from "./content.ts";
import { expectSpecError } from "./error-envelope.ts";
import { freshRepository } from "./registry-under-test.ts";

const LONG_MS = 60_000;
const CHUNK_MIN_BYTES = 1024;

interface Session {
  readonly location: string;
  /** bytes that each chunk but the last should have at least */
  readonly chunkBytes: number;
}

async function start(repository: RepositoryClient, query: Readonly<Record<string, string>> = {}): Promise<Session> {
  const response = await repository.startUpload(query);
  expect(response.status).toBe(202);
  const minimum = response.headers.get("OCI-Chunk-Min-Length");
  return { location: locationOf(response), chunkBytes: Math.max(CHUNK_MIN_BYTES, Number(minimum ?? 0)) };
}

/** Three chunks, the last of them shorter. */
function inChunks(chunkBytes: number): { bytes: Bytes; chunks: readonly { start: number; bytes: Bytes }[] } {
  const bytes = randomBytes(chunkBytes * 3 - 5);
  const chunks = [0, chunkBytes, 2 * chunkBytes].map((at) => ({ start: at, bytes: bytes.slice(at, at + chunkBytes) }));
  return { bytes, chunks };
}

async function append(
  repository: RepositoryClient,
  location: string,
  chunk: { start: number; bytes: Bytes },
): Promise<string> {
  const response = await repository.appendChunk(location, chunk.bytes, chunk.start);
  expect(response.status).toBe(202);
  expect(response.headers.get("Range")).toBe(`0-${chunk.start + chunk.bytes.length - 1}`);
  return locationOf(response);
}

async function expectOffset(repository: RepositoryClient, location: string, offset: number): Promise<string> {
  const response = await repository.uploadStatus(location);
  expect(response.status).toBe(204);
  expect(response.headers.get("Range")).toBe(`0-${offset - 1}`);
  return locationOf(response);
}

describe.each(["sha256", "sha512"] as const)("%s", (algorithm) => {
  test("end-5 PATCH chunks with Content-Range, then an empty PUT (end-6)", { timeout: LONG_MS }, async () => {
    const repository = freshRepository();
    const session = await start(repository);
    const { bytes, chunks } = inChunks(session.chunkBytes);
    let location = session.location;
    for (const chunk of chunks) location = await append(repository, location, chunk);
    const digest = await digestOf(bytes, algorithm);
    const response = await repository.finishUpload(location, digest);
    expect(response.status).toBe(201);
    const pulled = await repository.registry.request("GET", locationOf(response));
    expect(pulled.status).toBe(200);
    expect(await digestOf(await bodyOf(pulled), algorithm)).toBe(digest);
  });

  test("end-6 PUT with the last chunk as its body", { timeout: LONG_MS }, async () => {
    const repository = freshRepository();
    const session = await start(repository);
    const { bytes, chunks } = inChunks(session.chunkBytes);
    let location = session.location;
    for (const chunk of chunks.slice(0, 2)) location = await append(repository, location, chunk);
    const digest = await digestOf(bytes, algorithm);
    const response = await repository.finishUpload(location, digest, chunks[2]?.bytes, chunks[2]?.start);
    expect(response.status).toBe(201);
    expect(await digestOf(await bodyOf(await repository.getBlob(digest)), algorithm)).toBe(digest);
  });

  test("end-6 PUT: chunks that make another digest are 400", async () => {
    const repository = freshRepository();
    const session = await start(repository);
    const location = await append(repository, session.location, { start: 0, bytes: randomBytes(100) });
    const digest = await unknownDigest(algorithm);
    await expectSpecError(await repository.finishUpload(location, digest), [400], ["DIGEST_INVALID"]);
    expect((await repository.headBlob(digest)).status).toBe(404);
  });
});

test("end-4c POST with digest-algorithm=sha512 (main)", async () => {
  const repository = freshRepository();
  const session = await start(repository, { "digest-algorithm": "sha512" });
  const bytes = randomBytes(1500);
  const location = await append(repository, session.location, { start: 0, bytes });
  const digest = await digestOf(bytes, "sha512");
  expect((await repository.finishUpload(location, digest)).status).toBe(201);
  expect(await bodyOf(await repository.getBlob(digest))).toEqual(bytes);
});

test("end-4a POST upload: OCI-Chunk-Min-Length, where it is given, is a whole number of bytes", async () => {
  const response = await freshRepository().startUpload();
  expect(response.headers.get("OCI-Chunk-Min-Length") ?? "0").toMatch(/^\d+$/);
});

describe("out of order", () => {
  test("end-5 PATCH: a first chunk that does not begin at 0 is 416", async () => {
    const repository = freshRepository();
    const { location } = await start(repository);
    const response = await repository.appendChunk(location, randomBytes(1024), 1024);
    await expectSpecError(response, [416], ["BLOB_UPLOAD_INVALID"]);
    expect((await repository.uploadStatus(location)).status).toBe(204);
  });

  test(
    "end-5 PATCH, end-13 GET: gap and repetition are 416, and the upload goes on from its status",
    { timeout: LONG_MS },
    async () => {
      const repository = freshRepository();
      const session = await start(repository);
      const { bytes, chunks } = inChunks(session.chunkBytes);
      const [first, second, third] = chunks;
      if (first === undefined || second === undefined || third === undefined) throw new Error("three chunks");
      let location = await append(repository, session.location, first);
      for (const wrong of [third, first]) {
        const response = await repository.appendChunk(location, wrong.bytes, wrong.start);
        expect(response.status).toBe(416);
        location = await expectOffset(repository, location, second.start);
      }
      location = await append(repository, location, second);
      location = await append(repository, location, third);
      const digest = await digestOf(bytes);
      expect((await repository.finishUpload(location, digest)).status).toBe(201);
      expect(await digestOf(await bodyOf(await repository.getBlob(digest)))).toBe(digest);
    },
  );

  test(
    "end-6 PUT: a final chunk out of order is 416 (main), and the upload goes on",
    { timeout: LONG_MS },
    async () => {
      const repository = freshRepository();
      const session = await start(repository);
      const { bytes, chunks } = inChunks(session.chunkBytes);
      const [first, second, third] = chunks;
      if (first === undefined || second === undefined || third === undefined) throw new Error("three chunks");
      const digest = await digestOf(bytes);
      let location = await append(repository, session.location, first);
      expect((await repository.finishUpload(location, digest, third.bytes, third.start)).status).toBe(416);
      location = await expectOffset(repository, location, second.start);
      location = await append(repository, location, second);
      expect((await repository.finishUpload(location, digest, third.bytes, third.start)).status).toBe(201);
      expect(await digestOf(await bodyOf(await repository.getBlob(digest)))).toBe(digest);
    },
  );
});

describe("session", () => {
  test("end-13 GET upload: 204 with Location and Range while it is active", async () => {
    const repository = freshRepository();
    const { location } = await start(repository);
    const before = await repository.uploadStatus(location);
    expect(before.status).toBe(204);
    expect(before.headers.get("Range")).toMatch(/^0-/);
    const next = await append(repository, locationOf(before), { start: 0, bytes: randomBytes(300) });
    await expectOffset(repository, next, 300);
  });

  test("end-14 DELETE upload: 204, and the session is unknown afterwards (main)", async () => {
    const repository = freshRepository();
    const { location } = await start(repository);
    const next = await append(repository, location, { start: 0, bytes: randomBytes(300) });
    expect((await repository.cancelUpload(next)).status).toBe(204);
    await expectSpecError(await repository.uploadStatus(next), [404], ["BLOB_UPLOAD_UNKNOWN"]);
    await expectSpecError(await repository.appendChunk(next, randomBytes(10), 300), [404], ["BLOB_UPLOAD_UNKNOWN"]);
  });
});
