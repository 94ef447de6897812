import { describe, expect, inject, test, vi } from "vitest";
import { type Bytes, digestOf, locationOf, octetStream, type RepositoryClient } from "../../support/client.ts";
import { bodyOf, randomBytes } from "../content.ts";
import { expectError } from "../error-envelope.ts";
import { encodeChunk, RawConnection, rawRequest, targetOf } from "../raw-http.ts";
import { freshRepository } from "../registry-under-test.ts";

/** A client that goes away in the middle of a body loses at most one part, and nothing that is stored is wrong. */

const MIB = 1024 * 1024;
const PART_BYTES = 8 * MIB;
const LONG_MS = 120_000;

/** Sends `sent` bytes of a request that promises more, then resets the connection. */
async function breakOff(
  method: string,
  location: string,
  body: Bytes,
  sent: number,
  framing: "length" | "chunked",
  query: Readonly<Record<string, string>> = {},
): Promise<void> {
  const url = inject("registryUrl");
  const connection = await RawConnection.open(url);
  const promised: Record<string, string> =
    framing === "length" ? { "Content-Length": String(body.length) } : { "Transfer-Encoding": "chunked" };
  await connection.write(
    connection.head(method, targetOf(url, location, query), { "Content-Type": octetStream, ...promised }),
  );
  if (framing === "length") await connection.write(body.subarray(0, sent));
  else
    for (let at = 0; at < sent; at += MIB)
      await connection.write(encodeChunk(body.subarray(at, Math.min(at + MIB, sent))));
  connection.destroy();
}

/** Bytes that the session has. */
async function offsetOf(repository: RepositoryClient, location: string): Promise<number> {
  const response = await repository.uploadStatus(location);
  expect(response.status).toBe(204);
  const end = Number(/^0-(\d+)$/.exec(response.headers.get("Range") ?? "")?.[1]);
  return end === 0 ? 0 : end + 1;
}

/** As a client does that resumes: asks for the offset and sends the rest from there, until it is taken. */
async function resume(repository: RepositoryClient, location: string, bytes: Bytes, atLeast: number): Promise<void> {
  await vi.waitFor(
    async () => {
      const offset = await offsetOf(repository, location);
      expect(offset).toBeGreaterThanOrEqual(atLeast);
      const response = await repository.appendChunk(location, bytes.slice(offset), offset);
      expect(response.status).toBe(202);
    },
    { timeout: LONG_MS / 2, interval: 100 },
  );
}

describe.each(["length", "chunked"] as const)("body with %s", (framing) => {
  test.each([
    ["inside the first part", 3 * MIB, 0],
    ["inside the third part", 20 * MIB, 20 * MIB - PART_BYTES],
  ])("end-5 PATCH broken off %s is resumed from its status", { timeout: LONG_MS }, async (_name, sent, atLeast) => {
    const repository = freshRepository();
    const bytes = randomBytes(24 * MIB + 5);
    const location = locationOf(await repository.startUpload());
    await breakOff("PATCH", location, bytes, sent, framing);
    await resume(repository, location, bytes, atLeast);
    const digest = await digestOf(bytes);
    expect((await repository.finishUpload(location, digest)).status).toBe(201);
    expect(await digestOf(await bodyOf(await repository.getBlob(digest)))).toBe(digest);
  });

  test("end-6 PUT with a body broken off: nothing is stored under the digest", { timeout: LONG_MS }, async () => {
    const repository = freshRepository();
    const bytes = randomBytes(5 * MIB);
    const digest = await digestOf(bytes);
    const location = locationOf(await repository.startUpload());
    await breakOff("PUT", location, bytes, 2 * MIB, framing, { digest });
    expect((await repository.headBlob(digest)).status).toBe(404);
    // Whether the session has bytes of it or not, the blob can be pushed.
    await repository.pushBlob(bytes);
    expect(await digestOf(await bodyOf(await repository.getBlob(digest)))).toBe(digest);
  });

  test(
    "end-4b POST with digest broken off: nothing is stored, and it can be sent again",
    { timeout: LONG_MS },
    async () => {
      const repository = freshRepository();
      const bytes = randomBytes(3 * MIB);
      const digest = await digestOf(bytes);
      await breakOff("POST", `/v2/${repository.name}/blobs/uploads/`, bytes, MIB, framing, { digest });
      expect((await repository.headBlob(digest)).status).toBe(404);
      expect((await repository.startUpload({ digest }, bytes)).status).toBe(201);
    },
  );

  test("end-7a PUT manifest broken off: nothing is stored", async () => {
    const repository = freshRepository();
    await repository.pushBlob(randomBytes(5));
    const body = randomBytes(2 * MIB);
    await breakOff("PUT", `/v2/${repository.name}/manifests/v1`, body, MIB, framing);
    expect((await repository.headManifest("v1")).status).toBe(404);
  });
});

test(
  "end-5 PATCH broken off twice, at other places, still ends in the right digest",
  { timeout: LONG_MS },
  async () => {
    const repository = freshRepository();
    const bytes = randomBytes(30 * MIB);
    const location = locationOf(await repository.startUpload());
    await breakOff("PATCH", location, bytes, 9 * MIB, "chunked");
    await vi.waitFor(async () => expect(await offsetOf(repository, location)).toBeGreaterThanOrEqual(MIB), {
      timeout: 30_000,
      interval: 100,
    });
    const offset = await offsetOf(repository, location);
    const url = inject("registryUrl");
    const connection = await RawConnection.open(url);
    const head = connection.head("PATCH", targetOf(url, location), {
      "Content-Type": octetStream,
      "Content-Length": String(bytes.length - offset),
      "Content-Range": `${offset}-${bytes.length - 1}`,
    });
    await connection.write(head);
    await connection.write(bytes.subarray(offset, offset + 10 * MIB));
    connection.destroy();
    await resume(repository, location, bytes, offset);
    const digest = await digestOf(bytes);
    expect((await repository.finishUpload(location, digest)).status).toBe(201);
    expect(await digestOf(await bodyOf(await repository.getBlob(digest)))).toBe(digest);
  },
);

test(
  "end-5 PATCH: a slow writer keeps its session while it sends, and a second one gets 416",
  { timeout: LONG_MS },
  async () => {
    const repository = freshRepository();
    const url = inject("registryUrl");
    const bytes = randomBytes(20 * MIB);
    const location = locationOf(await repository.startUpload());
    const slow = await RawConnection.open(url);
    const head = slow.head("PATCH", targetOf(url, location), {
      "Content-Type": octetStream,
      "Content-Length": String(bytes.length),
      "Content-Range": `0-${bytes.length - 1}`,
    });
    await slow.write(head);
    await slow.write(bytes.subarray(0, 10 * MIB));
    await vi.waitFor(async () => expect(await offsetOf(repository, location)).toBeGreaterThan(0), {
      timeout: 30_000,
      interval: 50,
    });
    expect((await repository.appendChunk(location, bytes, 0)).status).toBe(416);
    await slow.write(bytes.subarray(10 * MIB));
    expect((await slow.response("PATCH")).status).toBe(202);
    const digest = await digestOf(bytes);
    expect((await repository.finishUpload(location, digest)).status).toBe(201);
  },
);

test.each([
  ["longer", 150_000],
  ["shorter", 50_000],
])(
  "end-5 PATCH (chunked) whose body is %s than its Content-Range: 400, and the upload goes on from its status",
  async (_name, sent) => {
    const repository = freshRepository();
    const url = inject("registryUrl");
    const bytes = randomBytes(200_000);
    const location = locationOf(await repository.startUpload());
    const refused = await rawRequest(url, {
      method: "PATCH",
      target: targetOf(url, location),
      headers: { "Content-Type": octetStream, "Content-Range": "0-99999" },
      body: bytes.slice(0, sent),
      framing: "chunked",
    });
    await expectError(refused, 400, ["SIZE_INVALID", "BLOB_UPLOAD_INVALID"]);
    await resume(repository, location, bytes, 0);
    const digest = await digestOf(bytes);
    expect((await repository.finishUpload(location, digest)).status).toBe(201);
    expect(await bodyOf(await repository.getBlob(digest))).toEqual(bytes);
  },
);

test("end-6 PUT: more bytes than Content-Length says are no part of the blob", async () => {
  const repository = freshRepository();
  const url = inject("registryUrl");
  const bytes = randomBytes(1000);
  const digest = await digestOf(bytes.slice(0, 600));
  const response = await rawRequest(url, {
    method: "PUT",
    target: targetOf(url, locationOf(await repository.startUpload()), { digest }),
    headers: { "Content-Length": "600", "Content-Type": octetStream },
    body: bytes,
    framing: "none",
  });
  expect(response.status).toBe(201);
  expect(await bodyOf(await repository.getBlob(digest))).toEqual(bytes.slice(0, 600));
});
