import { gunzipSync } from "node:zlib";
import { describe, expect, inject, test } from "vitest";
import {
  type Bytes,
  dockerManifest,
  dockerManifestList,
  imageIndex,
  imageManifest,
  utf8,
} from "../../support/client.ts";
import { bytesOf, imageIn, indexOf } from "../content.ts";
import { type RawResponse, rawRequest } from "../raw-http.ts";
import { freshRepository } from "../registry-under-test.ts";

/**
 * Go's client always says `Accept-Encoding: gzip`, drops Content-Length from what comes compressed, and containerd
 * decodes what a blob's Content-Encoding says: content must arrive as it is stored.
 */

const encodings = ["gzip", "zstd, gzip, deflate", "br;q=1.0, gzip;q=0.8, *;q=0.1"];

function expectAsStored(response: RawResponse, bytes: Bytes): void {
  expect(response.status).toBe(200);
  expect(response.header("Content-Encoding") ?? "identity").toBe("identity");
  expect(response.header("Content-Length")).toBe(String(bytes.length));
  expect(response.header("Transfer-Encoding")).toBeNull();
  expect(response.body).toEqual(bytes);
}

describe.each(encodings)("Accept-Encoding: %s", (encoding) => {
  test.each([
    imageManifest,
    dockerManifest,
    imageIndex,
    dockerManifestList,
    "application/json",
    "application/wasm",
    "text/plain",
  ])("end-3 GET and HEAD manifest of type %s comes as stored, with its length", async (mediaType) => {
    const repository = freshRepository();
    const annotations = { filler: "a".repeat(3000) };
    const isIndex = mediaType === imageIndex || mediaType === dockerManifestList;
    const bytes = bytesOf(
      isIndex ? indexOf([], { mediaType, annotations }) : await imageIn(repository, { mediaType, annotations }),
    );
    await repository.pushManifest(bytes, { mediaType, reference: "v1" });
    const request = { target: `/v2/${repository.name}/manifests/v1`, headers: { "Accept-Encoding": encoding } };
    const get = await rawRequest(inject("registryUrl"), { method: "GET", ...request });
    expectAsStored(get, bytes);
    expect(get.header("Content-Type")).toBe(mediaType);
    const head = await rawRequest(inject("registryUrl"), { method: "HEAD", ...request });
    expect(head.status).toBe(200);
    expect(head.header("Content-Length")).toBe(String(bytes.length));
    expect(head.header("Content-Encoding") ?? "identity").toBe("identity");
  });

  test("end-2 GET and HEAD blob of JSON text comes as stored, with its length", async () => {
    const repository = freshRepository();
    const bytes = utf8(JSON.stringify({ filler: "a".repeat(3000) }));
    const { digest } = await repository.pushBlob(bytes);
    const request = { target: `/v2/${repository.name}/blobs/${digest}`, headers: { "Accept-Encoding": encoding } };
    const get = await rawRequest(inject("registryUrl"), { method: "GET", ...request });
    expectAsStored(get, bytes);
    const head = await rawRequest(inject("registryUrl"), { method: "HEAD", ...request });
    expect(head.header("Content-Length")).toBe(String(bytes.length));
    const part = await rawRequest(inject("registryUrl"), {
      method: "GET",
      target: request.target,
      headers: { ...request.headers, Range: "bytes=10-19" },
    });
    expect(part.status).toBe(206);
    expect(part.header("Content-Length")).toBe("10");
    expect(part.body).toEqual(bytes.slice(10, 20));
  });
});

test("JSON lists may be compressed where gzip is accepted, and are what they say they are", async () => {
  const repository = freshRepository();
  const { digest } = await repository.pushManifest(await imageIn(repository), { reference: "v1" });
  for (const target of [
    `/v2/${repository.name}/tags/list`,
    `/v2/${repository.name}/referrers/${digest}`,
    "/v2/_catalog",
  ]) {
    const response = await rawRequest(inject("registryUrl"), {
      method: "GET",
      target,
      headers: { "Accept-Encoding": "gzip" },
    });
    expect(response.status).toBe(200);
    const body = response.header("Content-Encoding") === "gzip" ? gunzipSync(response.body) : response.body;
    expect(() => void JSON.parse(new TextDecoder().decode(body))).not.toThrow();
  }
});
