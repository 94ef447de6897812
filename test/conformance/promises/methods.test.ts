import { expect, test } from "vitest";
import { locationOf, type RepositoryClient } from "../../support/client.ts";
import { imageIn, randomBytes, unknownDigest } from "../content.ts";
import { expectError } from "../error-envelope.ts";
import { freshRepository, registryUnderTest } from "../registry-under-test.ts";

interface Row {
  readonly path: string;
  readonly allowed: readonly string[];
  readonly refused: readonly string[];
  readonly target: (repository: RepositoryClient) => string | Promise<string>;
}

const endpoints: readonly Row[] = [
  { path: "end-1 /v2/", allowed: ["GET", "HEAD"], refused: ["POST", "PUT", "PATCH", "DELETE"], target: () => "/v2/" },
  {
    path: "end-2, end-10 /blobs/<digest>",
    allowed: ["GET", "HEAD", "DELETE"],
    refused: ["POST", "PUT", "PATCH"],
    target: async (r) => `/v2/${r.name}/blobs/${await unknownDigest()}`,
  },
  {
    path: "end-3, end-7, end-9 /manifests/<tag>",
    allowed: ["GET", "HEAD", "PUT", "DELETE"],
    refused: ["POST", "PATCH"],
    target: (r) => `/v2/${r.name}/manifests/v1`,
  },
  {
    path: "end-4, end-11 /blobs/uploads/",
    allowed: ["POST"],
    refused: ["GET", "HEAD", "PUT", "PATCH", "DELETE"],
    target: (r) => `/v2/${r.name}/blobs/uploads/`,
  },
  {
    path: "end-4, end-11 /blobs/uploads",
    allowed: ["POST"],
    refused: ["GET", "HEAD", "PUT", "PATCH", "DELETE"],
    target: (r) => `/v2/${r.name}/blobs/uploads`,
  },
  {
    path: "end-5, end-6, end-13, end-14 upload",
    allowed: ["GET", "HEAD", "PATCH", "PUT", "DELETE"],
    refused: ["POST"],
    target: async (r) => locationOf(await r.startUpload()),
  },
  {
    path: "end-8 /tags/list",
    allowed: ["GET", "HEAD"],
    refused: ["POST", "PUT", "PATCH", "DELETE"],
    target: (r) => `/v2/${r.name}/tags/list`,
  },
  {
    path: "end-12 /referrers/<digest>",
    allowed: ["GET", "HEAD"],
    refused: ["POST", "PUT", "PATCH", "DELETE"],
    target: async (r) => `/v2/${r.name}/referrers/${await unknownDigest()}`,
  },
  {
    path: "/v2/_catalog",
    allowed: ["GET", "HEAD"],
    refused: ["POST", "PUT", "PATCH", "DELETE"],
    target: () => "/v2/_catalog",
  },
];

test.each(endpoints.flatMap((row) => row.refused.map((method) => ({ ...row, method }))))(
  "$path: $method is 405, and Allow names the methods that work",
  async ({ method, allowed, target }) => {
    const repository = freshRepository();
    const response = await repository.registry.request(method, await target(repository));
    expect(response.status).toBe(405);
    const named = (response.headers.get("Allow") ?? "").split(",").map((each) => each.trim());
    expect(named).toEqual(expect.arrayContaining([...allowed]));
    for (const other of row405(allowed)) expect(named).not.toContain(other);
    if (method !== "HEAD") await expectError(response, 405, "UNSUPPORTED");
  },
);

function row405(allowed: readonly string[]): readonly string[] {
  return ["GET", "POST", "PUT", "PATCH", "DELETE"].filter((method) => !allowed.includes(method));
}

/** HEAD answers what GET answers, without the body (RFC 9110 section 9.3.2). */
test.each([
  ["end-1 /v2/", () => "/v2/"],
  ["end-8 tags", (r: RepositoryClient) => `/v2/${r.name}/tags/list`],
  ["end-12 referrers", async (r: RepositoryClient) => `/v2/${r.name}/referrers/${await unknownDigest()}`],
  ["end-13 upload status", async (r: RepositoryClient) => locationOf(await r.startUpload())],
  ["end-2 blob", async (r: RepositoryClient) => `/v2/${r.name}/blobs/${(await r.pushBlob(randomBytes(5))).digest}`],
  ["end-3 manifest", (r: RepositoryClient) => `/v2/${r.name}/manifests/v1`],
  ["_catalog", () => "/v2/_catalog?n=1"],
])("HEAD of %s has the status and the type of GET, and no body", async (_name, target) => {
  const repository = freshRepository();
  await repository.pushManifest(await imageIn(repository), { reference: "v1" });
  const path = await target(repository);
  const get = await repository.registry.request("GET", path);
  const head = await repository.registry.request("HEAD", path);
  expect(head.status).toBe(get.status);
  expect(head.headers.get("Content-Type")).toBe(get.headers.get("Content-Type"));
  expect(await head.text()).toBe("");
});

test.each(endpoints)("$path: no redirect, and nobody is told to come again later", async ({ allowed, target }) => {
  const registry = registryUnderTest("manual");
  const repository = registry.repository(freshRepository().name);
  for (const method of allowed) {
    const response = await registry.request(method, await target(repository));
    expect([301, 302, 303, 307, 308, 429], method).not.toContain(response.status);
    expect(response.headers.get("Retry-After")).toBeNull();
    await response.body?.cancel();
  }
});

test("both spellings of the upload's path and of the base: with and without the slash", async () => {
  const repository = freshRepository();
  expect((await repository.request("POST", "blobs/uploads")).status).toBe(202);
  expect((await repository.registry.request("GET", "/v2")).status).toBe(200);
});

test.each(["manifests", "blobs", "tags", "referrers", "a/manifests/b", "blobs/uploads", "tags/list", "x/referrers"])(
  "a repository may be called %s",
  async (end) => {
    const repository = freshRepository().registry.repository(`${freshRepository().name}/${end}`);
    const image = await repository.pushManifest(await imageIn(repository), { reference: "v1" });
    expect((await repository.headManifest("v1")).headers.get("Docker-Content-Digest")).toBe(image.digest);
    expect((await repository.listTags()).status).toBe(200);
    expect((await repository.listReferrers(image.digest)).status).toBe(200);
  },
);
