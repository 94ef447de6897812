import { env } from "cloudflare:workers";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { image, push } from "../fixtures/artifacts.ts";
import { bodyOf, unknownDigest } from "../fixtures/content.ts";
import { freshAddress } from "../fixtures/principals.ts";
import { environmentWith, registryWith } from "../fixtures/registry.ts";
import type { RepositoryClient } from "../support/client.ts";

/**
 * Which copy of the database a pull asks. Locally there is one, which answers every session; here it is one that lags: what
 * a session reads that need not be the primary has nothing in it.
 */

interface Lagging {
  readonly database: D1Database;
  /** how each session began, in their order; `primary` for a query without one */
  readonly asked: string[];
}

function laggingDatabase(): Lagging {
  const asked: string[] = [];
  const queried = <T extends D1Database | D1DatabaseSession>(target: T, from: string, isBehind: boolean): T =>
    new Proxy(target, {
      get(_, name): unknown {
        if (name === "prepare") {
          return (sql: string) => {
            asked.push(from);
            return target.prepare(isBehind ? `SELECT * FROM (${sql}) WHERE 0` : sql);
          };
        }
        if (name === "withSession" && "withSession" in target) {
          return (constraint: string) => {
            const isPrimary = constraint === "first-primary";
            return queried(target.withSession(constraint), constraint, !isPrimary);
          };
        }
        const value: unknown = Reflect.get(target, name);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  return { database: queried(env.DB, "primary", false), asked };
}

async function setUp(settings: Record<string, string> = {}) {
  const { database, asked } = laggingDatabase();
  const environment = environmentWith({ DB: database, ANONYMOUS_PULL: "public/**", ...settings });
  const admin = registryWith(environment, freshAddress()).repository(`public/${crypto.randomUUID()}`);
  const pushed = await push(admin, image(), "v1");
  const puller = registryWith(environment, freshAddress()).as(null).repository(admin.name);
  const askedBy = async (send: (to: RepositoryClient) => Promise<Response>, to = puller) => {
    asked.length = 0;
    const response = await send(to);
    await bodyOf(response);
    return { status: response.status, asked: [...asked] };
  };
  return { admin, pushed, blob: pushed.blobs[0]?.descriptor.digest ?? "", digest: pushed.descriptor.digest, askedBy };
}

describe("by digest", () => {
  it("who may only pull reads the nearest copy, and the primary before a 404 is said", async () => {
    const { blob, askedBy } = await setUp();
    const both = ["first-unconstrained", "primary"];
    expect(await askedBy(async (to) => to.headBlob(blob))).toEqual({ status: 200, asked: both });
    const unknown = unknownDigest();
    expect(await askedBy(async (to) => to.headBlob(unknown))).toEqual({ status: 404, asked: both });
    expect(await askedBy(async (to) => to.getManifest(unknown))).toEqual({ status: 404, asked: both });
  });

  it("who may push reads the primary", async () => {
    const { admin, digest, blob, askedBy } = await setUp();
    const primary = { status: 200, asked: ["primary"] };
    expect(await askedBy(async (to) => to.headManifest(digest), admin)).toEqual(primary);
    expect(await askedBy(async (to) => to.headBlob(blob), admin)).toEqual(primary);
  });

  it("what this isolate put or deleted is asked of the primary: a replica may know less", async () => {
    const { admin, digest, askedBy } = await setUp();
    expect(await askedBy(async (to) => to.getManifest(digest))).toEqual({ status: 200, asked: ["primary"] });
    await admin.deleteManifest(digest);
    const { status, asked } = await askedBy(async (to) => to.getManifest(digest));
    expect(status).toBe(404);
    expect(new Set(asked)).toEqual(new Set(["primary"]));
  });
});

describe("by tag, and for lists,", () => {
  it("everybody reads the primary", async () => {
    const { admin, digest, askedBy } = await setUp();
    const primary = { status: 200, asked: ["primary"] };
    for (const to of [undefined, admin]) {
      expect(await askedBy(async (of) => of.getManifest("v1"), to)).toEqual(primary);
      expect(await askedBy(async (of) => of.listTags(), to)).toEqual(primary);
      expect((await askedBy(async (of) => of.listReferrers(digest), to)).asked[0]).toBe("primary");
    }
  });

  it("TAG_STALENESS_SECONDS lets a copy answer that is no further behind", async () => {
    const { admin, askedBy } = await setUp({ TAG_STALENESS_SECONDS: "30" });
    const startMs = Date.now();
    onTestFinished(() => void vi.restoreAllMocks());
    const clock = vi.spyOn(Date, "now").mockReturnValue(startMs);
    // The first one takes a bookmark from the primary; for 30 s a copy that has come as far will do.
    expect((await askedBy(async (to) => to.headManifest("v1"))).asked).toEqual(["first-primary"]);
    const [from, ...then] = (await askedBy(async (to) => to.headManifest("v1"))).asked;
    expect(from).not.toMatch(/^(first-.*|primary)$/);
    expect(then).toEqual(["primary"]);
    clock.mockReturnValue(startMs + 31_000);
    expect((await askedBy(async (to) => to.headManifest("v1"))).asked).toEqual(["first-primary"]);
    expect((await askedBy(async (to) => to.headManifest("v1"), admin)).asked).toEqual(["primary"]);
  });
});
