import { fc, test } from "@fast-check/vitest";
import { beforeAll, describe, expect, it } from "vitest";
import { PART_BYTES, RANGES_MAX } from "../../src/limits.ts";
import { bodyOf, digest, randomBytes, sameBytes, unknownDigest } from "../fixtures/content.ts";
import { freshRepository } from "../fixtures/registry.ts";
import { beginWith } from "../fixtures/upload.ts";
import { expectError } from "../conformance/error-envelope.ts";
import type { Bytes } from "../support/client.ts";

const repository = freshRepository();
const bytes = randomBytes(1000);
const named = digest(bytes);
const etag = `"${named}"`;

beforeAll(async () => {
  await repository.pushBlob(bytes);
});

interface Part {
  readonly contentType: string;
  readonly contentRange: string;
  readonly bytes: Bytes;
}

/** Reads a multipart/byteranges body as RFC 2046 section 5.1 describes it. */
function partsOf(contentType: string, body: Bytes): Part[] {
  const boundary = /^multipart\/byteranges; boundary=("?)([\w'()+,./:=? -]{1,70})\1$/.exec(contentType)?.[2];
  if (boundary === undefined) throw new Error(`no boundary in ${contentType}`);
  // One character for each byte; TextDecoder's latin1 is another encoding, windows-1252.
  const text = Array.from(body, (byte) => String.fromCharCode(byte)).join("");
  const pieces = `\r\n${text}`.split(`\r\n--${boundary}`);
  expect(pieces[0]).toBe("");
  expect(pieces.at(-1)).toMatch(/^--\r\n$/);
  return pieces.slice(1, -1).map((piece) => {
    const end = piece.indexOf("\r\n\r\n");
    const headers = new Headers(
      piece
        .slice(2, end)
        .split("\r\n")
        .map((line): [string, string] => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]),
    );
    const content = piece.slice(end + 4);
    return {
      contentType: headers.get("Content-Type") ?? "",
      contentRange: headers.get("Content-Range") ?? "",
      bytes: Uint8Array.from(content, (character) => character.charCodeAt(0)),
    };
  });
}

describe("end-2 GET and HEAD blob", () => {
  it("answers the bytes with length, digest, ETag, and as octets that nobody compresses", async () => {
    const headers = {
      "content-type": "application/octet-stream",
      "content-length": "1000",
      "content-encoding": "identity",
      "docker-content-digest": named,
      "accept-ranges": "bytes",
      etag,
    };
    const get = await repository.getBlob(named, { "Accept-Encoding": "gzip" });
    expect([get.status, Object.fromEntries(get.headers)]).toEqual([200, expect.objectContaining(headers)]);
    expect(await bodyOf(get)).toEqual(bytes);
    const head = await repository.headBlob(named);
    expect([head.status, Object.fromEntries(head.headers)]).toEqual([200, expect.objectContaining(headers)]);
    expect((await bodyOf(head)).length).toBe(0);
  });

  it("of what is not there is a 404, of what can't be is a 400", async () => {
    await expectError(await repository.getBlob(unknownDigest()), 404, "BLOB_UNKNOWN");
    await expectError(await freshRepository().getBlob(named), 404, "BLOB_UNKNOWN");
    expect((await repository.headBlob(unknownDigest("sha512"))).status).toBe(404);
    for (const malformed of ["sha256:abc", `md5:${"a".repeat(32)}`, "latest"]) {
      await expectError(await repository.getBlob(malformed), 400, "DIGEST_INVALID");
    }
  });

  it("?ns= is accepted", async () => {
    expect((await repository.request("GET", `blobs/${named}`, { query: { ns: "docker.io" } })).status).toBe(200);
  });

  it.each([etag, "*", `W/${etag}`, `"other", ${etag}`])(
    "If-None-Match %s is answered 304 without a body",
    async (header) => {
      for (const response of [
        await repository.getBlob(named, { "If-None-Match": header }),
        await repository.headBlob(named, { "If-None-Match": header }),
        await repository.getBlob(named, { "If-None-Match": header, Range: "bytes=0-1" }),
      ]) {
        expect([response.status, response.headers.get("ETag"), (await bodyOf(response)).length]).toEqual([
          304,
          etag,
          0,
        ]);
      }
    },
  );

  it("If-None-Match of another digest is answered with the blob", async () => {
    expect((await repository.getBlob(named, { "If-None-Match": `"${unknownDigest()}"` })).status).toBe(200);
  });
});

describe("end-2 GET blob with Range", () => {
  it.each<[range: string, start: number, end: number]>([
    ["bytes=0-0", 0, 0],
    ["bytes=0-99", 0, 99],
    ["bytes=900-", 900, 999],
    ["bytes=-100", 900, 999],
    ["bytes=-5000", 0, 999],
    ["bytes=999-5000", 999, 999],
    ["bytes=0-999", 0, 999],
  ])("%s is 206 with those bytes", async (range, start, end) => {
    const response = await repository.getBlob(named, { Range: range });
    expect(response.status).toBe(206);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "content-range": `bytes ${String(start)}-${String(end)}/1000`,
      "content-length": String(end - start + 1),
      "docker-content-digest": named,
      etag,
    });
    expect(await bodyOf(response)).toEqual(bytes.slice(start, end + 1));
  });

  it.each(["bytes=1000-", "bytes=5000-6000", "bytes=5-2", "bytes=-0", "bytes=1000-,2000-"])(
    "%s is 416, and tells the size",
    async (range) => {
      const response = await repository.getBlob(named, { Range: range });
      expect(response.headers.get("Content-Range")).toBe("bytes */1000");
      await expectError(response, 416, "BLOB_UPLOAD_INVALID");
    },
  );

  it("of the blob of no bytes is 416", async () => {
    const { digest: empty } = await repository.pushBlob(new Uint8Array(0));
    const response = await repository.getBlob(empty, { Range: "bytes=0-" });
    expect([response.status, response.headers.get("Content-Range")]).toEqual([416, "bytes */0"]);
  });

  it.each(["items=0-1", "bytes=x", "bytes=", "0-1", "bytes=1-2,x"])("%s is no range: the whole blob", async (range) => {
    const response = await repository.getBlob(named, { Range: range });
    expect([response.status, (await bodyOf(response)).length]).toEqual([200, 1000]);
  });

  it("HEAD has no ranges: RFC 9110 section 14.2", async () => {
    for (const range of ["bytes=0-1", "bytes=5000-"]) {
      const response = await repository.headBlob(named, { Range: range });
      expect([response.status, response.headers.get("Content-Length")]).toEqual([200, "1000"]);
    }
  });

  it.each([
    [etag, 206],
    [`W/${etag}`, 200],
    ['"other"', 200],
    ["Wed, 21 Oct 2015 07:28:00 GMT", 200],
  ])("If-Range %s: %i", async (header, status) => {
    const response = await repository.getBlob(named, { Range: "bytes=0-1", "If-Range": header });
    expect([response.status, (await bodyOf(response)).length]).toEqual([status, status === 206 ? 2 : 1000]);
    const beyond = await repository.getBlob(named, { Range: "bytes=5000-", "If-Range": header });
    expect(beyond.status).toBe(status === 206 ? 416 : 200);
  });

  it("reads across the border of the parts that it was sent in", async () => {
    const large = randomBytes(PART_BYTES + 1000);
    const { last } = await beginWith(repository, large);
    expect((await repository.finishUpload(last, digest(large))).status).toBe(201);
    const response = await repository.getBlob(digest(large), {
      Range: `bytes=${String(PART_BYTES - 500)}-${String(PART_BYTES + 499)}`,
    });
    expect(sameBytes(await bodyOf(response), large.slice(PART_BYTES - 500, PART_BYTES + 500))).toBe(true);
  });
});

describe("end-2 GET blob with several ranges", () => {
  const range = fc
    .tuple(fc.nat({ max: 999 }), fc.nat({ max: 60 }))
    .map(([start, length]) => [start, Math.min(999, start + length)] as const);

  test.prop([fc.array(range, { minLength: 2, maxLength: RANGES_MAX })], { numRuns: 15 })(
    "is multipart/byteranges: each range with its bytes, in the order asked, with a Content-Length",
    async (ranges) => {
      fc.pre(ranges.reduce((sum, [start, end]) => sum + end - start + 1, 0) <= 1000);
      const response = await repository.getBlob(named, {
        Range: `bytes=${ranges.map(([start, end]) => `${String(start)}-${String(end)}`).join(", ")}`,
      });
      expect(response.status).toBe(206);
      expect(response.headers.get("Content-Range")).toBeNull();
      const body = await bodyOf(response);
      expect(response.headers.get("Content-Length")).toBe(String(body.length));
      expect(partsOf(response.headers.get("Content-Type") ?? "", body)).toEqual(
        ranges.map(([start, end]) => ({
          contentType: "application/octet-stream",
          contentRange: `bytes ${String(start)}-${String(end)}/1000`,
          bytes: bytes.slice(start, end + 1),
        })),
      );
    },
  );

  it("leaves out those that are not there, and one that is left over is a plain 206", async () => {
    const response = await repository.getBlob(named, { Range: "bytes=0-9,5000-,20-29" });
    const parts = partsOf(response.headers.get("Content-Type") ?? "", await bodyOf(response));
    expect(parts.map(({ contentRange }) => contentRange)).toEqual(["bytes 0-9/1000", "bytes 20-29/1000"]);
    const single = await repository.getBlob(named, { Range: "bytes=0-9,5000-" });
    expect([single.status, single.headers.get("Content-Range")]).toEqual([206, "bytes 0-9/1000"]);
  });

  it(`more than ${String(RANGES_MAX)} of them, or more bytes than the blob has, get the whole blob`, async () => {
    const many = Array.from({ length: RANGES_MAX + 1 }, (_, at) => `${String(at * 3)}-${String(at * 3)}`).join(",");
    for (const ranges of [many, "0-,0-", "0-600,400-999"]) {
      const response = await repository.getBlob(named, { Range: `bytes=${ranges}` });
      expect([response.status, (await bodyOf(response)).length]).toEqual([200, 1000]);
    }
  });
});
