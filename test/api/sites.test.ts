import { describe, expect, it } from "vitest";
import { expectError } from "../conformance/error-envelope.ts";
import { image, push } from "../fixtures/artifacts.ts";
import { digest, randomBytes } from "../fixtures/content.ts";
import { freshRepository } from "../fixtures/registry.ts";
import { begin, beginWith } from "../fixtures/upload.ts";
import { imageManifest, type RepositoryClient, type RequestOptions } from "../support/client.ts";

/** What browsers say of the page that made a request (Fetch Metadata: w3.org/TR/fetch-metadata); clients say nothing. */
type Headers = Readonly<Record<string, string>>;

const otherSite: Headers = { "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors" };
const foreignPages: readonly (readonly [who: string, headers: Headers])[] = [
  ["a page of another site", otherSite],
  ["one in a browser that says no more than Origin", { Origin: "https://site.example" }],
  ["a page without an origin (a sandbox, a file)", { Origin: "null" }],
  ["a page of another port of this machine", { Origin: "http://localhost:3000", "Sec-Fetch-Site": "same-site" }],
];
const ownPagesAndClients: readonly (readonly [who: string, headers: Headers])[] = [
  ["a page of the registry's own", { "Sec-Fetch-Site": "same-origin", Origin: "http://localhost" }],
  ["a page of the registry's own, in a browser that says no more than Origin", { Origin: "http://localhost" }],
  ["whom the user told to (an address bar, a bookmark)", { "Sec-Fetch-Site": "none" }],
  ["a client", {}],
];

type Send = (headers: Headers) => Promise<Response>;

interface Write {
  /** status where it is let through */
  readonly status: number;
  readonly send: Send;
}

/** Every endpoint that changes something; each is made ready so that only the caller can be what is wrong. */
const writes: Readonly<Record<string, (repository: RepositoryClient) => Promise<Write>>> = {
  "end-4a POST": async (repository) => ({ status: 202, send: sender(repository, "POST", uploadsOf(repository)) }),
  "end-4b POST with digest": async (repository) => {
    const body = randomBytes(10);
    const path = `${uploadsOf(repository)}?digest=${digest(body)}`;
    return { status: 201, send: sender(repository, "POST", path, { body }) };
  },
  "end-11 POST with mount": async (repository) => {
    const { digest: mounted } = await freshRepository().pushBlob(randomBytes(10));
    return { status: 201, send: sender(repository, "POST", `${uploadsOf(repository)}?mount=${mounted}`) };
  },
  "end-5 PATCH": async (repository) => {
    const { location } = await begin(repository);
    return { status: 202, send: sender(repository, "PATCH", location, { body: randomBytes(10) }) };
  },
  "end-6 PUT": async (repository) => {
    const body = randomBytes(10);
    const { location } = await begin(repository);
    return { status: 201, send: sender(repository, "PUT", `${location}?digest=${digest(body)}`, { body }) };
  },
  "end-14 DELETE upload": async (repository) => {
    const { last } = await beginWith(repository, randomBytes(10));
    return { status: 204, send: sender(repository, "DELETE", last) };
  },
  "end-7 PUT manifest": async (repository) => {
    const { bytes: body } = await push(repository, image());
    const options = { body, headers: { "Content-Type": imageManifest } };
    return { status: 201, send: sender(repository, "PUT", `/v2/${repository.name}/manifests/v2`, options) };
  },
  "end-9 DELETE tag": async (repository) => {
    await push(repository, image(), "v1");
    return { status: 202, send: sender(repository, "DELETE", `/v2/${repository.name}/manifests/v1`) };
  },
  "end-9 DELETE manifest": async (repository) => {
    const { descriptor } = await push(repository, image(), "v1");
    return { status: 202, send: sender(repository, "DELETE", `/v2/${repository.name}/manifests/${descriptor.digest}`) };
  },
  "end-10 DELETE blob": async (repository) => {
    const pushed = await repository.pushBlob(randomBytes(10));
    return { status: 202, send: sender(repository, "DELETE", `/v2/${repository.name}/blobs/${pushed.digest}`) };
  },
};

const uploadsOf = ({ name }: RepositoryClient): string => `/v2/${name}/blobs/uploads/`;

function sender(repository: RepositoryClient, method: string, path: string, options: RequestOptions = {}): Send {
  return async (headers) =>
    repository.registry.request(method, path, { ...options, headers: { ...options.headers, ...headers } });
}

describe.each(Object.entries(writes))("%s", (_endpoint, prepare) => {
  it("by a page of another site is refused, and changes nothing: the same request by a client then does", async () => {
    const { status, send } = await prepare(freshRepository());
    for (const [, headers] of foreignPages) await expectError(await send(headers), 403, "DENIED");
    expect((await send({})).status).toBe(status);
  });

  it.each(ownPagesAndClients)("by %s is served", async (_who, headers) => {
    const { status, send } = await prepare(freshRepository());
    expect((await send(headers)).status).toBe(status);
  });
});

it("a pull is served whatever page asks: what it answers is the browser's to keep from another site", async () => {
  const repository = freshRepository();
  const { descriptor, blobs } = await push(repository, image(), "v1");
  for (const path of [
    "/v2/",
    "/v2/_catalog",
    `/v2/${repository.name}/tags/list`,
    `/v2/${repository.name}/manifests/v1`,
    `/v2/${repository.name}/blobs/${blobs[0]?.descriptor.digest ?? ""}`,
    `/v2/${repository.name}/referrers/${descriptor.digest}`,
  ]) {
    const response = await repository.registry.request("GET", path, { headers: otherSite });
    expect({ path, status: response.status }).toEqual({ path, status: 200 });
    // Without this a page of another site can't read the answer.
    expect(response.headers.get("Access-Control-Allow-Origin")).toBeNull();
  }
});
