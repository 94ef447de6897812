import { describe, expect, inject, test } from "vitest";
import { digestOf, imageManifest, locationOf, octetStream } from "../../support/client.ts";
import { bodyOf, bytesOf, imageIn, randomBytes, unknownDigest } from "../content.ts";
import { expectError } from "../error-envelope.ts";
import { rawRequest } from "../raw-http.ts";
import { freshRepository } from "../registry-under-test.ts";

test("Docker-Distribution-API-Version is on every answer, errors too", async () => {
  const repository = freshRepository();
  const digest = await unknownDigest();
  const bytes = randomBytes(10);
  const image = bytesOf(await imageIn(repository));
  const location = locationOf(await repository.startUpload());
  const answers = [
    repository.registry.ping(),
    repository.startUpload(),
    repository.startUpload({ digest: await digestOf(bytes) }, bytes),
    repository.putManifest("v1", image),
    repository.getManifest("none"),
    repository.headManifest("none"),
    repository.getBlob(digest),
    repository.getBlob("bad:digest"),
    repository.headBlob(digest),
    repository.uploadStatus(location),
    repository.appendChunk(location, bytes, 5),
    repository.listTags({ n: "x" }),
    repository.listReferrers(digest),
    repository.registry.listRepositories(),
    repository.registry.request("POST", "/v2/"),
    repository.registry.request("GET", "/v2/nothing"),
    repository.registry.request("GET", "/"),
  ];
  for (const response of await Promise.all(answers)) {
    expect(response.headers.get("Docker-Distribution-API-Version"), response.url).toBe("registry/2.0");
  }
});

test("Docker-Content-Digest is on every 201, and is the digest that the client named", async () => {
  for (const algorithm of ["sha256", "sha512"] as const) {
    const [repository, other] = [freshRepository(), freshRepository()];
    const bytes = randomBytes(100);
    const digest = await digestOf(bytes, algorithm);
    const image = bytesOf(await imageIn(repository));
    const imageDigest = await digestOf(image, algorithm);
    const put = await repository.finishUpload(locationOf(await repository.startUpload()), digest, bytes);
    const mounted = await other.mountBlob(digest, repository.name);
    const posted = await repository.startUpload({ digest }, bytes);
    const again = await other.mountBlob(digest);
    for (const response of [put, mounted, posted, again]) {
      expect(response.status).toBe(201);
      expect(response.headers.get("Docker-Content-Digest")).toBe(digest);
    }
    const byDigest = await repository.putManifest(imageDigest, image, imageManifest, ["tagged"]);
    expect(byDigest.status).toBe(201);
    expect(byDigest.headers.get("Docker-Content-Digest")).toBe(imageDigest);
    expect((await repository.headManifest("tagged")).headers.get("Docker-Content-Digest")).toBe(imageDigest);
  }
});

test("Location is a path without a host, on every 201 and 202 and on 204 and 416 of a session", async () => {
  const repository = freshRepository();
  const bytes = randomBytes(10);
  const started = await repository.startUpload();
  const appended = await repository.appendChunk(locationOf(started), bytes, 0);
  const answers = [
    started,
    appended,
    await repository.uploadStatus(locationOf(appended)),
    await repository.appendChunk(locationOf(appended), bytes, 0),
    await repository.finishUpload(locationOf(appended), await digestOf(bytes)),
    await repository.putManifest("v1", bytesOf(await imageIn(repository))),
    await freshRepository().mountBlob(await digestOf(bytes)),
  ];
  expect(answers.map((answer) => answer.status)).toEqual([202, 202, 204, 416, 201, 201, 201]);
  for (const answer of answers) expect(locationOf(answer)).toMatch(/^\/v2\//);
});

describe("Content-Length is on every GET and HEAD", () => {
  test.each(["GET", "HEAD"])("%s", async (method) => {
    const repository = freshRepository();
    const empty = await repository.pushBlob(new Uint8Array(0));
    const blob = await repository.pushBlob(randomBytes(700));
    const image = await repository.pushManifest(await imageIn(repository), { reference: "v1" });
    const at = `/v2/${repository.name}`;
    const sizes: readonly (readonly [string, number | null])[] = [
      [`${at}/blobs/${blob.digest}`, 700],
      [`${at}/blobs/${empty.digest}`, 0],
      [`${at}/manifests/v1`, image.size],
      [`${at}/manifests/${image.digest}`, image.size],
      [`${at}/tags/list`, null],
      [`${at}/referrers/${image.digest}`, null],
      ["/v2/_catalog", null],
      ["/v2/", null],
    ];
    for (const [target, size] of sizes) {
      const response = await rawRequest(inject("registryUrl"), { method, target });
      expect(response.status, target).toBe(200);
      const length = response.header("Content-Length");
      expect(length, target).toMatch(/^\d+$/);
      if (size !== null) expect(length, target).toBe(String(size));
      if (method === "GET") expect(String(response.body.length), target).toBe(length);
    }
  });
});

test("end-2 blob: octet-stream, Accept-Ranges and a strong ETag, on GET and HEAD", async () => {
  const repository = freshRepository();
  const { digest } = await repository.pushBlob(randomBytes(100));
  for (const response of [await repository.getBlob(digest), await repository.headBlob(digest)]) {
    expect(response.headers.get("Content-Type")).toBe(octetStream);
    expect(response.headers.get("Accept-Ranges")).toBe("bytes");
    expect(response.headers.get("ETag")).toMatch(/^"[^"]+"$/);
  }
});

describe("If-None-Match", () => {
  test.each(["blob", "manifest by digest", "manifest by tag"])(
    "304 for the ETag of a %s, 200 for another",
    async (kind) => {
      const repository = freshRepository();
      const blob = await repository.pushBlob(randomBytes(100));
      const image = await repository.pushManifest(await imageIn(repository), { reference: "v1" });
      const path =
        kind === "blob" ? `blobs/${blob.digest}` : `manifests/${kind === "manifest by tag" ? "v1" : image.digest}`;
      const digest = kind === "blob" ? blob.digest : image.digest;
      const etag = (await repository.request("GET", path)).headers.get("ETag") ?? "";
      for (const method of ["GET", "HEAD"]) {
        for (const value of [etag, `W/${etag}`, "*", `"other", ${etag}`]) {
          const response = await repository.request(method, path, { headers: { "If-None-Match": value } });
          expect(response.status, `${method} ${value}`).toBe(304);
          expect(response.headers.get("ETag")).toBe(etag);
          expect(response.headers.get("Docker-Content-Digest")).toBe(digest);
          expect(await bodyOf(response)).toHaveLength(0);
        }
        expect((await repository.request(method, path, { headers: { "If-None-Match": '"other"' } })).status).toBe(200);
      }
    },
  );

  test("the ETag of a tag changes when it moves", async () => {
    const repository = freshRepository();
    await repository.pushManifest(await imageIn(repository), { reference: "v1" });
    const etag = (await repository.headManifest("v1")).headers.get("ETag") ?? "";
    await repository.pushManifest(await imageIn(repository), { reference: "v1" });
    const response = await repository.getManifest("v1", { "If-None-Match": etag });
    expect(response.status).toBe(200);
    expect(response.headers.get("ETag")).not.toBe(etag);
  });
});

test("OCI-Namespace (main) is on no answer: ns names a registry to fetch from, and nothing is fetched from elsewhere", async () => {
  const repository = freshRepository();
  const { digest: blob } = await repository.pushBlob(randomBytes(10));
  const { digest } = await repository.pushManifest(await imageIn(repository), { reference: "v1" });
  for (const path of [`blobs/${blob}`, "manifests/v1", `manifests/${digest}`, "tags/list", `referrers/${digest}`]) {
    for (const method of ["GET", "HEAD"]) {
      const response = await repository.request(method, path, { query: { ns: "registry.example.com" } });
      expect(response.status).toBe(200);
      expect(response.headers.get("OCI-Namespace")).toBeNull();
    }
  }
  const elsewhere = await repository.getManifest("not-here?ns=registry.example.com");
  await expectError(elsewhere, 404, "MANIFEST_UNKNOWN");
  expect(elsewhere.headers.get("OCI-Namespace")).toBeNull();
});
