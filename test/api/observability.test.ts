import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { app } from "../../src/app.ts";
import { endpointOf } from "../../src/trace/endpoints.ts";
import { countRegistry } from "../../src/metrics/size.ts";
import { image, push } from "../fixtures/artifacts.ts";
import { bodyOf } from "../fixtures/content.ts";
import { freshAddress, makeRobot } from "../fixtures/principals.ts";
import { environmentWith, registryWith } from "../fixtures/registry.ts";
import { type RegistryClient, utf8 } from "../support/client.ts";

/** What an operator sees of requests: lines, figures, times, and whether it is there at all. */

afterEach(() => vi.restoreAllMocks());

const lineSchema = z.object({
  requestId: z.string(),
  endpoint: z.string(),
  method: z.string(),
  repository: z.string().nullable(),
  principal: z.string().nullable(),
  status: z.number(),
  bytes: z.number().nullable(),
  receivedBytes: z.number().nullable(),
  ms: z.number(),
  d1: z.number(),
  r2: z.number(),
  durableObjects: z.number(),
  cache: z.string().nullable(),
});

function registry(settings: Record<string, string> = {}): RegistryClient {
  return registryWith(
    environmentWith({ LOG_REQUESTS: "all", ANONYMOUS_PULL: "public/**", ...settings }),
    freshAddress(),
  );
}

/** The lines that are printed while something is done. */
async function linesOf(work: () => Promise<unknown>): Promise<z.infer<typeof lineSchema>[]> {
  const printed = vi.spyOn(console, "log").mockImplementation(() => undefined);
  await work();
  const lines = printed.mock.calls.flatMap(([text]) => String(text).split("\n"));
  printed.mockRestore();
  return lines.map((line) => lineSchema.parse(JSON.parse(line)));
}

/** Of one that is let in, and one that is not. */
async function linesOfPings(settings: Record<string, string>) {
  return linesOf(async () => {
    await bodyOf(await registry(settings).ping());
    await bodyOf(await registry(settings).as(null).ping());
  });
}

describe("the log", () => {
  it("has one line a request, which says who did what to what, and what it cost", async () => {
    const name = `public/${crypto.randomUUID()}`;
    const pushed = await push(registry().repository(name), image(), "v1");
    const digest = pushed.blobs[0]?.descriptor.digest ?? "";
    const size = pushed.blobs[0]?.descriptor.size ?? 0;
    const nobody = registry().as(null).repository(name);
    let requestId: string | null = null;
    const [cold, warm, byTag] = await linesOf(async () => {
      const response = await nobody.getBlob(digest);
      requestId = response.headers.get("x-request-id");
      await bodyOf(response);
      await bodyOf(await nobody.getBlob(digest));
      await bodyOf(await nobody.headManifest("v1"));
    });
    const common = { repository: name, principal: "anonymous", status: 200, receivedBytes: null };
    expect(cold).toMatchObject({ ...common, requestId, endpoint: "end-2", method: "GET", bytes: size });
    expect(cold).toMatchObject({ d1: 1, r2: 1, durableObjects: 0, cache: "miss" });
    expect(warm).toMatchObject({ ...common, d1: 0, r2: 0, cache: "memory" });
    expect(byTag).toMatchObject({ ...common, endpoint: "end-3", method: "HEAD", d1: 1, r2: 0 });
  });

  it("tells of pushes with what came, and of refusals", async () => {
    const name = `private/${crypto.randomUUID()}`;
    const bytes = utf8(crypto.randomUUID());
    const lines = await linesOf(async () => {
      await registry().repository(name).pushBlob(bytes);
      await bodyOf(await registry().as(null).repository(name).headManifest("v1"));
    });
    const put = lines.find(({ receivedBytes }) => receivedBytes === bytes.byteLength);
    expect(put).toMatchObject({ status: 201, principal: "admin", repository: name, d1: 1, r2: 1 });
    expect(lines.at(-1)).toMatchObject({ status: 401, principal: "anonymous", repository: name, endpoint: "end-3" });
  });

  it("has nothing of what is secret", async () => {
    const { token } = await makeRobot(["**:pull"]);
    const printed = vi.spyOn(console, "log").mockImplementation(() => undefined);
    await bodyOf(await registry().as(token.authorization).request("GET", "/v2/?password=a-secret-word"));
    await bodyOf(await registry().as(token.authorization).request("GET", "/nowhere/a-secret-word"));
    const text = JSON.stringify(printed.mock.calls);
    expect(text).toContain("requestId");
    expect(text).not.toContain("a-secret-word");
    expect(text).not.toContain(token.authorization.split(" ")[1]);
  });

  it("has failures alone with LOG_REQUESTS=errors, and nothing with none", async () => {
    expect((await linesOfPings({ LOG_REQUESTS: "errors" })).map(({ status }) => status)).toEqual([401]);
    expect(await linesOfPings({ LOG_REQUESTS: "none" })).toEqual([]);
  });

  it("has a name for every route", () => {
    const routes = app.routes.filter(({ method, path }) => method !== "ALL" && !path.startsWith("/api/"));
    expect(routes.length).toBeGreaterThan(15);
    expect(routes.filter(({ method, path }) => endpointOf(method, path) === "none")).toEqual([]);
  });
});

describe("Server-Timing", () => {
  const debug = { "Moorage-Debug": "timing" };

  it("is told an administrator who asks, with counts", async () => {
    const name = `public/${crypto.randomUUID()}`;
    await push(registry().repository(name), image(), "v1");
    const { headers } = await registry().repository(name).headManifest("v1", debug);
    expect(headers.get("server-timing")).toMatch(
      /^auth;dur=\d+, d1;desc="1";dur=\d+, r2;desc="0";dur=\d+, do;desc="0";dur=\d+, cache;desc="\w+", total;dur=\d+$/,
    );
    expect((await registry().repository(name).headManifest("v1")).headers.has("server-timing")).toBe(false);
  });

  it("says where a pull was answered from", async () => {
    const name = `public/${crypto.randomUUID()}`;
    const { descriptor } = await push(registry().repository(name), image(), "v1");
    const local = registry({ ANONYMOUS_PULL: "public/**", LOCAL_RUN: "1" });
    const from = async (as: RegistryClient): Promise<string | undefined> => {
      const answer = await as.repository(name).getManifest(descriptor.digest);
      await answer.arrayBuffer();
      return /cache;desc="(\w+)"/.exec(answer.headers.get("server-timing") ?? "")?.[1];
    };
    expect([await from(local), await from(local.as(null)), await from(local.as(null))]).toEqual([
      "bypass",
      "miss",
      "memory",
    ]);
  });

  it("is told nobody else", async () => {
    const name = `public/${crypto.randomUUID()}`;
    await push(registry().repository(name), image(), "v1");
    const { token } = await makeRobot(["**:pull,push,delete"]);
    for (const as of [null, token.authorization]) {
      const { headers } = await registry().as(as).repository(name).headManifest("v1", debug);
      expect(headers.has("server-timing")).toBe(false);
    }
  });

  it("is told everybody on the local run", async () => {
    const { headers } = await registry({ LOCAL_RUN: "1", LOG_REQUESTS: "none" }).ping();
    expect(headers.get("server-timing")).toContain("total;dur=");
  });
});

describe("health", () => {
  it("says that it lives, also where a secret is missing", async () => {
    const response = await registryWith(environmentWith({ ADMIN_PASSWORD: "" }), freshAddress())
      .as(null)
      .request("GET", "/healthz");
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ status: "ok" });
  });

  it("says that D1, R2 and Durable Objects answer, or which does not", async () => {
    const now = Date.now();
    const clock = vi.spyOn(Date, "now").mockReturnValue(now + 60_000);
    const ready = await registry().as(null).request("GET", "/readyz");
    expect(ready.status).toBe(200);
    expect(await ready.json()).toEqual({ status: "ready", checks: { d1: "ok", r2: "ok", durableObjects: "ok" } });
    clock.mockReturnValue(now + 120_000);
    vi.spyOn(console, "error").mockImplementation(() => undefined);
    const broken = new Proxy(env.BLOBS, {
      get: (bucket, property): unknown =>
        property === "head"
          ? async () => Promise.reject(new Error("the bucket is away"))
          : Reflect.get(bucket, property),
    });
    const notReady = await registryWith(environmentWith({ BLOBS: broken }), freshAddress())
      .as(null)
      .request("GET", "/readyz");
    expect(notReady.status).toBe(503);
    const text = await notReady.text();
    expect(JSON.parse(text)).toMatchObject({ checks: { d1: "ok", r2: "failed", durableObjects: "ok" } });
    expect(text).not.toContain("away");
  });

  it.each([
    ["d1", { DB: away(env.DB, "prepare") }],
    ["durableObjects", { UPLOADS: away(env.UPLOADS, "getByName") }],
  ] as const)("says that %s does not answer", async (which, bindings) => {
    vi.spyOn(Date, "now").mockReturnValue(Date.now() + (which === "d1" ? 180_000 : 240_000));
    vi.spyOn(console, "error").mockImplementation(() => undefined);
    const response = await registryWith(environmentWith(bindings), freshAddress()).as(null).request("GET", "/readyz");
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ status: "not ready", checks: { [which]: "failed" } });
  });

  it("looks once, however many ask at once, and does not take what hangs for what answers", async () => {
    const now = Date.now() + 300_000;
    const clock = vi.spyOn(Date, "now").mockReturnValue(now);
    vi.spyOn(console, "error").mockImplementation(() => undefined);
    const begun = Promise.withResolvers<undefined>();
    const hung = Promise.withResolvers<null>();
    let looks = 0;
    const hanging = new Proxy(env.BLOBS, {
      get: (bucket, property): unknown => {
        if (property !== "head") return Reflect.get(bucket, property);
        looks++;
        begun.resolve(undefined);
        return async () => hung.promise;
      },
    });
    const ask = async (): Promise<number> =>
      (
        await registryWith(environmentWith({ BLOBS: hanging }), freshAddress())
          .as(null)
          .request("GET", "/readyz")
      ).status;
    const first = ask();
    await begun.promise;
    expect(await Promise.all([ask(), ask(), ask()])).toEqual([503, 503, 503]);
    expect(looks).toBe(1);
    expect(await first).toBe(503);
    clock.mockReturnValue(now + 60_000);
    hung.resolve(null);
    // Two probes of a load balancer at once, after a while in which nobody asked, are no fault.
    looks = 0;
    expect(await Promise.all([ask(), ask(), ask()])).toEqual([200, 200, 200]);
    expect(looks).toBe(1);
  });
});

/** A binding of which one method fails. */
function away<T extends object>(binding: T, method: string): T {
  return new Proxy(binding, {
    get: (target, property): unknown => {
      if (property === method)
        return () => {
          throw new Error("it is away");
        };
      const value: unknown = Reflect.get(target, property);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** 0 where the text has no such metric. */
function valueOf(text: string, metric: string): number {
  const line = text.split("\n").find((each) => each.startsWith(metric));
  return line === undefined ? 0 : Number(line.split(" ").at(-1));
}

describe("GET /metrics", () => {
  it("counts requests, operations and pulls, in the text format of Prometheus", async () => {
    const name = `public/${crypto.randomUUID()}`;
    const pushed = await push(registry().repository(name), image(), "v1");
    const nobody = registry().as(null).repository(name);
    const metrics = async (): Promise<string> => (await registry().request("GET", "/metrics")).text();
    const before = await metrics();
    for (let time = 0; time < 3; time++) await bodyOf(await nobody.getManifest(pushed.descriptor.digest));
    const after = await metrics();
    const grown = (metric: string): number => valueOf(after, metric) - valueOf(before, metric);
    expect(grown('moorage_requests_total{endpoint="end-3",method="GET",status="200"')).toBe(3);
    expect(grown('moorage_pulls_total{from="miss"')).toBe(1);
    expect(grown('moorage_pulls_total{from="memory"')).toBe(2);
    for (const line of after.trimEnd().split("\n")) {
      expect(line).toMatch(/^(# (HELP|TYPE) moorage_\w+ .+|moorage_\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? \d+)$/);
    }
  });

  it("tells how large the registry is, as it was counted", async () => {
    await push(registry().repository(`public/${crypto.randomUUID()}`), image(), "v1");
    await countRegistry(env.DB, Date.now());
    const { manifests } = (await env.DB.prepare("SELECT count(*) AS manifests FROM manifests").first<{
      manifests: number;
    }>()) ?? { manifests: -1 };
    const text = await (await registry().request("GET", "/metrics")).text();
    expect(text).toContain(`moorage_content{kind="manifest"} ${String(manifests)}\n`);
  });
});

describe("MAX_BODY_BYTES", () => {
  it("refuses a larger body with a 413 that names the relay", async () => {
    const to = registry({ MAX_BODY_BYTES: "1000" }).repository(`test/${crypto.randomUUID()}`);
    const location = (await to.startUpload()).headers.get("location") ?? "";
    const headers = { "Content-Type": "application/octet-stream" };
    const refused = await registry({ MAX_BODY_BYTES: "1000" }).request("PATCH", location, {
      headers,
      body: new Uint8Array(1001),
    });
    expect(refused.status).toBe(413);
    const text = await refused.text();
    expect(text).toContain("npx moorage relay http://localhost");
    expect(text).toContain("BLOB_UPLOAD_INVALID");
    const taken = await registry({ MAX_BODY_BYTES: "1000" }).request("PATCH", location, {
      headers,
      body: new Uint8Array(1000),
    });
    expect(taken.status).toBe(202);
  });

  it("of 0 refuses nothing", async () => {
    await expect(
      registry().repository(`test/${crypto.randomUUID()}`).pushBlob(new Uint8Array(200_000)),
    ).resolves.toBeDefined();
  });
});
