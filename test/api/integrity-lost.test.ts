import { createScheduledController } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { newExportName } from "../../src/blobs/keys.ts";
import { copiesSchema, type Copy, copySchema, type Rebuilt, rebuiltSchema } from "../../src/integrity/copy.ts";
import { exportStep, exportValue, parseExportState } from "../../src/integrity/export.ts";
import { findingsSchema } from "../../src/integrity/finding.ts";
import { birthOf, selectBirth } from "../../src/integrity/predecessor.ts";
import { runSchedule } from "../../src/lifecycle/schedule.ts";
import { EXPORT_INTERVAL_SECONDS, EXPORT_MINUTE, EXPORTS_KEPT, REBUILD_MISSING_MAX } from "../../src/limits.ts";
import { type Artifact, blob, image, push } from "../fixtures/artifacts.ts";
import { bodyOf, randomBytes, sameBytes } from "../fixtures/content.ts";
import { jobsRule, keptValue, keyOf, keyOfManifest, loseDatabase, makeExport, rebuild } from "../fixtures/integrity.ts";
import { interceptOperations } from "../fixtures/intercepted-env.ts";
import { createToken, createUser, pulls, read, refused, send } from "../fixtures/management.ts";
import { freshRepository, registryWith } from "../fixtures/registry.ts";
import { emptyRegistry, listObjects, runPass } from "../fixtures/storage.ts";
import type { RepositoryClient } from "../support/client.ts";
import { countOperations } from "../support/counted-env.ts";

/** A database that is lost while the registry goes on: its copies in R2 are all that is left of it. */

beforeEach(emptyRegistry);
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const intervalMs = EXPORT_INTERVAL_SECONDS * 1000;

/** The Worker's time, at which the cron trigger runs at a minute of an hour. @returns the lines of the log that are errors */
async function runCron(timeMs: number, minute = EXPORT_MINUTE): Promise<readonly string[]> {
  vi.useFakeTimers({ toFake: ["Date"], now: timeMs });
  const log = vi.spyOn(console, "error").mockReturnValue(undefined);
  const scheduledTime = new Date(Date.UTC(2026, 0, 1, 5, minute));
  await runSchedule(createScheduledController({ scheduledTime, cron: "* * * * *" }), env);
  const lines = log.mock.calls.map((values) => JSON.stringify(values));
  log.mockRestore();
  return lines;
}

async function copies(): Promise<z.infer<typeof copiesSchema>> {
  return read(await send("GET", "index/exports"), 200, copiesSchema);
}

async function namesOfCopies(): Promise<readonly string[]> {
  return (await copies()).exports.map(({ name }) => name);
}

async function partsOf(name: string): Promise<readonly string[]> {
  return (await listObjects()).filter((key) => key.startsWith(`exports/parts/${name}/`));
}

async function expectPulled(repository: RepositoryClient, reference: string, artifact: Artifact): Promise<void> {
  const pulled = await repository.getManifest(reference);
  expect(pulled.status).toBe(200);
  expect(sameBytes(await bodyOf(pulled), artifact.bytes)).toBe(true);
  for (const { descriptor, bytes } of artifact.blobs) {
    expect(sameBytes(await bodyOf(await repository.getBlob(descriptor.digest)), bytes)).toBe(true);
  }
}

/** A copy with one image in it, and a new database beside it. */
async function loseIndex() {
  const repository = freshRepository();
  const pushed = await push(repository, image(), "v1");
  const good = await makeExport();
  const lostMs = Date.now() + 1000;
  await loseDatabase(lostMs);
  return { repository, pushed, good, lostMs };
}

/** As an earlier version did, which looked at nothing: copies of the database as it is. */
async function exportAnyhow(number: number, fromMs: number): Promise<readonly string[]> {
  const names: string[] = [];
  for (let at = 0; at < number; at++) {
    const nowMs = fromMs + at * intervalMs;
    const step = async () => {
      const [born] = await env.DB.batch([selectBirth(env.DB)]);
      return exportStep(env, await keptValue(exportValue), birthOf(born), true, nowMs);
    };
    let state = await step();
    while (state !== null && (state.endedMs === null || state.pruning)) state = await step();
    names.push(state?.name ?? "");
  }
  return names;
}

describe("a new database beside older copies", () => {
  it("is not exported over them by the cron trigger, which says what to do, from its first hour on", async () => {
    const { good, lostMs, repository, pushed } = await loseIndex();
    const before = await listObjects();
    for (const afterMs of [3_600_000, intervalMs + 1000, 9 * intervalMs]) {
      expect(await runCron(lostMs + afterMs)).toEqual([
        expect.stringMatching(/older than this database.*moorage rebuild.*moorage export create --force/),
      ]);
      for (const minute of [EXPORT_MINUTE + 1, EXPORT_MINUTE + 2]) {
        expect(await runCron(lostMs + afterMs + 60_000, minute)).toEqual([]);
      }
    }
    expect(await listObjects()).toEqual(before);
    expect(await copies()).toMatchObject({ exports: [{ name: good.name, rows: good.rows }], halted: true });

    // It is put back, and from then on all is as it was.
    expect(await rebuild()).toMatchObject({ export: good.name });
    await expectPulled(repository, "v1", pushed);
    expect((await copies()).halted).toBe(false);
    expect(await runCron(lostMs + 10 * intervalMs)).toEqual([]);
    expect(await namesOfCopies()).toHaveLength(2);
    for (let day = 11; day < 11 + EXPORTS_KEPT; day++) {
      for (const minute of [0, 1, 2]) await runCron(lostMs + day * intervalMs, EXPORT_MINUTE + minute);
    }
    expect(await namesOfCopies()).toHaveLength(EXPORTS_KEPT);
    expect(await partsOf(good.name)).toEqual([]);
  });

  it("is not exported by hand, unless it is forced: then it begins anew, and the schedule goes on", async () => {
    const { good, lostMs } = await loseIndex();
    vi.useFakeTimers({ toFake: ["Date"], now: lostMs + 1000 });
    const reason = await refused(await send("POST", "index/exports", {}), 409, "CONFLICT");
    expect(reason).toMatch(/older than this database.*moorage rebuild.*moorage export create --force/);
    expect(await namesOfCopies()).toEqual([good.name]);

    const made = await makeExport({ force: true });
    expect(await namesOfCopies()).toEqual([made.name, good.name]);
    expect((await copies()).halted).toBe(false);
    const actions = await env.DB.prepare("SELECT principal FROM audit WHERE action = 'index.abandon'").all();
    expect(actions.results).toEqual([{ principal: "admin" }]);
    for (let day = 1; day <= EXPORTS_KEPT; day++) {
      for (const minute of [0, 1, 2]) {
        expect(await runCron(lostMs + 2000 + day * intervalMs, EXPORT_MINUTE + minute)).toEqual([]);
      }
    }
    const names = await namesOfCopies();
    expect(names).toHaveLength(EXPORTS_KEPT);
    expect(names).not.toContain(good.name);
    expect(await partsOf(good.name)).toEqual([]);
  });

  it("has them kept whatever else is pruned, and a rebuild takes the newest of them that has rows", async () => {
    const repository = freshRepository();
    const [empty] = await exportAnyhow(1, Date.now());
    const pushed = await push(repository, image(), "v1");
    const good = await makeExport();
    await loseDatabase(Date.now() + 1000);
    const [later] = await exportAnyhow(1, Date.now() + 2000);
    // Once more: what was copied between the two has no rows.
    const lostMs = Date.now() + 3000;
    await loseDatabase(lostMs);
    await push(freshRepository(), image());
    const own = await exportAnyhow(EXPORTS_KEPT + 2, lostMs + 1000);
    const kept = own.slice(-EXPORTS_KEPT);
    expect(await namesOfCopies()).toEqual([...kept.toReversed(), later, good.name, empty]);
    expect(await partsOf(good.name)).toHaveLength(good.parts);
    for (const name of own.slice(0, 2)) expect(await partsOf(name)).toEqual([]);
    const { exports } = await copies();
    expect(exports.find(({ name }) => name === later)).toMatchObject({ rows: 0 });
    // One whose list is damaged has no rows that anybody could tell, and is passed over; what is no copy is not listed.
    const damaged = newExportName(Date.parse(good.beganAt) + 1);
    await env.BLOBS.put(`exports/complete/${damaged}`, "{");
    await env.BLOBS.put("exports/complete/READ ME", "");
    expect((await copies()).exports.find(({ name }) => name === damaged)).toMatchObject({ rows: null });
    expect(await namesOfCopies()).toHaveLength(exports.length + 1);

    expect(await refused(await send("POST", "index/rebuild", {}), 409, "CONFLICT")).toMatch(/force/);
    expect(await rebuild({ force: true })).toMatchObject({ export: good.name });
    await expectPulled(repository, "v1", pushed);
  });

  it("is told that there is nothing to be put back where none of them has rows", async () => {
    await exportAnyhow(1, Date.now());
    await loseDatabase(Date.now() + 1000);
    expect(await refused(await send("POST", "index/rebuild", {}), 404, "NOT_FOUND")).toMatch(/whole and has rows/);
  });

  it("goes on with a copy that an earlier version left in another order, by beginning it anew", async () => {
    const state = { name: "0mh000000", beganMs: 1, endedMs: null, pruning: true, noun: 2, cursor: [9, ""], parts: 2 };
    expect(parseExportState(JSON.stringify({ ...state, rows: 2, leaseMs: 0 }))).toBeNull();
    expect(parseExportState(JSON.stringify({ ...state, noun: "blobs", rows: 2, leaseMs: 0 }))).not.toBeNull();
  });

  it("can be put back though the smoke test of a deployment was there before", async () => {
    const { repository, pushed } = await loseIndex();
    const trial = freshRepository();
    const tried = await push(trial, image(), "v1");
    await trial.deleteManifest(tried.descriptor.digest);
    for (const { descriptor } of tried.blobs) await trial.deleteBlob(descriptor.digest);
    await rebuild();
    await expectPulled(repository, "v1", pushed);
  });
});

/** A step of a rebuild by the registry with other bindings. */
async function rebuildStepWith(environment: Env): Promise<Rebuilt> {
  const options = { headers: { "Content-Type": "application/json" }, body: "{}" };
  return read(await registryWith(environment).request("POST", "/api/v1/index/rebuild", options), 200, rebuiltSchema);
}

describe("a rebuild while clients push", () => {
  it("quarantines nothing that came between R2's list and the rows", async () => {
    const { repository } = await loseIndex();
    const layer = blob(randomBytes(1000));
    const pushed = image({ layers: [layer], fields: { annotations: { filling: "y".repeat(70_000) } } });
    let lists = 0;
    const between = interceptOperations(env, {
      after: async ({ binding, method, values }) => {
        const { prefix } = z.object({ prefix: z.string() }).safeParse(values[0]).data ?? { prefix: "" };
        if (binding !== "BLOBS" || method !== "list" || !["blobs/", "manifests/"].includes(prefix)) return;
        lists += 1;
        // At the last key of each prefix; the second time the manifest alone has a new object.
        if (lists === 1) await push(repository, pushed, "new");
        if (lists === 2)
          await push(repository, image({ fields: { annotations: { filling: "z".repeat(70_000) } } }), "z");
      },
    });
    for (let ended = false; !ended;) {
      const done = await rebuildStepWith(between);
      expect(done.missing).toBe(0);
      ({ ended } = done);
    }
    expect(lists).toBe(2);
    await expectPulled(repository, "new", pushed);
    expect((await repository.getManifest("z")).status).toBe(200);
    expect((await read(await send("GET", "integrity/findings"), 200, findingsSchema)).findings).toEqual([]);
  });

  it("looks at no more objects in a step than its comment says, and finds all that are missing in the end", async () => {
    const repository = freshRepository();
    const number = REBUILD_MISSING_MAX + 5;
    const digests: string[] = [];
    for (let at = 0; at < number; at++) digests.push((await repository.pushBlob(randomBytes(10))).digest);
    await makeExport();
    await env.BLOBS.delete(await Promise.all(digests.map(keyOf)));
    await loseDatabase(Date.now() + 1000);
    const counted = countOperations(env);
    const steps: number[] = [];
    for (let ended = false; !ended;) {
      counted.reset();
      const done = await rebuildStepWith(counted.env);
      steps.push(counted.counts.r2);
      ({ ended } = done);
      if (ended) expect(done.missing).toBe(number);
    }
    // The list of the copy and R2's each; the second page of blobs is the first one again.
    expect(steps.slice(1)).toEqual([2 + REBUILD_MISSING_MAX, 2 + 5, 2]);
  });
});

async function exportWith(environment: Env): Promise<Copy> {
  const step = async (request: object): Promise<Copy> => {
    const options = { headers: { "Content-Type": "application/json" }, body: JSON.stringify(request) };
    return read(await registryWith(environment).request("POST", "/api/v1/index/exports", options), 200, copySchema);
  };
  let made = await step({});
  while (!made.ended) made = await step({ name: made.name });
  return made;
}

describe("a copy that is made while tags move", () => {
  it("loses none that was there throughout, though its manifest is deleted each time", async () => {
    const repository = freshRepository();
    const had = new Map<string, Artifact>();
    let last = await push(repository, image(), "latest");
    had.set(last.descriptor.digest, last);
    const moving = interceptOperations(env, {
      before: async () => {
        const next = await push(repository, image(), "latest");
        had.set(next.descriptor.digest, next);
        await repository.deleteManifest(last.descriptor.digest);
        last = next;
      },
    });
    await exportWith(moving);
    expect(had.size).toBeGreaterThan(20);
    await loseDatabase(Date.now() + 1000);
    await rebuild();
    const head = await repository.headManifest("latest");
    expect(head.status).toBe(200);
    const found = had.get(head.headers.get("Docker-Content-Digest") ?? "");
    if (found === undefined) throw new Error("the tag has a manifest that it never had");
    await expectPulled(repository, "latest", found);
  });

  it("gives none the manifest back that it had before it was deleted", async () => {
    const repository = freshRepository();
    const kept = await push(repository, image(), "again", "stays");
    let reads = 0;
    const moving = interceptOperations(env, {
      after: async ({ binding, method }) => {
        if (binding !== "DB" || method !== "all" || ++reads !== 1) return;
        // The manifests were read.
        await repository.deleteManifest("again");
        await push(repository, image(), "again");
      },
    });
    await exportWith(moving);
    expect(reads).toBeGreaterThan(1);
    await loseDatabase(Date.now() + 1000);
    await rebuild();
    expect((await repository.headManifest("again")).status).toBe(404);
    await expectPulled(repository, "stays", kept);
  });
});

it("a copy that is made while a large manifest is deleted, and pushed again, puts back the one that R2 has", async () => {
  const repository = freshRepository();
  const large = await push(repository, image({ fields: { annotations: { filling: "x".repeat(100_000) } } }), "large");
  // Enough for a second page, on which it is then too.
  for (let filling = 0; filling < 20; filling++) {
    await push(repository, image({ fields: { annotations: { filling: "x".repeat(60_000) } } }));
  }
  let reads = 0;
  const busy = interceptOperations(env, {
    after: async ({ binding, method }) => {
      if (binding !== "DB" || method !== "all" || ++reads !== 1) return;
      const oldKey = await keyOfManifest(large.descriptor.digest);
      await repository.deleteManifest(large.descriptor.digest);
      await runPass();
      expect(await env.BLOBS.head(oldKey)).toBeNull();
      await push(repository, large, "large");
    },
  });
  await exportWith(busy);
  await loseDatabase(Date.now() + 1000);
  expect(await rebuild()).toMatchObject({ missing: 0, unnamed: { objects: 0 } });
  await expectPulled(repository, "large", large);
});

/** In an isolate's next minute, when it asks the database again. */
function passMinute(): void {
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 61_000 });
}

describe("users and access tokens after a rebuild", () => {
  it("stay as they are in a live index: what was deleted or revoked since the copy is not good again", async () => {
    const [deleted, revoked] = [await createUser({ grants: ["**:pull"] }), await createUser({ grants: ["**:pull"] })];
    const [one, two] = [await createToken(deleted.name), await createToken(revoked.name)];
    expect((await send("POST", "trust-rules", jobsRule)).status).toBe(201);
    await makeExport();
    expect((await send("DELETE", `users/${deleted.name}`)).status).toBe(204);
    expect((await send("DELETE", `users/${revoked.name}/tokens/${two.id}`)).status).toBe(204);
    expect((await send("DELETE", "trust-rules/jobs")).status).toBe(204);
    expect(await rebuild({ force: true })).toMatchObject({ usersLeft: true });
    passMinute();
    expect(await pulls(one.authorization, "a/b")).toBe(401);
    expect(await pulls(two.authorization, "a/b")).toBe(401);
    expect((await send("GET", `users/${deleted.name}`)).status).toBe(404);
    expect((await send("GET", "trust-rules/jobs")).status).toBe(404);

    // After the loss of that database, whose copy this is still, they are those of the copy's time.
    await loseDatabase(Date.now() + 1000);
    expect(await rebuild()).toMatchObject({ usersLeft: false });
    passMinute();
    expect(await pulls(one.authorization, "a/b")).toBe(404);
    expect(await pulls(two.authorization, "a/b")).toBe(404);
  });

  it("stay away by force from an index whose only user was deleted: it may seem empty", async () => {
    const { name } = await createUser({ grants: ["**:pull"] });
    const token = await createToken(name);
    await makeExport();
    expect((await send("DELETE", `users/${name}`)).status).toBe(204);
    expect(await rebuild({ force: true })).toMatchObject({ usersLeft: true });
    passMinute();
    expect(await pulls(token.authorization, "a/b")).toBe(401);
  });

  it("come back by force into a new index that was pushed to before, and once only", async () => {
    const user = await createUser({ grants: ["**:pull"] });
    const token = await createToken(user.name);
    await makeExport();
    await loseDatabase(Date.now() + 1000);
    await push(freshRepository(), image());
    // Without them first, where TOKEN_KEY is another, say.
    expect(await rebuild({ force: true, withoutUsers: true })).toMatchObject({ usersLeft: true });
    expect((await send("GET", `users/${user.name}`)).status).toBe(404);
    expect(await rebuild({ force: true })).toMatchObject({ usersLeft: false });
    passMinute();
    expect(await pulls(token.authorization, "a/b")).toBe(404);
    await send("DELETE", `users/${user.name}`);
    expect(await rebuild({ force: true })).toMatchObject({ usersLeft: true });
    expect((await send("GET", `users/${user.name}`)).status).toBe(404);
  });
});
