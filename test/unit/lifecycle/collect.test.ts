import { createExecutionContext, createScheduledController, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import { newKey } from "../../../src/blobs/keys.ts";
import worker from "../../../src/index.ts";
import { collect, collectSteps } from "../../../src/lifecycle/collect.ts";
import {
  COLLECTOR_STEP_ROWS,
  COLLECTOR_STEPS_PER_KIND,
  EVENT_RETENTION_SECONDS,
  SWEEP_MARGIN_SECONDS,
} from "../../../src/limits.ts";
import { emptyBlob, image, push } from "../../fixtures/artifacts.ts";
import { bodyOf, digest, randomBytes, sameBytes } from "../../fixtures/content.ts";
import { interceptOperations } from "../../fixtures/intercepted-env.ts";
import { environmentWith, freshRepository } from "../../fixtures/registry.ts";
import {
  count,
  emptyRegistry,
  listObjects,
  namedObjects,
  objectKeyOf,
  runPass,
  UPLOAD_TTL_SECONDS,
} from "../../fixtures/storage.ts";
import { countOperations } from "../../support/counted-env.ts";

beforeEach(emptyRegistry);

const GRACE = 1000;
const later = (seconds: number) => ({ graceSeconds: GRACE, nowMs: Date.now() + seconds * 1000 });

describe("a blob that no manifest names", () => {
  it("is there for the grace, then condemned (404) for the grace, then gone from R2", async () => {
    const repository = freshRepository();
    const { digest: named } = await repository.pushBlob(randomBytes(10));
    await runPass(later(GRACE - 1));
    expect((await repository.headBlob(named)).status).toBe(200);
    await runPass(later(GRACE + 1));
    expect((await repository.headBlob(named)).status).toBe(404);
    await runPass(later(2 * GRACE));
    expect(await listObjects()).toHaveLength(1);
    await runPass(later(2 * GRACE + 2));
    expect([await listObjects(), await objectKeyOf(named)]).toEqual([[], null]);
  });

  it.each<
    [
      what: string,
      revive: (repository: ReturnType<typeof freshRepository>, bytes: Uint8Array<ArrayBuffer>) => Promise<unknown>,
    ]
  >([
    ["a push", async (repository, bytes) => repository.pushBlob(bytes)],
    [
      "a mount of it",
      async (repository, bytes) => {
        const source = freshRepository();
        await source.pushBlob(bytes);
        await repository.mountBlob(digest(bytes), source.name);
      },
    ],
    [
      "a manifest that names it",
      async (repository, bytes) => {
        const config = { mediaType: "application/json", digest: digest(bytes), size: bytes.byteLength };
        await push(repository, { ...image({ fields: { config, layers: [] } }), blobs: [] });
      },
    ],
  ])("and was condemned is revived by %s, and is not taken by the next pass", async (_what, revive) => {
    const repository = freshRepository();
    const bytes = randomBytes(10);
    await repository.pushBlob(bytes);
    await runPass();
    expect((await repository.headBlob(digest(bytes))).status).toBe(404);
    await revive(repository, bytes);
    expect(await bodyOf(await repository.getBlob(digest(bytes)))).toEqual(bytes);
    await runPass({ graceSeconds: GRACE });
    expect(await bodyOf(await repository.getBlob(digest(bytes)))).toEqual(bytes);
  });

  it("and is condemned in one repository is there in another, and can't be mounted from the first", async () => {
    const [one, other, third] = [freshRepository(), freshRepository(), freshRepository()];
    const { blobs } = await push(other, image());
    const named = blobs[0]?.descriptor.digest ?? "";
    await one.mountBlob(named, other.name);
    await runPass();
    expect([(await one.headBlob(named)).status, (await other.headBlob(named)).status]).toEqual([404, 200]);
    expect((await third.mountBlob(named, one.name)).status).toBe(202);
    expect((await third.mountBlob(named)).status).toBe(201);
    expect((await one.deleteBlob(named)).status).toBe(404);
    await runPass();
    expect((await other.headBlob(named)).status).toBe(200);
  });
});

describe("a blob that a manifest names", () => {
  it("stays, as config, layer or an index's child, for as many passes as there are", async () => {
    const repository = freshRepository();
    const pushed = await push(repository, image());
    for (let pass = 0; pass < 4; pass++) await runPass();
    for (const each of pushed.blobs)
      expect(await bodyOf(await repository.getBlob(each.descriptor.digest))).toEqual(each.bytes);
    expect(
      await count(
        "SELECT count(*) AS count FROM repository_blobs WHERE suspect_at IS NOT NULL OR condemned_at IS NOT NULL",
      ),
    ).toBe(0);
  });

  it("goes when the last manifest that names it has gone, not before", async () => {
    const repository = freshRepository();
    const shared = emptyBlob;
    const manifests = [
      await push(repository, image({ layers: [shared] })),
      await push(repository, image({ layers: [shared] })),
    ];
    for (const [index, { descriptor }] of manifests.entries()) {
      await repository.deleteManifest(descriptor.digest);
      for (let pass = 0; pass < 2; pass++) await runPass();
      expect((await repository.headBlob(shared.descriptor.digest)).status).toBe(index === 0 ? 200 : 404);
    }
    expect(await listObjects()).toEqual([]);
  });
});

/** Rows of as many blobs, in one repository, that no manifest names. */
async function insertUnnamedBlobs(number: number): Promise<void> {
  await env.DB.batch([
    env.DB.prepare("INSERT INTO repositories (name, created_at) VALUES ('many', 0)"),
    env.DB.prepare(
      `WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ${String(number)})
       INSERT INTO blobs (digest, size, object_key, created_at) SELECT 'sha256:' || n, 1, 'blobs/' || n, 0 FROM numbers`,
    ),
    env.DB.prepare(
      "INSERT INTO repository_blobs (repository_id, blob_id, linked_at, suspect_at) SELECT repositories.id, blobs.id, 0, 0 FROM repositories, blobs",
    ),
  ]);
}

describe("a pass", () => {
  it("leaves in R2 what D1 names: a manifest pushed again, and a blob sent twice, included", async () => {
    const repository = freshRepository();
    const large = image({ fields: { annotations: { filling: "x".repeat(100_000) } } });
    for (let time = 0; time < 3; time++) await push(repository, large);
    expect((await listObjects()).length).toBeGreaterThan((await namedObjects()).length);
    await runPass({ graceSeconds: GRACE });
    expect(await listObjects()).toEqual(await namedObjects());
    expect(sameBytes(await bodyOf(await repository.getManifest(large.descriptor.digest)), large.bytes)).toBe(true);
  });

  it("takes more blobs than one step does", async () => {
    const number = 2 * COLLECTOR_STEP_ROWS + 1;
    await insertUnnamedBlobs(number);
    await runPass();
    expect(await count("SELECT count(*) AS count FROM repository_blobs WHERE condemned_at IS NOT NULL")).toBe(number);
    await runPass();
    expect(await count("SELECT count(*) AS count FROM blobs")).toBe(0);
  });

  it("stops after so many steps of a kind, and the next one goes on", async () => {
    const number = COLLECTOR_STEP_ROWS * COLLECTOR_STEPS_PER_KIND + 1;
    await insertUnnamedBlobs(number);
    const left = "SELECT count(*) AS count FROM repository_blobs WHERE suspect_at IS NOT NULL";
    await runPass({ graceSeconds: GRACE });
    expect(await count(left)).toBe(1);
    await runPass({ graceSeconds: GRACE });
    expect(await count(left)).toBe(0);
  });

  it("with nothing to do is one D1 query", async () => {
    await push(freshRepository(), image());
    for (let pass = 0; pass < 2; pass++) await runPass();
    const counted = countOperations(env);
    await collect(counted.env, {
      graceSeconds: 0,
      uploadTtlSeconds: UPLOAD_TTL_SECONDS,
      auditRetentionSeconds: 86_400,
      nowMs: Date.now(),
      sweep: false,
    });
    expect(counted.counts).toEqual({ d1: 1, r2: 0, durableObjects: 0 });
  });

  it("that is killed before or after any of its operations loses nothing, and the next one goes on", async () => {
    for (const when of ["before", "after"] as const) {
      for (let at = 0, reached = true; reached; at++) {
        const repository = freshRepository();
        const kept = await push(repository, image());
        await repository.pushBlob(randomBytes(10));
        let operations = 0;
        reached = false;
        const killed = interceptOperations(env, {
          [when]: () => {
            if (operations++ !== at) return;
            reached = true;
            throw new Error("the machine is gone");
          },
        });
        for (let pass = 0; pass < 2; pass++) {
          const steps = collectSteps(killed, {
            graceSeconds: 0,
            uploadTtlSeconds: UPLOAD_TTL_SECONDS,
            auditRetentionSeconds: 86_400,
            nowMs: Date.now(),
            sweep: true,
          });
          for (const step of steps) await step().catch(() => false);
        }
        for (let pass = 0; pass < 2; pass++) await runPass();
        for (const each of kept.blobs) expect((await repository.headBlob(each.descriptor.digest)).status).toBe(200);
        expect(await listObjects()).toEqual(await namedObjects());
      }
    }
  });
});

/** Sets since when the database is the index, ms since 1970. */
async function bornAt(timeMs: number): Promise<void> {
  await env.DB.prepare("UPDATE registry_values SET value = ?1 WHERE name = 'created-at'").bind(String(timeMs)).run();
}

describe("the sweep", () => {
  const lifeMs = (UPLOAD_TTL_SECONDS + SWEEP_MARGIN_SECONDS) * 1000;

  it("takes objects that no row names when they are older than any upload, and no others", async () => {
    const pushed = await push(freshRepository(), image());
    const madeMs = Date.now();
    for (const prefix of ["blobs/", "manifests/"] as const) {
      await env.BLOBS.put(newKey(prefix, madeMs), "lost");
      await env.BLOBS.put(newKey(prefix, madeMs + lifeMs), "may be on its way");
    }
    await runPass({ sweep: true, graceSeconds: 10 * UPLOAD_TTL_SECONDS, nowMs: madeMs + lifeMs });
    expect(await listObjects()).toHaveLength(pushed.blobs.length + 4);
    for (let pass = 0; pass < 2; pass++)
      await runPass({ sweep: true, graceSeconds: 10 * UPLOAD_TTL_SECONDS, nowMs: madeMs + lifeMs + 1000 });
    const left = await listObjects();
    expect(left).toHaveLength(pushed.blobs.length + 2);
    for (const key of await namedObjects()) expect(left).toContain(key);
  });

  it("leaves objects alone that are older than the database: they are another one's", async () => {
    const born = Date.now();
    await bornAt(born);
    const foreign = newKey("blobs/", born - 1);
    await env.BLOBS.put(foreign, "another registry's blob");
    await env.BLOBS.put(newKey("blobs/", born), "lost");
    for (let pass = 0; pass < 2; pass++) await runPass({ sweep: true, nowMs: born + lifeMs + 1000 });
    expect(await listObjects()).toEqual([foreign]);
  });

  it("looks at each object once, and goes on where it stopped", async () => {
    await bornAt(0);
    const keys = Array.from({ length: 10 }, (_, at) => newKey("blobs/", at));
    for (const key of keys.slice(0, 5)) await env.BLOBS.put(key, "lost");
    await runPass({ sweep: true, nowMs: lifeMs + 1000 });
    for (const key of keys.slice(5)) await env.BLOBS.put(key, "lost");
    for (let pass = 0; pass < 2; pass++) await runPass({ sweep: true, nowMs: lifeMs + 1000 });
    expect(await listObjects()).toEqual([]);
  });

  it("takes more objects than one step does", async () => {
    await bornAt(0);
    await Promise.all(
      Array.from({ length: COLLECTOR_STEP_ROWS + 1 }, async (_, at) => env.BLOBS.put(newKey("blobs/", at), "")),
    );
    for (let pass = 0; pass < 2; pass++) await runPass({ sweep: true, nowMs: lifeMs + COLLECTOR_STEP_ROWS + 1000 });
    expect(await listObjects()).toEqual([]);
  });
});

describe("the pruning", () => {
  it("forgets events after their time, and keeps the others", async () => {
    await push(freshRepository(), image(), "v1");
    const events = await count("SELECT count(*) AS count FROM events");
    await runPass({
      sweep: true,
      nowMs: Date.now() + (EVENT_RETENTION_SECONDS - 60) * 1000,
      graceSeconds: 2 * EVENT_RETENTION_SECONDS,
    });
    expect(await count("SELECT count(*) AS count FROM events")).toBe(events);
    await runPass({
      sweep: true,
      nowMs: Date.now() + (EVENT_RETENTION_SECONDS + 60) * 1000,
      graceSeconds: 2 * EVENT_RETENTION_SECONDS,
    });
    expect(await count("SELECT count(*) AS count FROM events")).toBe(0);
  });

  it("forgets how uploads ended when their locations have expired, not before", async () => {
    const repository = freshRepository();
    await repository.pushBlob(randomBytes(10));
    const states = "SELECT count(*) AS count FROM upload_states";
    await runPass({ sweep: true, graceSeconds: GRACE, nowMs: Date.now() + UPLOAD_TTL_SECONDS * 1000 });
    expect(await count(states)).toBe(1);
    await runPass({ sweep: true, graceSeconds: GRACE, nowMs: Date.now() + 3 * UPLOAD_TTL_SECONDS * 1000 });
    expect(await count(states)).toBe(0);
  });
});

async function trigger(minute: number, settings: Partial<Env>): Promise<void> {
  const context = createExecutionContext();
  await worker.scheduled(
    createScheduledController({ scheduledTime: Date.UTC(2026, 0, 1, 5, minute) }),
    environmentWith(settings),
  );
  await waitOnExecutionContext(context);
}

describe("the cron trigger", () => {
  it("collects with the grace of the settings", async () => {
    const repository = freshRepository();
    const { digest: named } = await repository.pushBlob(randomBytes(10));
    await trigger(7, { GC_GRACE_SECONDS: "60" });
    expect((await repository.headBlob(named)).status).toBe(200);
    for (let time = 0; time < 2; time++) await trigger(7, { GC_GRACE_SECONDS: "0" });
    expect(await listObjects()).toEqual([]);
  });

  it("sweeps once an hour", async () => {
    await bornAt(0);
    await env.BLOBS.put(newKey("blobs/", 0), "lost");
    for (const minute of [1, 30, 59]) await trigger(minute, {});
    expect(await listObjects()).toHaveLength(1);
    for (let time = 0; time < 2; time++) await trigger(0, {});
    expect(await listObjects()).toEqual([]);
  });
});
