import type { IncomingMessage, ServerResponse } from "node:http";
import { buffer } from "node:stream/consumers";
import { describe, expect } from "vitest";
import { smokeTest } from "../../scripts/deploy/smoke-test.ts";
import { adminPassword } from "../support/credentials.ts";
import { freePort } from "../support/free-port.ts";
import type { Registry } from "../support/registry.ts";
import { cliTest } from "./cli-test.ts";
import { repositoryOf } from "./start-test.ts";

/** A request on its way to the registry, which a test may answer in its place. */
type Intercept = (request: IncomingMessage, response: ServerResponse) => boolean;

interface Front {
  readonly url: URL;
  /** What went through, as `DELETE /v2/...`, with the answer's status. */
  readonly log: { request: string; status: number }[];
}

/** Its fixture `front` stands before the registry. */
const it = cliTest.extend(
  "front",
  ({ registry, serve }) =>
    async (intercept: Intercept = () => false): Promise<Front> => {
      const log: Front["log"] = [];
      const url = await serve((request, response) => {
        if (intercept(request, response)) return;
        void pass(registry, request, response).then((status) => {
          log.push({ request: `${request.method ?? ""} ${request.url ?? ""}`, status });
          return status;
        });
      });
      return { url: new URL(url), log };
    },
);

/** @returns the status of the registry's answer */
async function pass(registry: Registry, request: IncomingMessage, response: ServerResponse): Promise<number> {
  const body = await buffer(request);
  const headers = Object.fromEntries(
    Object.entries(request.headers).filter(
      ([name, value]) =>
        typeof value === "string" && !["connection", "content-length", "transfer-encoding"].includes(name),
    ),
  );
  const answer = await fetch(new URL(request.url ?? "", registry.url), {
    method: request.method ?? "GET",
    headers: new Headers(Object.entries(headers).map(([name, value]) => [name, String(value)])),
    redirect: "manual",
    ...(body.length === 0 ? {} : { body: new Uint8Array(body) }),
  });
  // fetch has undone what was encoded for the way.
  const passed = [...answer.headers].filter(([name]) => !["content-encoding", "transfer-encoding"].includes(name));
  response.writeHead(answer.status, Object.fromEntries(passed));
  response.end(Buffer.from(await answer.arrayBuffer()));
  return answer.status;
}

/** What a smoke test pushed, by what it put: nothing of it may be there afterwards. */
async function expectNothingLeft(registry: Registry, { log }: Front): Promise<void> {
  const repository = repositoryOf(registry, "moorage-smoke/test");
  const pushed = log.filter(({ request, status }) => request.startsWith("PUT ") && status === 201);
  expect(pushed.length).toBeGreaterThan(0);
  for (const { request } of pushed) {
    const url = new URL(request.slice("PUT ".length), registry.url);
    const digest = url.searchParams.get("digest");
    const answer =
      digest === null
        ? await repository.getManifest(url.pathname.split("/").at(-1) ?? "")
        : await repository.getBlob(digest);
    expect({ request, status: answer.status }).toEqual({ request, status: 404 });
  }
}

describe("the smoke test of a deployment", () => {
  const quick = { password: adminPassword, patienceMs: 20_000, pauseMs: 50 };

  it("pushes, pulls, lists a referrer and deletes, and leaves nothing", async ({ front, registry }) => {
    const through = await front();
    await smokeTest({ registry: through.url, ...quick });
    await expectNothingLeft(registry, through);
    const kinds = through.log.map(
      ({ request, status }) =>
        `${request.replace(/\?.*/, "").replace(/\/v2\/moorage-smoke\/test\/(\w+)\/.*/, "$1")} ${String(status)}`,
    );
    for (const kind of ["PATCH blobs 202", "PUT manifests 201", "GET referrers 200", "DELETE blobs 202"]) {
      expect(kinds).toContain(kind);
    }
  });

  it("waits for an address that is not there yet, whatever answers in its place", async ({ front }) => {
    let refused = 0;
    const through = await front((request, response) => {
      if (refused >= 4) return false;
      refused++;
      if (refused === 1) request.socket.destroy();
      else if (refused === 2) response.writeHead(404, { "Content-Type": "text/html" }).end("<h1>nothing here</h1>");
      else response.writeHead(503, { "Docker-Distribution-API-Version": "registry/2.0" }).end("{}");
      return true;
    });
    await smokeTest({ registry: through.url, ...quick });
    expect(refused).toBe(4);
  });

  it("goes on after faults in the middle", async ({ front, registry }) => {
    const failed = new Set<string>();
    const through = await front((request, response) => {
      const kind = `${request.method ?? ""} ${(request.url ?? "").split("/")[4] ?? ""}`;
      if (failed.has(kind)) return false;
      failed.add(kind);
      response.writeHead(500, { "Docker-Distribution-API-Version": "registry/2.0" }).end();
      return true;
    });
    await smokeTest({ registry: through.url, ...quick });
    expect([...failed]).toContain("PATCH blobs");
    await expectNothingLeft(registry, through);
  });

  it.for([
    ["referrers are not listed", /^GET .*\/referrers\//, /list of referrers: a manifest with a subject is not among/],
    ["a pull has other bytes", /^GET .*\/blobs\/sha256/, /pull of blobs\/sha256:\w+: other bytes than were pushed/],
  ] as const)("deletes what it pushed where %s", async ([, broken, reason], { front, registry }) => {
    const through = await front((request, response) => {
      if (!broken.test(`${request.method ?? ""} ${request.url ?? ""}`)) return false;
      const headers = { "Docker-Distribution-API-Version": "registry/2.0", "Content-Type": "application/json" };
      response.writeHead(200, headers).end(JSON.stringify({ manifests: [] }));
      return true;
    });
    await expect(smokeTest({ registry: through.url, ...quick })).rejects.toThrow(reason);
    await expectNothingLeft(registry, through);
  });

  it("says what it could not delete", async ({ front }) => {
    const through = await front((request, response) => {
      if (request.method !== "DELETE" || !(request.url ?? "").includes("/blobs/")) return false;
      response.writeHead(403, { "Docker-Distribution-API-Version": "registry/2.0" }).end();
      return true;
    });
    await expect(smokeTest({ registry: through.url, ...quick })).rejects.toThrow(
      /DELETE of blobs\/sha256:\w+: the answer is 403; left behind: moorage-smoke\/test\/blobs\/sha256:/,
    );
  });

  it("says that the password is another, and that nobody answers", async ({ front }) => {
    const { url, log } = await front();
    await expect(smokeTest({ registry: url, ...quick, password: "another" })).rejects.toThrow(
      /login: the answer is 401 .*ADMIN_PASSWORD is the password that the Worker has/,
    );
    expect(log).toHaveLength(1);
    const nobody = new URL(`http://127.0.0.1:${String(await freePort())}`);
    await expect(smokeTest({ registry: nobody, ...quick, patienceMs: 200 })).rejects.toThrow(
      /^http:\/\/127\.0\.0\.1:\d+ can't be reached: /,
    );
  });
});
