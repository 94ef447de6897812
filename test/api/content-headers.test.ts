import { describe, expect, it } from "vitest";
import { expectError } from "../conformance/error-envelope.ts";
import { image, push } from "../fixtures/artifacts.ts";
import { bodyOf, randomBytes, unknownDigest } from "../fixtures/content.ts";
import { freshRepository } from "../fixtures/registry.ts";
import { begin } from "../fixtures/upload.ts";

const ranges = ["bytes=0-9", "bytes=-5", "bytes=10-", "bytes=0-9,20-29", "bytes=0-0,2-2,4-4"];

describe("end-2 GET blob with Range", () => {
  it.each(ranges)(
    "%s tells the digest of the whole, the length of what it sends, and that nobody may encode it",
    async (range) => {
      const repository = freshRepository();
      for (const algorithm of ["sha256", "sha512"] as const) {
        const { digest } = await repository.pushBlob(randomBytes(100), { algorithm });
        const response = await repository.getBlob(digest, { Range: range });
        expect(response.status).toBe(206);
        expect(response.headers.get("Docker-Content-Digest")).toBe(digest);
        expect(response.headers.get("ETag")).toBe(`"${digest}"`);
        expect(response.headers.get("Content-Encoding")).toBe("identity");
        const length = response.headers.get("Content-Length");
        expect(String((await bodyOf(response)).byteLength)).toBe(length);
      }
    },
  );
});

describe("content under a media type that its pusher chose", () => {
  it("is inert in a browser that is led to it: no script of it runs as a page of the registry", async () => {
    const repository = freshRepository();
    const page = JSON.stringify({ mediaType: "text/html", text: "<script>document.title = 'here'</script>" });
    expect((await repository.putManifest("page", page, "text/html")).status).toBe(201);
    const { digest } = await repository.pushBlob(randomBytes(100));
    for (const answer of [
      await repository.getManifest("page"),
      await repository.headManifest("page"),
      await repository.getBlob(digest),
      await repository.getBlob(digest, { Range: "bytes=0-9" }),
    ]) {
      expect(answer.headers.get("Content-Security-Policy")).toBe("sandbox; default-src 'none'");
      expect(answer.headers.get("X-Content-Type-Options")).toBe("nosniff");
    }
  });
});

describe("a GET that is refused", () => {
  it("tells its length and its type, and so does its HEAD", async () => {
    const repository = freshRepository();
    const { digest } = await repository.pushBlob(randomBytes(100));
    for (const [path, status] of [
      [`/v2/${repository.name}/blobs/${unknownDigest()}`, 404],
      [`/v2/${repository.name}/blobs/sha256:abc`, 400],
      [`/v2/${repository.name}/manifests/none`, 404],
      [`/v2/${repository.name}/tags/list?n=x`, 400],
      [`/v2/${freshRepository().name}/tags/list`, 404],
      [`/v2/${repository.name}/referrers/sha256:abc`, 400],
      [`/v2/${repository.name}/blobs/uploads/none`, 404],
      ["/v2/UPPER/tags/list", 400],
      ["/v2/none", 404],
    ] as const) {
      const [get, head] = [
        await repository.registry.request("GET", path),
        await repository.registry.request("HEAD", path),
      ];
      const length = get.headers.get("Content-Length");
      expect({ path, status: get.status, head: head.status }).toEqual({ path, status, head: status });
      expect({ path, length: String((await bodyOf(get)).byteLength) }).toEqual({ path, length });
      expect((await bodyOf(head)).byteLength).toBe(0);
      expect({ path, type: head.headers.get("Content-Type") }).toEqual({ path, type: "application/json" });
      // The request's id is as long in each.
      expect({ path, length: head.headers.get("Content-Length") }).toEqual({ path, length });
    }
    const beyond = await repository.getBlob(digest, { Range: "bytes=100-" });
    expect(beyond.headers.get("Content-Range")).toBe("bytes */100");
    await expectError(beyond, 416, "BLOB_UPLOAD_INVALID");
  });
});

it("every answer has a request id of its own, whatever it answers", async () => {
  const repository = freshRepository();
  await push(repository, image(), "v1");
  const { location } = await begin(repository);
  const answers = [
    await repository.registry.ping(),
    await repository.registry.ping("POST"),
    await repository.registry.request("GET", "/none"),
    await repository.getManifest("v1"),
    await repository.headManifest("v1"),
    await repository.getManifest("none"),
    await repository.listTags(),
    await repository.uploadStatus(location),
    await repository.cancelUpload(location),
  ];
  const ids = answers.map(({ headers }) => headers.get("X-Request-Id"));
  for (const id of ids) expect(id).toMatch(/^[0-9a-f-]{36}$/);
  expect(new Set(ids).size).toBe(answers.length);
});
