import { expect, test } from "vitest";
import { digestOf, locationOf, octetStream, utf8 } from "../../support/client.ts";
import { bodyOf, randomBytes, unknownDigest } from "../content.ts";
import { expectError } from "../error-envelope.ts";
import { freshRepository } from "../registry-under-test.ts";
import { type Refusal, testRefusals } from "./refusal.ts";
import { begunUpload, newUpload } from "./upload-locations.ts";

const uploads: readonly Refusal[] = [
  {
    what: "end-6 PUT upload without a digest",
    status: 400,
    code: "DIGEST_INVALID",
    send: async (r) => r.registry.request("PUT", await newUpload(r), { body: randomBytes(8) }),
  },
  {
    what: "end-6 PUT upload: empty, of a session without bytes",
    status: 400,
    code: "DIGEST_INVALID",
    send: async (r) => r.finishUpload(await newUpload(r), await unknownDigest()),
  },
  {
    what: "end-4c POST with an unknown digest-algorithm",
    status: 400,
    code: "DIGEST_INVALID",
    send: (r) => r.startUpload({ "digest-algorithm": "md5" }),
  },
  {
    what: "end-5 PATCH: first chunk not at 0",
    status: 416,
    code: "BLOB_UPLOAD_INVALID",
    send: async (r) => r.appendChunk(await newUpload(r), randomBytes(9), 7),
  },
  {
    what: "end-5 PATCH: a gap",
    status: 416,
    code: "BLOB_UPLOAD_INVALID",
    send: async (r) => r.appendChunk(await begunUpload(r, 10), randomBytes(9), 11),
  },
  {
    what: "end-5 PATCH: overlapping",
    status: 416,
    code: "BLOB_UPLOAD_INVALID",
    send: async (r) => r.appendChunk(await begunUpload(r, 10), randomBytes(9), 5),
  },
  {
    what: "end-5 PATCH: repeated",
    status: 416,
    code: "BLOB_UPLOAD_INVALID",
    send: async (r) => r.appendChunk(await begunUpload(r, 10), randomBytes(10), 0),
  },
  {
    what: "end-6 PUT upload: final chunk with a gap",
    status: 416,
    code: "BLOB_UPLOAD_INVALID",
    send: async (r) => r.finishUpload(await begunUpload(r, 10), await unknownDigest(), randomBytes(9), 20),
  },
  ...["bytes", "a-b", "0-", "-9", "9-0", "0-9-10", "0x0-0x9", "0 - 9"].map((range): Refusal => ({
    what: `end-5 PATCH: Content-Range ${range}`,
    status: 400,
    code: "BLOB_UPLOAD_INVALID",
    send: async (r) =>
      r.registry.request("PATCH", await newUpload(r), {
        headers: { "Content-Type": octetStream, "Content-Range": range },
        body: randomBytes(10),
      }),
  })),
  ...["0-4", "0-19"].map((range): Refusal => ({
    what: `end-5 PATCH: Content-Range ${range} for ten bytes`,
    status: 400,
    code: ["BLOB_UPLOAD_INVALID", "SIZE_INVALID"],
    send: async (r) =>
      r.registry.request("PATCH", await newUpload(r), {
        headers: { "Content-Type": octetStream, "Content-Range": range },
        body: randomBytes(10),
      }),
  })),
  ...["GET", "PATCH", "PUT", "DELETE"].flatMap((method): readonly Refusal[] => [
    {
      what: `${method} upload: a session that never was`,
      status: 404,
      code: "BLOB_UPLOAD_UNKNOWN",
      send: async (r) =>
        r.request(method, `blobs/uploads/${crypto.randomUUID()}`, { query: { digest: await unknownDigest() } }),
    },
    {
      what: `${method} upload: a session under another repository's name`,
      status: 404,
      code: "BLOB_UPLOAD_UNKNOWN",
      send: async (r) => {
        const other = freshRepository();
        const stolen = (await begunUpload(other, 10)).replaceAll(other.name, r.name);
        return r.registry.request(method, stolen, { query: { digest: await unknownDigest() } });
      },
    },
    {
      what: `${method} upload: a session of which no PATCH came, under another repository's name`,
      status: 404,
      code: "BLOB_UPLOAD_UNKNOWN",
      send: async (r) => {
        const other = freshRepository();
        const stolen = (await newUpload(other)).replaceAll(other.name, r.name);
        return r.registry.request(method, stolen, { query: { digest: await unknownDigest() } });
      },
    },
    {
      what: `${method} upload: a cancelled session`,
      status: 404,
      code: "BLOB_UPLOAD_UNKNOWN",
      send: async (r) => {
        const cancelled = await begunUpload(r, 10);
        await r.cancelUpload(cancelled);
        return r.registry.request(method, cancelled, { query: { digest: await unknownDigest() } });
      },
    },
  ]),
];

testRefusals("uploads", uploads);

test.each(["0-4", "0-19", "5-9", "nonsense"])(
  "end-5 PATCH: ten bytes with Content-Range %s leave the session as it was",
  async (range) => {
    const repository = freshRepository();
    const at = await newUpload(repository);
    const headers = { "Content-Type": octetStream, "Content-Range": range };
    expect(
      (await repository.registry.request("PATCH", at, { headers, body: randomBytes(10) })).status,
    ).toBeGreaterThanOrEqual(400);
    expect((await repository.uploadStatus(at)).headers.get("Range")).toBe("0-0");
    const bytes = randomBytes(10);
    expect((await repository.appendChunk(at, bytes, 0)).status).toBe(202);
    expect((await repository.finishUpload(at, await digestOf(bytes))).status).toBe(201);
  },
);

test("end-5 PATCH: a chunk that is refused changes nothing, and the upload ends in the right digest", async () => {
  const repository = freshRepository();
  const bytes = randomBytes(30);
  let at = locationOf(await repository.appendChunk(await newUpload(repository), bytes.slice(0, 10), 0));
  for (const [chunk, start] of [
    [utf8("overlap"), 5],
    [utf8("gap"), 15],
    [bytes.slice(0, 10), 0],
  ] as const) {
    const refused = await repository.appendChunk(at, chunk, start);
    expect(refused.headers.get("Range")).toBe("0-9");
    at = locationOf(refused);
    await expectError(refused, 416, "BLOB_UPLOAD_INVALID");
  }
  const digest = await digestOf(bytes);
  expect((await repository.finishUpload(at, digest, bytes.slice(10), 10)).status).toBe(201);
  expect(await bodyOf(await repository.getBlob(digest))).toEqual(bytes);
});
