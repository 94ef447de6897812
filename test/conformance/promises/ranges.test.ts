import { describe, expect, test } from "vitest";
import type { Bytes, RepositoryClient } from "../../support/client.ts";
import { bodyOf, randomBytes } from "../content.ts";
import { expectError } from "../error-envelope.ts";
import { freshRepository } from "../registry-under-test.ts";

const size = 5000;

async function pushed(): Promise<{ repository: RepositoryClient; digest: string; bytes: Bytes }> {
  const repository = freshRepository();
  const bytes = randomBytes(size);
  return { repository, bytes, digest: (await repository.pushBlob(bytes)).digest };
}

interface Part {
  readonly contentRange: string;
  readonly contentType: string;
  readonly bytes: Bytes;
}

/** The parts of a multipart body, RFC 2046 section 5.1. Bytes are kept as latin1 characters, one each. */
function partsOf(body: Bytes, contentType: string): readonly Part[] {
  const boundary = /boundary="?([^";]+)"?/.exec(contentType)?.[1] ?? "";
  const text = Buffer.from(body).toString("latin1");
  expect(text.trimEnd().endsWith(`--${boundary}--`)).toBe(true);
  return text
    .split(`--${boundary}`)
    .slice(1, -1)
    .map((piece) => {
      const end = piece.indexOf("\r\n\r\n");
      const head = piece.slice(0, end);
      return {
        contentRange: /^content-range: *(.*)$/im.exec(head)?.[1]?.trim() ?? "",
        contentType: /^content-type: *(.*)$/im.exec(head)?.[1]?.trim() ?? "",
        bytes: new Uint8Array(Buffer.from(piece.slice(end + 4, -2), "latin1")),
      };
    });
}

describe("several ranges", () => {
  test.each([
    [
      "two",
      "bytes=0-9,100-109",
      [
        [0, 9],
        [100, 109],
      ],
    ],
    [
      "three, the last a suffix",
      "bytes=0-0,2000-2999,-1",
      [
        [0, 0],
        [2000, 2999],
        [4999, 4999],
      ],
    ],
    [
      "with spaces, one open",
      "bytes=10-19, 4000-",
      [
        [10, 19],
        [4000, 4999],
      ],
    ],
    [
      "beyond the end",
      "bytes=0-9,4990-9999",
      [
        [0, 9],
        [4990, 4999],
      ],
    ],
  ])("end-2 GET blob: %s ranges come as multipart/byteranges", async (_name, range, expected) => {
    const { repository, digest, bytes } = await pushed();
    const response = await repository.getBlob(digest, { Range: range });
    expect(response.status).toBe(206);
    expect(response.headers.get("Content-Range")).toBeNull();
    const body = await bodyOf(response);
    expect(response.headers.get("Content-Length")).toBe(String(body.length));
    const parts = partsOf(body, response.headers.get("Content-Type") ?? "");
    expect(parts.map((part) => part.contentRange)).toEqual(
      expected.map(([start, end]) => `bytes ${start}-${end}/${size}`),
    );
    for (const [index, [start = 0, end = 0]] of expected.entries()) {
      expect(parts[index]?.bytes).toEqual(bytes.slice(start, end + 1));
      expect(parts[index]?.contentType).toBe("application/octet-stream");
    }
  });

  test("end-2 GET blob: sixteen ranges are answered as ranges, seventeen with the whole blob", async () => {
    const { repository, digest, bytes } = await pushed();
    const sixteen = await repository.getBlob(digest, { Range: ranges(16) });
    expect(sixteen.status).toBe(206);
    expect(partsOf(await bodyOf(sixteen), sixteen.headers.get("Content-Type") ?? "")).toHaveLength(16);
    const seventeen = await repository.getBlob(digest, { Range: ranges(17) });
    expect(seventeen.status).toBe(200);
    expect(await bodyOf(seventeen)).toEqual(bytes);
  });

  test("end-2 GET blob: ranges of which one can be satisfied", async () => {
    const { repository, digest, bytes } = await pushed();
    const response = await repository.getBlob(digest, { Range: "bytes=9000-9999,0-9" });
    expect(response.status).toBe(206);
    const body = await bodyOf(response);
    const contentType = response.headers.get("Content-Type") ?? "";
    const part = contentType.startsWith("multipart/") ? partsOf(body, contentType)[0]?.bytes : body;
    expect(part).toEqual(bytes.slice(0, 10));
  });
});

test.each(["bytes=5000-", "bytes=9000-9999", "bytes=500-0", "bytes=-0", "bytes=6000-,7000-"])(
  "end-2 GET blob: %s is 416 with the blob's size",
  async (range) => {
    const { repository, digest } = await pushed();
    const response = await repository.getBlob(digest, { Range: range });
    expect(response.headers.get("Content-Range")).toBe(`bytes */${size}`);
    await expectError(response, 416, "BLOB_UPLOAD_INVALID");
  },
);

test("end-2 GET blob: any range of the empty blob is 416", async () => {
  const repository = freshRepository();
  const { digest } = await repository.pushBlob(new Uint8Array(0));
  const response = await repository.getBlob(digest, { Range: "bytes=0-0" });
  expect(response.status).toBe(416);
  expect(response.headers.get("Content-Range")).toBe("bytes */0");
});

test("end-2 GET blob with If-Range: the ETag gets the range, another or a weak one the whole", async () => {
  const { repository, digest } = await pushed();
  const etag = (await repository.headBlob(digest)).headers.get("ETag") ?? "";
  const get = (validator: string): Promise<Response> =>
    repository.getBlob(digest, { Range: "bytes=0-9", "If-Range": validator });
  expect((await get(etag)).status).toBe(206);
  expect((await get('"other"')).status).toBe(200);
  expect((await get(`W/${etag}`)).status).toBe(200);
});

test.each(["bytes", "bytes=", "bytes=a-b", "bytes=--1", "bytes=1-2-3", "lines=1-2"])(
  "end-2 GET blob: %s is no range of bytes, and is ignored",
  async (range) => {
    const { repository, digest, bytes } = await pushed();
    const response = await repository.getBlob(digest, { Range: range });
    expect(response.status).toBe(200);
    expect(await bodyOf(response)).toEqual(bytes);
  },
);

test("end-2 GET blob: ranges across the parts of a large blob", { timeout: 60_000 }, async () => {
  const repository = freshRepository();
  const bytes = randomBytes(20 * 1024 * 1024);
  const { digest } = await repository.pushBlob(bytes);
  const part = 8 * 1024 * 1024;
  for (const [start, end] of [
    [part - 3, part + 3],
    [2 * part - 1, 2 * part],
    [bytes.length - 5, bytes.length - 1],
  ] as const) {
    const response = await repository.getBlob(digest, { Range: `bytes=${start}-${end}` });
    expect(response.status).toBe(206);
    expect(response.headers.get("Content-Range")).toBe(`bytes ${start}-${end}/${bytes.length}`);
    expect(await bodyOf(response)).toEqual(bytes.slice(start, end + 1));
  }
});

/** So many ranges of ten bytes, a hundred bytes apart. */
function ranges(count: number): string {
  return `bytes=${Array.from({ length: count }, (_, index) => `${index * 100}-${index * 100 + 9}`).join(",")}`;
}
