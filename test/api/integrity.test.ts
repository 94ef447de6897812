import { createScheduledController } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type Finding, findingSchema, findingsSchema, integritySchema } from "../../src/integrity/finding.ts";
import { runSchedule } from "../../src/lifecycle/schedule.ts";
import {
  EDGE_MEMORY_ITEM_MAX_BYTES,
  EXPORT_MINUTE,
  SCRUB_FAILURES_MAX,
  SCRUB_QUARANTINED_MAX,
  SCRUB_ROUND_SECONDS,
  SCRUB_SHARE_MIN,
  SCRUB_TICK_BYTES,
  SWEEP_MARGIN_SECONDS,
} from "../../src/limits.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { type Artifact, artifact, blob, image, index, push } from "../fixtures/artifacts.ts";
import { bodyOf, digest, randomBytes, sameBytes } from "../fixtures/content.ts";
import {
  beginRound,
  keyOf,
  keyOfManifest,
  scrubMinute,
  scrubRound,
  scrubState,
  setScrubState,
  spoil,
} from "../fixtures/integrity.ts";
import { interceptOperations } from "../fixtures/intercepted-env.ts";
import { nextOf, read, refused, send } from "../fixtures/management.ts";
import { freshAddress } from "../fixtures/principals.ts";
import { environmentWith, freshRepository, registryWith } from "../fixtures/registry.ts";
import { count, emptyRegistry, listObjects, runPass, UPLOAD_TTL_SECONDS } from "../fixtures/storage.ts";
import { countOperations } from "../support/counted-env.ts";
import { imageManifest, type RepositoryClient } from "../support/client.ts";

beforeEach(emptyRegistry);
afterEach(() => {
  vi.restoreAllMocks();
});

/** A repository with a blob that a manifest names, and that went bad and was found. */
async function quarantinedBlob(repository: RepositoryClient = freshRepository()) {
  const layer = blob(randomBytes(5000));
  const pushed = await push(repository, image({ layers: [layer] }), "v1");
  const key = await spoil(layer.descriptor.digest, layer.bytes);
  const [minute] = await scrubRound();
  const finding = minute?.findings[0];
  if (finding === undefined) throw new Error("the scrub found nothing");
  return { repository, layer, named: layer.descriptor.digest, pushed, key, finding };
}

async function findings(): Promise<readonly Finding[]> {
  return (await read(await send("GET", "integrity/findings"), 200, findingsSchema)).findings;
}

async function expectPulled(
  repository: RepositoryClient,
  { descriptor, bytes }: ReturnType<typeof blob>,
): Promise<void> {
  const response = await repository.getBlob(descriptor.digest);
  expect(response.status).toBe(200);
  expect(sameBytes(await bodyOf(response), bytes)).toBe(true);
}

describe("the scrub", () => {
  it("finds nothing wrong with what is right: blobs of both algorithms, none, and manifests in D1 and R2", async () => {
    const repository = freshRepository();
    const layers = [
      blob(randomBytes(300_000)),
      blob(new Uint8Array(0)),
      blob(randomBytes(1000), "application/octet-stream", "sha512"),
    ];
    await push(repository, image({ layers }), "small");
    await push(repository, image({ layers, fields: { annotations: { filling: "é".repeat(50_000) } } }), "large");
    await push(repository, image({ algorithm: "sha512" }));
    const minutes = await scrubRound();
    expect(minutes.flatMap((minute) => minute.findings)).toEqual([]);
    // Three layers, three configs, one layer more; three manifests.
    expect(minutes.reduce((sum, minute) => sum + minute.objects, 0)).toBe(3 + 3 + 1 + 3);
    expect(await findings()).toEqual([]);
  });

  it("finds a bit that is another, reports it, and quarantines the blob: 404 to HEAD, GET and mount", async () => {
    const other = freshRepository();
    const { repository, layer, named, pushed, key, finding } = await quarantinedBlob();
    expect(finding).toMatchObject({ kind: "blob", digest: named, problem: "digest", objectKey: key, foundBy: "scrub" });
    expect(finding.found).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(finding.found).not.toBe(named);
    expect(finding.state).toBe("quarantined");
    expect((await repository.headBlob(named)).status).toBe(404);
    expect(await refused(await repository.getBlob(named), 404, "BLOB_UNKNOWN")).toMatch(/damaged: push it again/);
    for (const from of [repository.name, undefined]) {
      expect((await other.mountBlob(named, from)).status).toBe(202);
    }
    // What names it can't be put before it has come again.
    expect((await repository.putManifest("v2", pushed.bytes)).status).toBe(404);
    // The manifest, and its other blob, are served as before.
    expect((await repository.getManifest("v1")).status).toBe(200);
    expect((await repository.getBlob(pushed.blobs[0]?.descriptor.digest ?? "")).status).toBe(200);
    expect(await findings()).toEqual([finding]);
    const { results } = await env.DB.prepare(
      "SELECT kind, repository, digest, actor FROM events WHERE kind = 'blob.quarantined'",
    ).all();
    expect(results).toEqual([{ kind: "blob.quarantined", repository: repository.name, digest: named, actor: "scrub" }]);
    const records = await env.DB.prepare(
      "SELECT principal, digest, detail FROM audit WHERE action = 'content.quarantine'",
    ).all();
    expect(records.results).toMatchObject([{ principal: "scrub", digest: named }]);
    expect(layer.bytes.byteLength).toBe(5000);
  });

  it.each<[problem: string, found: string | null, spoilt: (key: string) => Promise<unknown>]>([
    ["missing", null, async (key) => env.BLOBS.delete(key)],
    ["size", "10", async (key) => env.BLOBS.put(key, "ten bytes.")],
    ["size", "0", async (key) => env.BLOBS.put(key, "")],
    ["size", "6000", async (key) => env.BLOBS.put(key, randomBytes(6000))],
  ])("finds an object that is %s (%s)", async (problem, found, spoilt) => {
    const repository = freshRepository();
    const { digest: named } = await repository.pushBlob(randomBytes(5000));
    await spoilt(await keyOf(named));
    await scrubRound();
    expect(await findings()).toMatchObject([{ digest: named, problem, found, state: "quarantined" }]);
    expect((await repository.headBlob(named)).status).toBe(404);
  });

  it("finds the text of a manifest that was tampered with, and the object of a large one: 404, by tag and digest", async () => {
    const repository = freshRepository();
    const small = await push(repository, image(), "small");
    const large = await push(repository, image({ fields: { annotations: { filling: "x".repeat(100_000) } } }), "large");
    const good = await push(repository, image(), "good");
    await env.DB.prepare("UPDATE manifests SET body = replace(body, 'sha256:', 'sha512:') WHERE digest = ?1")
      .bind(small.descriptor.digest)
      .run();
    const key = await keyOfManifest(large.descriptor.digest);
    const spoilt = large.bytes.slice();
    spoilt[10] = 0;
    await env.BLOBS.put(key, spoilt);
    await scrubRound();
    expect((await findings()).map(({ digest: named, problem, repository: of }) => [named, problem, of])).toEqual([
      [large.descriptor.digest, "digest", repository.name],
      [small.descriptor.digest, "digest", repository.name],
    ]);
    for (const [tag, { descriptor }] of [
      ["small", small],
      ["large", large],
    ] as const) {
      for (const reference of [tag, descriptor.digest]) {
        expect((await repository.headManifest(reference)).status).toBe(404);
        await expectError(await repository.getManifest(reference), 404, "MANIFEST_UNKNOWN");
      }
    }
    expect((await repository.getManifest("good")).status).toBe(200);
    // What names it is refused like what names a manifest that is not there: else nobody would push it again.
    for (const child of [small, large]) {
      const naming = index([child.descriptor]);
      const refusal = await repository.putManifest("both", naming.bytes, naming.descriptor.mediaType);
      await expectError(refusal, 404, "MANIFEST_BLOB_UNKNOWN");
    }
    // The same push again heals both; what was bad of R2 is kept.
    for (const [tag, pushed] of [
      ["small", small],
      ["large", large],
      ["good", good],
    ] as const) {
      await push(repository, pushed, tag);
      const response = await repository.getManifest(tag);
      expect(sameBytes(await bodyOf(response), pushed.bytes)).toBe(true);
    }
    expect((await findings()).map(({ state }) => state)).toEqual(["healed", "healed"]);
    expect(await listObjects()).toContain(key);
    const [minute] = await scrubRound();
    expect(minute?.findings).toEqual([]);
  });

  it("reads a blob over several minutes where it is larger than one of them, and judges it rightly", async () => {
    const repository = freshRepository();
    const tickBytes = Math.ceil(SCRUB_TICK_BYTES * SCRUB_SHARE_MIN * 1.125);
    const [good, bad] = [randomBytes(3 * tickBytes + 12_345), randomBytes(2 * tickBytes + 1)];
    for (const bytes of [good, bad]) await repository.pushBlob(bytes);
    await spoil(digest(bad), bad);
    await beginRound();
    const objects: number[] = [];
    for (let minute = 0; (await scrubState()).endedMs === null; minute++) {
      // As on a plan that lets no more be done in a minute.
      await setScrubState({ share: SCRUB_SHARE_MIN });
      const scrubbed = await scrubMinute();
      objects.push(scrubbed?.objects ?? 0);
      expect(scrubbed?.bytes ?? 0).toBeLessThanOrEqual(tickBytes);
    }
    expect(objects.length).toBeGreaterThan(2);
    expect(objects[0]).toBe(0);
    expect(await findings()).toMatchObject([{ digest: digest(bad), problem: "digest" }]);
    expect((await repository.headBlob(digest(good))).status).toBe(200);
  });

  it("believes no slice that differs before it has read the blob once more", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(3000);
    const { digest: named } = await repository.pushBlob(bytes);
    const key = await spoil(named, bytes);
    let reads = 0;
    const mended = interceptOperations(env, {
      after: async ({ binding, method }) => {
        if (binding !== "BLOBS" || method !== "get") return;
        reads += 1;
        await env.BLOBS.put(key, bytes);
      },
    });
    expect((await scrubMinute(Date.now(), mended))?.findings).toEqual([]);
    expect(reads).toBe(2);
    expect((await repository.headBlob(named)).status).toBe(200);
  });

  it("takes what R2 fails to give for no finding, tries again, and passes it over at last", async () => {
    const repository = freshRepository();
    const [first, second] = [await repository.pushBlob(randomBytes(10)), await repository.pushBlob(randomBytes(20))];
    const key = await keyOf(first.digest);
    const failing = interceptOperations(env, {
      before: ({ binding, values }) => {
        if (binding === "BLOBS" && values[0] === key) throw new Error("internal error (10001)");
      },
    });
    for (let minute = 1; minute < SCRUB_FAILURES_MAX; minute++) {
      expect(await scrubMinute(Date.now(), failing)).toMatchObject({ objects: 0, findings: [], unreadable: [] });
    }
    expect(await scrubMinute(Date.now(), failing)).toMatchObject({ findings: [], unreadable: [key] });
    expect(await scrubMinute(Date.now(), failing)).toMatchObject({ objects: 1 });
    for (const { digest: named } of [first, second]) expect((await repository.headBlob(named)).status).toBe(200);
  });

  it("goes on where it was after a run that was cut off, with less to do in the next", async () => {
    const repository = freshRepository();
    for (let at = 0; at < 3; at++) await repository.pushBlob(randomBytes(100));
    const bytes = randomBytes(500);
    const { digest: named } = await repository.pushBlob(bytes);
    await spoil(named, bytes);
    let reads = 0;
    const cut = interceptOperations(env, {
      before: ({ binding, method }) => {
        if (binding === "BLOBS" && method === "get" && ++reads > 2) throw new Error("cut off");
        if (binding === "BLOBS" && method === "head") throw new Error("cut off");
        // The state can't be written either, as where a run is killed.
        if (binding === "DB" && reads > 2) throw new Error("cut off");
      },
    });
    const begunMs = Date.now();
    await expect(scrubMinute(begunMs, cut)).rejects.toThrow("cut off");
    // Another run does not begin while that one may be at work.
    expect(await scrubMinute(begunMs + 60_000)).toBeNull();
    expect((await scrubState()).share).toBe(1);
    const resumed = await scrubMinute(begunMs + 121_000);
    expect(resumed?.findings).toMatchObject([{ digest: named }]);
    expect((await scrubState()).share).toBe(0.5);
  });

  it("is done by one run where two begin at once", async () => {
    await freshRepository().pushBlob(randomBytes(100));
    await beginRound();
    const minutes = await Promise.all([scrubMinute(), scrubMinute(), scrubMinute()]);
    expect(minutes.filter((minute) => minute !== null)).toMatchObject([{ objects: 1 }]);
  });

  it("does not condemn what was deleted, or pushed anew, while it was read", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(100);
    const { digest: named } = await repository.pushBlob(bytes);
    const key = await keyOf(named);
    const between = interceptOperations(env, {
      before: async ({ binding, method }) => {
        if (binding !== "BLOBS" || method !== "get") return;
        await repository.deleteBlob(named);
        await runPass();
        await repository.pushBlob(bytes);
      },
    });
    expect((await scrubMinute(Date.now(), between))?.findings).toEqual([]);
    expect(await keyOf(named)).not.toBe(key);
    expect((await repository.headBlob(named)).status).toBe(200);
    expect(await findings()).toEqual([]);
  });

  it("rests until its next round, which costs one query", async () => {
    await freshRepository().pushBlob(randomBytes(10));
    const nowMs = Date.now();
    expect(await scrubMinute(nowMs)).toMatchObject({ objects: 1 });
    expect((await scrubState()).endedMs).not.toBeNull();
    expect(await scrubMinute(nowMs + SCRUB_ROUND_SECONDS * 1000 - 1000)).toBeNull();
    const counted = countOperations(env);
    await runSchedule(minuteOf(5), counted.env);
    // The collector's query, and one for all that is kept.
    expect(counted.counts).toEqual({ d1: 2, r2: 0, durableObjects: 0 });
    expect(await scrubMinute(nowMs + SCRUB_ROUND_SECONDS * 1000)).toMatchObject({ objects: 1 });
  });

  it("does in a minute what its comment says: 1 read of R2 an object, and 4 operations of D1 in all", async () => {
    const repository = freshRepository();
    for (let at = 0; at < 10; at++) await repository.pushBlob(randomBytes(10));
    const counted = countOperations(env);
    await scrubMinute(Date.now(), counted.env);
    // The claim, a page of blobs, one of manifests, the state.
    expect(counted.counts).toEqual({ d1: 4, r2: 10, durableObjects: 0 });
  });
});

function minuteOf(minute: number): ScheduledController {
  return createScheduledController({ scheduledTime: new Date(Date.UTC(2026, 0, 1, 5, minute)), cron: "* * * * *" });
}

describe("the cron trigger", () => {
  it("scrubs, and tells the log of each finding, once", async () => {
    const log = vi.spyOn(console, "error").mockReturnValue(undefined);
    const repository = freshRepository();
    const bytes = randomBytes(1000);
    const { digest: named } = await repository.pushBlob(bytes);
    await spoil(named, bytes);
    for (let minute = 1; minute < 5; minute++) await runSchedule(minuteOf(minute), env);
    expect(log).toHaveBeenCalledTimes(1);
    const line: unknown = JSON.parse(String(log.mock.calls[0]?.[0]));
    expect(line).toMatchObject({ level: "error", finding: { digest: named, problem: "digest" } });
  });

  it("scrubs though the collector fails", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(1000);
    const { digest: named } = await repository.pushBlob(bytes);
    await spoil(named, bytes);
    const settings = environmentWith({ GC_GRACE_SECONDS: "0" });
    const failing = interceptOperations(settings, {
      before: ({ binding, method }) => {
        if (binding === "BLOBS" && method === "list") throw new Error("the sweep fails");
      },
    });
    await expect(runSchedule(minuteOf(0), environmentWith({ BLOBS: failing.BLOBS }))).rejects.toThrow(
      "the sweep fails",
    );
    expect(await findings()).toMatchObject([{ digest: named }]);
  });
});

describe("a scrub that finds too much", () => {
  it("stops, says so once an hour, and goes on when somebody has looked", async () => {
    const log = vi.spyOn(console, "error").mockReturnValue(undefined);
    const repository = freshRepository();
    await repository.pushBlob(randomBytes(10));
    await env.DB.prepare(
      `WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)
       INSERT INTO blobs (digest, size, object_key, created_at)
       SELECT 'sha256:' || format('%064d', n), 1, 'blobs/none' || n, 0 FROM number`,
    )
      .bind(SCRUB_QUARANTINED_MAX + 20)
      .run();
    for (let minute = 1; minute < 4; minute++) await runSchedule(minuteOf(minute), env);
    const quarantined = "SELECT count(*) AS count FROM blobs WHERE quarantined_at IS NOT NULL";
    expect(await count(quarantined)).toBe(SCRUB_QUARANTINED_MAX);
    expect(await read(await send("GET", "integrity"), 200, integritySchema)).toMatchObject({
      quarantined: SCRUB_QUARANTINED_MAX,
      halted: true,
    });
    log.mockClear();
    await runSchedule(minuteOf(EXPORT_MINUTE), env);
    expect(log.mock.calls.map(([line]) => String(line))).toEqual([expect.stringContaining("the scrub has stopped")]);
    // Of one it turns out that it is there.
    const [{ id, objectKey } = { id: 0, objectKey: null }] = await findings();
    await env.BLOBS.put(objectKey ?? "", "1");
    expect((await send("POST", `integrity/findings/${String(id)}/release`)).status).toBe(200);
    await runSchedule(minuteOf(5), env);
    expect(await count(quarantined)).toBe(SCRUB_QUARANTINED_MAX);
    expect(await findings()).toContainEqual(expect.objectContaining({ id: id + 1, state: "quarantined" }));
  });
});

describe("a quarantined blob", () => {
  it("is healed by a push of the same digest, in every repository that has it; the bad object stays", async () => {
    const { repository, layer, named, key } = await quarantinedBlob();
    const other = freshRepository();
    await env.DB.prepare(`INSERT INTO repositories (name, created_at) VALUES (?1, 0)`).bind(other.name).run();
    await env.DB.prepare(
      `INSERT INTO repository_blobs (repository_id, blob_id, linked_at)
       SELECT repositories.id, blobs.id, 0 FROM repositories, blobs WHERE repositories.name = ?1 AND digest = ?2`,
    )
      .bind(other.name, named)
      .run();
    const third = freshRepository();
    await third.pushBlob(layer.bytes);
    for (const each of [repository, other, third]) await expectPulled(each, layer);
    expect(await keyOf(named)).not.toBe(key);
    expect(await findings()).toMatchObject([{ state: "healed", discardedAt: null }]);
    await runPass({
      sweep: true,
      nowMs: Date.now() + (UPLOAD_TTL_SECONDS + SWEEP_MARGIN_SECONDS + 10) * 1000,
      graceSeconds: 1e6,
    });
    expect(await listObjects()).toContain(key);
    const [minute] = await scrubRound();
    expect(minute?.findings).toEqual([]);
  });

  it.each(["in one PUT", "in chunks", "twice"])("is healed by a push %s", async (way) => {
    const { repository, layer, named } = await quarantinedBlob();
    const start = async (): Promise<string> => (await repository.startUpload()).headers.get("Location") ?? "";
    if (way === "in chunks") {
      const answer = await repository.appendChunk(await start(), layer.bytes);
      await repository.finishUpload(answer.headers.get("Location") ?? "", named);
    } else {
      await repository.finishUpload(await start(), named, layer.bytes);
      if (way === "twice") await repository.finishUpload(await start(), named, layer.bytes);
    }
    await expectPulled(repository, layer);
    const [minute] = await scrubRound();
    expect(minute?.findings).toEqual([]);
  });

  it("is kept, with its object, though no repository has it any more, until it is let go", async () => {
    const { repository, pushed, named, key, finding } = await quarantinedBlob();
    await repository.deleteManifest(pushed.descriptor.digest);
    expect((await repository.deleteBlob(named)).status).toBe(202);
    for (let pass = 0; pass < 3; pass++) await runPass();
    expect(await listObjects()).toContain(key);
    const path = `integrity/findings/${String(finding.id)}/object`;
    expect((await send("DELETE", path)).status).toBe(204);
    for (let pass = 0; pass < 3; pass++) await runPass();
    expect(await listObjects()).toEqual([]);
    expect(await count("SELECT count(*) AS count FROM blobs")).toBe(0);
    expect(await findings()).toMatchObject([{ state: "gone" }]);
    await refused(await send("DELETE", path), 409, "CONFLICT");
  });

  it("stays quarantined when its object is deleted, and is healed by a push then too", async () => {
    const { repository, layer, named, key, finding } = await quarantinedBlob();
    const path = `integrity/findings/${String(finding.id)}`;
    expect((await send("DELETE", `${path}/object`)).status).toBe(204);
    await runPass({ graceSeconds: 1e6 });
    expect(await listObjects()).not.toContain(key);
    expect((await repository.headBlob(named)).status).toBe(404);
    expect(await findings()).toMatchObject([{ state: "quarantined" }]);
    await refused(await send("POST", `${path}/release`), 409, "CONFLICT");
    await repository.pushBlob(layer.bytes);
    await expectPulled(repository, layer);
    expect(await findings()).toMatchObject([{ state: "healed" }]);
  });

  it("is served again as it is when it is released, and looked at by the collector again", async () => {
    const { repository, layer, named, key, finding } = await quarantinedBlob();
    // Somebody has mended it.
    await env.BLOBS.put(key, layer.bytes);
    const path = `integrity/findings/${String(finding.id)}/release`;
    const released = await read(await send("POST", path), 200, findingSchema);
    expect(released.state).toBe("released");
    await expectPulled(repository, layer);
    const [minute] = await scrubRound();
    expect(minute?.findings).toEqual([]);
    await refused(await send("POST", path), 409, "CONFLICT");
    const actions = await env.DB.prepare("SELECT action, principal FROM audit WHERE action = 'content.release'").all();
    expect(actions.results).toEqual([{ action: "content.release", principal: "admin" }]);
    // It is bad again: another finding.
    await spoil(named, layer.bytes);
    await scrubRound();
    expect((await findings()).map(({ state }) => state)).toEqual(["quarantined", "released"]);
  });
});

describe("a blob that was mended in its place, and is released", () => {
  it("is served with its new bytes to who had got the bad ones from a cache", async () => {
    const repository = freshRepository();
    // One that is larger than what is kept in memory goes to the data centre's cache as it comes.
    const layer = blob(randomBytes(EDGE_MEMORY_ITEM_MAX_BYTES + 1));
    const named = layer.descriptor.digest;
    await push(repository, image({ layers: [layer] }), "v1");
    const key = await spoil(named, layer.bytes);
    const puller = registryWith(environmentWith({ ANONYMOUS_PULL: "test/**" }), freshAddress()).as(null);
    const pulled = async (): Promise<Uint8Array> => bodyOf(await puller.repository(repository.name).getBlob(named));
    const bad = await pulled();
    expect(sameBytes(bad, layer.bytes)).toBe(false);
    const [minute] = await scrubRound();
    await env.BLOBS.put(key, layer.bytes);
    // It is in the cache yet.
    expect(sameBytes(await pulled(), bad)).toBe(true);
    const path = `integrity/findings/${String(minute?.findings[0]?.id)}/release`;
    await read(await send("POST", path), 200, findingSchema);
    expect(sameBytes(await pulled(), layer.bytes)).toBe(true);
  });
});

describe("the management API", () => {
  it("tells how far the scrub is, and how much is quarantined", async () => {
    expect(await read(await send("GET", "integrity"), 200, integritySchema)).toEqual({
      quarantined: 0,
      halted: false,
      scrub: null,
      lastExport: null,
    });
    const { repository, layer } = await quarantinedBlob();
    const told = await read(await send("GET", "integrity"), 200, integritySchema);
    expect(told).toMatchObject({ quarantined: 1, scrub: { reading: "manifest", objects: 3 } });
    await repository.pushBlob(layer.bytes);
    expect(await read(await send("GET", "integrity"), 200, integritySchema)).toMatchObject({ quarantined: 0 });
  });

  it("lists findings in pages, and knows which there is not", async () => {
    const repository = freshRepository();
    const names: string[] = [];
    for (let at = 0; at < 5; at++) {
      const { digest: named } = await repository.pushBlob(randomBytes(10));
      await env.BLOBS.delete(await keyOf(named));
      names.unshift(named);
    }
    await scrubRound();
    const found: string[] = [];
    for (let next: string | null = "integrity/findings?n=2"; next !== null;) {
      const response = await send("GET", next);
      next = nextOf(response);
      found.push(...(await read(response, 200, findingsSchema)).findings.map(({ digest: named }) => named));
    }
    expect(found).toEqual(names);
    await refused(await send("POST", "integrity/findings/99999/release"), 404, "NOT_FOUND");
    await refused(await send("DELETE", "integrity/findings/99999/object"), 404, "NOT_FOUND");
    await refused(await send("DELETE", "integrity/findings/none/object"), 400, "INVALID_REQUEST");
  });
});

describe("content in several repositories", () => {
  it("is reported to each, by an event", async () => {
    const [one, other] = [freshRepository(), freshRepository()];
    const bytes = randomBytes(50);
    const { digest: named } = await one.pushBlob(bytes);
    await other.mountBlob(named, one.name);
    await spoil(named, bytes);
    await scrubRound();
    const { results } = await env.DB.prepare(
      "SELECT repository FROM events WHERE kind = 'blob.quarantined' ORDER BY id",
    ).all<{
      repository: string;
    }>();
    expect(results.map((row) => row.repository).toSorted()).toEqual([one.name, other.name].toSorted());
  });

  it("that is an artifact's own is found by its manifest's media type like any other", async () => {
    const repository = freshRepository();
    const config = blob(randomBytes(40));
    const pushed: Artifact = artifact(imageManifest, { config: config.descriptor, layers: [] }, [config]);
    await push(repository, pushed);
    await spoil(config.descriptor.digest, config.bytes);
    await scrubRound();
    expect((await findings()).map(({ kind }) => kind)).toEqual(["blob"]);
  });
});
