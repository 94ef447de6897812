import { createScheduledController } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { copiesSchema, type Copy, copySchema, rebuiltSchema } from "../../src/integrity/copy.ts";
import { exportListSchema, exportValue } from "../../src/integrity/export.ts";
import { findingsSchema } from "../../src/integrity/finding.ts";
import { nouns } from "../../src/integrity/nouns.ts";
import { runSchedule } from "../../src/lifecycle/schedule.ts";
import { EXPORT_INTERVAL_SECONDS, EXPORT_MINUTE, EXPORT_PARTS_PER_STEP, EXPORTS_KEPT } from "../../src/limits.ts";
import { type Artifact, artifact, blob, emptyBlob, image, index, push, referrer } from "../fixtures/artifacts.ts";
import { bodyOf, randomBytes, sameBytes } from "../fixtures/content.ts";
import { jobsRule, keptValue, keyOf, keyOfManifest, loseDatabase, makeExport, rebuild } from "../fixtures/integrity.ts";
import { interceptOperations } from "../fixtures/intercepted-env.ts";
import { createToken, createUser, read, refused, send } from "../fixtures/management.ts";
import { freshAddress } from "../fixtures/principals.ts";
import { environmentWith, freshRepository, registryWith } from "../fixtures/registry.ts";
import { count, emptyRegistry, listObjects, runPass } from "../fixtures/storage.ts";
import { imageManifest, type RepositoryClient } from "../support/client.ts";
import { countOperations, type OperationCounts } from "../support/counted-env.ts";
import { asAdmin } from "../support/credentials.ts";

beforeEach(emptyRegistry);
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

async function expectPulled(repository: RepositoryClient, { bytes, blobs, descriptor }: Artifact): Promise<void> {
  const pulled = await repository.getManifest(descriptor.digest);
  expect(pulled.status).toBe(200);
  expect(pulled.headers.get("Content-Type")).toBe(descriptor.mediaType);
  expect(sameBytes(await bodyOf(pulled), bytes)).toBe(true);
  for (const each of blobs) {
    const response = await repository.getBlob(each.descriptor.digest);
    expect(response.status).toBe(200);
    expect(sameBytes(await bodyOf(response), each.bytes)).toBe(true);
  }
}

/** All rows of the tables that a copy has, but for what a new database has of its own. */
async function contentOf(): Promise<unknown> {
  const queries = [
    "SELECT name, created_at FROM repositories ORDER BY name",
    "SELECT digest, size, object_key, created_at, quarantined_at FROM blobs ORDER BY digest",
    `SELECT name, digest, linked_at FROM repository_blobs JOIN blobs ON blobs.id = blob_id
       JOIN repositories ON repositories.id = repository_id ORDER BY name, digest`,
    `SELECT name, digest, media_type, size, subject, artifact_type, put_request, manifests.created_at, object_key, descriptor,
       body FROM manifests JOIN repositories ON repositories.id = repository_id ORDER BY manifests.id`,
    `SELECT name, manifests.digest AS manifest, edge.digest, kind FROM manifest_references AS edge
       JOIN manifests ON manifests.id = manifest_id JOIN repositories ON repositories.id = edge.repository_id
       ORDER BY name, manifest, edge.digest`,
    `SELECT repositories.name AS repository, tags.name, digest, updated_at FROM tags
       JOIN repositories ON repositories.id = tags.repository_id JOIN manifests ON manifests.id = manifest_id
       ORDER BY repository, tags.name`,
    `SELECT repositories.name AS repository, tag_history.name, digest, actor, tag_history.created_at FROM tag_history
       JOIN repositories ON repositories.id = repository_id ORDER BY tag_history.id`,
    "SELECT name, email, password, grants, disabled_at, created_at FROM users ORDER BY name",
    `SELECT access_tokens.id, users.name AS user, access_tokens.name, hash, access_tokens.grants,
       access_tokens.created_at, expires_at, last_used_at, revoked_at FROM access_tokens
       JOIN users ON users.id = user_id ORDER BY access_tokens.id`,
    "SELECT name, issuer, audience, conditions, grants, created_at FROM trust_rules ORDER BY name",
    "SELECT kind, digest, problem, found, object_key, repository, put_request, found_at FROM integrity_findings ORDER BY id",
    "SELECT object_key, created_at FROM garbage WHERE deleted_at IS NULL ORDER BY object_key",
  ];
  const results = await env.DB.batch(queries.map((sql) => env.DB.prepare(sql)));
  return results.map((result) => result.results);
}

/** A bit of everything. */
async function fillRegistry() {
  const [one, other] = [freshRepository(), freshRepository()];
  const layer = blob(randomBytes(3000));
  const small = await push(one, image({ layers: [layer] }), "v1", "latest");
  const large = await push(one, image({ fields: { annotations: { filling: 'ü"\\\u0001'.repeat(20_000) } } }), "large");
  const sha512 = await push(other, image({ algorithm: "sha512", layers: [] }), "v1");
  const list = await push(one, index([small.descriptor, large.descriptor]), "list");
  await push(one, image(), "latest");
  const notes = [];
  for (let at = 0; at < 3; at++) notes.push(await push(one, referrer(small.descriptor), ...(at === 0 ? ["note"] : [])));
  await other.mountBlob(layer.descriptor.digest, one.name);
  await push(other, artifact(imageManifest, { config: layer.descriptor, layers: [] }, [layer]), "mounted");
  await one.deleteManifest("note");
  return { one, other, layer, small, large, sha512, list, notes };
}

describe("an export and a rebuild", () => {
  it("bring back every row, and what they name, after the database is lost", async () => {
    const filled = await fillRegistry();
    const user = await createUser({
      grants: ["**:pull"],
      email: "somebody@example.com",
      password: "a long passphrase",
    });
    const token = await createToken(user.name);
    expect((await send("POST", "trust-rules", jobsRule)).status).toBe(201);
    const before = await contentOf();
    const made = await makeExport();
    await loseDatabase();
    expect((await filled.one.headManifest("v1")).status).toBe(404);

    const rebuilt = await rebuild();
    expect(rebuilt).toMatchObject({ export: made.name, rows: made.rows, missing: 0, unnamed: { objects: 0 } });
    expect(await contentOf()).toEqual(before);
    for (const pushed of [filled.small, filled.large, filled.list, ...filled.notes])
      await expectPulled(filled.one, pushed);
    await expectPulled(filled.other, filled.sha512);
    expect(await (await filled.one.listTags()).json()).toMatchObject({ tags: ["large", "latest", "list", "v1"] });
    const referrers = z
      .object({ manifests: z.array(z.object({ digest: z.string() })) })
      .parse(await (await filled.one.listReferrers(filled.small.descriptor.digest)).json());
    expect(referrers.manifests.map((each) => each.digest)).toEqual(
      filled.notes.map(({ descriptor }) => descriptor.digest),
    );
    // The user's token, in an isolate that has never seen it.
    const as = registryWith(environmentWith({}), freshAddress()).as(token.authorization);
    expect((await as.repository(filled.one.name).getManifest("v1")).status).toBe(200);
    const actions = await env.DB.prepare(
      "SELECT action, principal, reference FROM audit WHERE action = 'index.rebuild'",
    ).all();
    expect(actions.results).toEqual([{ action: "index.rebuild", principal: "admin", reference: made.name }]);
  });

  it("leave the collector nothing to take that is named, and all that is not", async () => {
    const { one, other, small, large, list, sha512 } = await fillRegistry();
    const unnamed = await one.pushBlob(randomBytes(77));
    await makeExport();
    await loseDatabase();
    await rebuild();
    for (let pass = 0; pass < 3; pass++) await runPass({ sweep: true });
    for (const pushed of [small, large, list]) await expectPulled(one, pushed);
    await expectPulled(other, sha512);
    expect((await one.headBlob(unnamed.digest)).status).toBe(404);
  });

  it("are whole at every break: each step of the rebuild may be the last before another begins", async () => {
    const { one, small, large, list } = await fillRegistry();
    const before = await contentOf();
    await makeExport();
    await loseDatabase();
    let operations = 0;
    let breaksAt = 1;
    const breaking = interceptOperations(env, {
      after: () => {
        operations += 1;
        if (operations === breaksAt) throw new Error("cut off");
      },
    });
    vi.spyOn(console, "error").mockReturnValue(undefined);
    for (let ended = false; !ended; breaksAt++) {
      operations = 0;
      const response = await registryWith(breaking).request("POST", "/api/v1/index/rebuild", {
        headers: { "Content-Type": "application/json" },
        body: "{}",
      });
      // What was written before the break stands, and is gone on with. Once it is whole, it is refused as content.
      ended = response.status === 409 || (response.ok && rebuiltSchema.parse(await response.json()).ended);
      if (breaksAt > 200) throw new Error("the rebuild finds no end");
    }
    expect(await contentOf()).toEqual(before);
    for (const pushed of [small, large, list]) await expectPulled(one, pushed);
  });

  it("take what was pushed and deleted while the copy was made for what it is", async () => {
    const { one, small, list } = await fillRegistry();
    const during: Artifact[] = [];
    const busy = interceptOperations(env, {
      before: async ({ binding, method }) => {
        const isRead = binding === "DB" && method === "all";
        if (!isRead && !(binding === "BLOBS" && method === "put")) return;
        const [first] = during;
        if (first !== undefined && during.length === 4) await one.deleteManifest(first.descriptor.digest);
        during.push(await push(one, image(), `during-${String(during.length)}`));
      },
    });
    let ended = false;
    let name: string | undefined;
    while (!ended) {
      const response = await registryWith(busy).request("POST", "/api/v1/index/exports", {
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ name }),
      });
      ({ ended, name } = copySchema.parse(await response.json()));
    }
    await loseDatabase();
    await rebuild();
    for (let pass = 0; pass < 3; pass++) await runPass();
    // Whatever came back is whole: each manifest has its edges, and each edge that it needs its blob.
    for (const pushed of [small, list]) await expectPulled(one, pushed);
    let back = 0;
    for (const pushed of during) {
      if ((await one.headManifest(pushed.descriptor.digest)).status !== 200) continue;
      await expectPulled(one, pushed);
      back += 1;
    }
    expect(back).toBeGreaterThan(0);
    expect(
      await count(
        "SELECT count(*) AS count FROM tags LEFT JOIN manifests ON manifests.id = manifest_id WHERE manifests.id IS NULL",
      ),
    ).toBe(0);
  });

  it("find what R2 has lost since, and what it has more", async () => {
    const { one, layer, large } = await fillRegistry();
    const unnamed = await one.pushBlob(randomBytes(88));
    await makeExport();
    await env.BLOBS.delete([await keyOf(layer.descriptor.digest), await keyOf(unnamed.digest)]);
    await env.BLOBS.delete(await keyOfManifest(large.descriptor.digest));
    const late = await one.pushBlob(randomBytes(99));
    const lateKey = await keyOf(late.digest);
    await loseDatabase();
    expect(await rebuild()).toMatchObject({ missing: 3, unnamed: { objects: 1, bytes: 99 } });
    const { findings } = await read(await send("GET", "integrity/findings"), 200, findingsSchema);
    expect(findings.map(({ kind, digest: named, problem }) => [kind, named, problem])).toEqual([
      ["manifest", large.descriptor.digest, "missing"],
      ["blob", layer.descriptor.digest, "missing"],
    ]);
    // Told that it is not there, a client pushes it again.
    for (const named of [layer.descriptor.digest, unnamed.digest, late.digest]) {
      expect((await one.headBlob(named)).status).toBe(404);
    }
    await one.pushBlob(layer.bytes);
    expect((await one.headBlob(layer.descriptor.digest)).status).toBe(200);
    await push(one, large, "large");
    await expectPulled(one, large);
    for (let pass = 0; pass < 3; pass++) await runPass({ sweep: true });
    // What the new database did not make is not its collector's to judge.
    expect(await listObjects()).toContain(lateKey);
  });

  it("keep what is quarantined quarantined", async () => {
    const repository = freshRepository();
    const layer = blob(randomBytes(100));
    await push(repository, image({ layers: [layer] }), "v1");
    const bad = await push(repository, image(), "bad");
    await env.BLOBS.put(await keyOf(layer.descriptor.digest), randomBytes(100));
    await env.DB.prepare("UPDATE manifests SET body = body || ' ' WHERE digest = ?1").bind(bad.descriptor.digest).run();
    await send("POST", "integrity/verify", { repository: repository.name });
    await makeExport();
    await loseDatabase();
    await rebuild();
    expect((await repository.headBlob(layer.descriptor.digest)).status).toBe(404);
    expect((await repository.headManifest("bad")).status).toBe(404);
    expect((await repository.headManifest("v1")).status).toBe(200);
    await repository.pushBlob(layer.bytes);
    await push(repository, bad, "bad");
    expect((await repository.headBlob(layer.descriptor.digest)).status).toBe(200);
    expect((await repository.headManifest("bad")).status).toBe(200);
  });
});

describe("a rebuild", () => {
  it("is refused where there is content, unless it is forced: then what is there stays", async () => {
    const repository = freshRepository();
    const old = await push(repository, image(), "v1", "old");
    await makeExport();
    await repository.deleteManifest(old.descriptor.digest);
    const newer = await push(repository, image(), "v1");
    expect(await refused(await send("POST", "index/rebuild", {}), 409, "CONFLICT")).toMatch(/force/);
    await rebuild({ force: true });
    const head = await repository.headManifest("v1");
    expect(head.headers.get("Docker-Content-Digest")).toBe(newer.descriptor.digest);
    await expectPulled(repository, old);
    expect((await repository.headManifest("old")).status).toBe(200);
  });

  it("does in its steps what their comments say, as the export does", async () => {
    await push(freshRepository(), image(), "v1");
    const counted = countOperations(env);
    const stepOf = async (path: string): Promise<OperationCounts> => {
      counted.reset();
      const options = { headers: { "Content-Type": "application/json" }, body: "{}" };
      expect((await registryWith(counted.env).request("POST", `/api/v1/index/${path}`, options)).status).toBe(200);
      return { ...counted.counts };
    };
    const parts = 6;
    // Where it stands, and twice noted; 11 nouns, of which 6 have rows, and the list. A list of R2 to see whether a copy is
    // older than the database, two to see what is old.
    const exporting = { d1: 1 + 2 + 2 * nouns.length + 2, r2: 1 + parts + 1 + 2, durableObjects: 0 };
    expect(await stepOf("exports")).toEqual(exporting);
    await loseDatabase();
    expect(await stepOf("rebuild")).toEqual({ d1: 2 + 2 + parts, r2: 2 + parts, durableObjects: 0 });
    const page = { d1: 2 + 1, r2: 1 + 1, durableObjects: 0 };
    const named = await env.DB.prepare("SELECT object_key AS key FROM blobs").first<string>("key");
    await env.BLOBS.delete(named ?? "");
    // What is not in the list is looked at once more, and then noted.
    expect(await stepOf("rebuild")).toEqual({ ...page, d1: page.d1 + 2, r2: page.r2 + 1 });
    expect(await stepOf("rebuild")).toEqual(page);
  });

  it("is told where there is no export, or none of the name", async () => {
    await refused(await send("POST", "index/rebuild", {}), 404, "NOT_FOUND");
    await refused(await send("POST", "index/rebuild", { export: "0mh000000" }), 404, "NOT_FOUND");
  });

  it("can't read users that another TOKEN_KEY has sealed, and leaves them out where it is told to", async () => {
    const repository = freshRepository();
    const pushed = await push(repository, image(), "v1");
    await createUser();
    await makeExport();
    await loseDatabase();
    const other = environmentWith({ TOKEN_KEY: btoa("another key that hashes tokens  ") });
    const ask = async (request: object): Promise<Response> =>
      registryWith(other).request("POST", "/api/v1/index/rebuild", {
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(request),
      });
    expect(await refused(await ask({}), 409, "CONFLICT")).toMatch(/TOKEN_KEY.*withoutUsers/);
    // The same rebuild goes on without them, though by then it has put back the rest.
    let rebuilt = await read(await ask({ withoutUsers: true }), 200, rebuiltSchema);
    while (!rebuilt.ended) rebuilt = await read(await ask({}), 200, rebuiltSchema);
    await expectPulled(repository, pushed);
    expect(await count("SELECT count(*) AS count FROM users")).toBe(0);
  });

  it("puts no text of users into R2 that can be read there", async () => {
    const { name } = await createUser({ email: `${crypto.randomUUID()}@example.com` });
    const list = await exportList((await makeExport()).name);
    for (const { noun, key } of list.parts) {
      const object = await env.BLOBS.get(key);
      const bytes = new Uint8Array((await object?.arrayBuffer()) ?? new ArrayBuffer(0));
      const isGzip = bytes[0] === 0x1f && bytes[1] === 0x8b;
      expect({ noun, isGzip }).toEqual({ noun, isGzip: noun !== "users" });
      if (!isGzip) continue;
      const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
      expect(text).not.toContain(name);
    }
  });
});

type ExportList = z.infer<typeof exportListSchema>;

async function exportList(name: string): Promise<ExportList> {
  const object = await env.BLOBS.get(`exports/complete/${name}`);
  return exportListSchema.parse(await object?.json());
}

/** How many rows of each noun are in a copy. */
function rowsOf({ parts }: ExportList): Readonly<Record<string, number>> {
  const sums: Record<string, number> = {};
  for (const { noun, rows } of parts) sums[noun] = (sums[noun] ?? 0) + rows;
  return sums;
}

function minuteOf(minute: number): ScheduledController {
  return createScheduledController({ scheduledTime: new Date(Date.UTC(2026, 0, 1, 5, minute)), cron: "* * * * *" });
}

/** The time of the Worker, and of nothing else. */
function setTime(ms: number): void {
  vi.useFakeTimers({ toFake: ["Date"], now: ms });
}

describe("exports", () => {
  it("are made once a day by the cron trigger, the first a day after the database, and the last few are kept", async () => {
    await push(freshRepository(), image(), "v1");
    const bornMs = Date.now();
    await runSchedule(minuteOf(EXPORT_MINUTE), env);
    expect((await listObjects()).filter((key) => key.startsWith("exports/"))).toEqual([]);
    const names = new Set<string>();
    for (let day = 1; day <= EXPORTS_KEPT + 2; day++) {
      setTime(bornMs + day * EXPORT_INTERVAL_SECONDS * 1000 + 1000);
      for (const minute of [EXPORT_MINUTE - 1, EXPORT_MINUTE, EXPORT_MINUTE + 1, EXPORT_MINUTE + 2]) {
        await runSchedule(minuteOf(minute), env);
      }
      await runSchedule(minuteOf(EXPORT_MINUTE), env);
      const { exports, underWay } = await read(await send("GET", "index/exports"), 200, copiesSchema);
      expect(underWay).toBeNull();
      names.add(exports[0]?.name ?? "");
      expect(names.size).toBe(day);
      expect(exports).toHaveLength(Math.min(day, EXPORTS_KEPT));
    }
    // Of those that went nothing is left.
    const kept = [...names].slice(-EXPORTS_KEPT);
    for (const key of await listObjects()) {
      if (key.startsWith("exports/")) expect(kept).toContain(key.split("/")[2]);
    }
  });

  it("that were cut off before their list leave the one before the newest that is whole", async () => {
    const repository = freshRepository();
    await push(repository, image(), "v1");
    const whole = await makeExport();
    await push(repository, image(), "v2");
    const cut = interceptOperations(env, {
      before: ({ binding, values }) => {
        if (binding === "BLOBS" && String(values[0]).startsWith("exports/complete/")) throw new Error("cut off");
      },
    });
    vi.spyOn(console, "error").mockReturnValue(undefined);
    let answer;
    do {
      answer = await registryWith(cut).request("POST", "/api/v1/index/exports", {
        headers: { "Content-Type": "application/json" },
        body: "{}",
      });
    } while (answer.status === 200);
    expect(answer.status).toBe(500);
    const { exports, underWay } = await read(await send("GET", "index/exports"), 200, copiesSchema);
    expect(exports).toEqual([{ name: whole.name, beganAt: whole.beganAt, rows: whole.rows }]);
    expect(underWay).toMatchObject({ ended: false });
    // The next step waits until the one that was cut off can't be at work any more, and goes on where it was.
    setTime(Date.now() + 130_000);
    let state = await read(await send("POST", "index/exports", { name: underWay?.name }), 200, copySchema);
    while (!state.ended) state = await read(await send("POST", "index/exports", { name: state.name }), 200, copySchema);
    expect(state.name).toBe(underWay?.name);
    await loseDatabase();
    await rebuild();
    expect((await repository.headManifest("v2")).status).toBe(200);
  });

  it("of many rows come in parts and steps, and each row is in one of them", async () => {
    const repository = freshRepository();
    await repository.pushBlob(emptyBlob.bytes);
    const number = 12_000;
    await env.DB.prepare(
      `WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)
       INSERT INTO manifests (repository_id, digest, media_type, size, put_request, created_at, body)
       SELECT (SELECT id FROM repositories WHERE name = ?2), 'sha256:' || format('%064d', n), ?3, 2000, 'r', n,
         '{"schemaVersion":2,"config":{"mediaType":"a/b","size":2,"digest":"' || ?4 || '"},"padding":"' || format('%1900d', n) || '"}' FROM number`,
    )
      .bind(number, repository.name, imageManifest, emptyBlob.descriptor.digest)
      .run();
    await env.DB.prepare(
      `INSERT INTO tags (repository_id, name, manifest_id, updated_at) SELECT repository_id, 't' || id, id, 0 FROM manifests`,
    ).run();
    const steps: Copy[] = [await read(await send("POST", "index/exports", {}), 200, copySchema)];
    for (let last = steps[0]; last?.ended === false; last = steps.at(-1)) {
      steps.push(await read(await send("POST", "index/exports", { name: last.name }), 200, copySchema));
    }
    expect(steps.length).toBeGreaterThan(1);
    for (const [at, { parts }] of steps.entries()) {
      expect(parts - (steps[at - 1]?.parts ?? 0)).toBeLessThanOrEqual(EXPORT_PARTS_PER_STEP);
    }
    const copied = rowsOf(await exportList(steps.at(-1)?.name ?? ""));
    expect([copied["manifests"], copied["tags"]]).toEqual([number, number]);
    await loseDatabase();
    await rebuild();
    expect(await count("SELECT count(*) AS count FROM manifests")).toBe(number);
    expect(await count("SELECT count(*) AS count FROM manifest_references")).toBe(number);
    expect(
      await count(
        "SELECT count(*) AS count FROM tags JOIN manifests ON manifests.id = manifest_id WHERE manifests.created_at = CAST(substr(name, 2) AS INTEGER)",
      ),
    ).toBe(number);
  });

  it("are not mixed by two who are at one at once", async () => {
    await fillRegistry();
    // They find one that has ended, from which all of them would begin.
    await makeExport();
    const answers = await Promise.all(
      Array.from({ length: 5 }, async () => send("POST", "index/exports", {}, asAdmin)),
    );
    for (const answer of answers) await read(answer, 200, copySchema);
    setTime(Date.now() + 130_000);
    const made = await makeExport();
    // Whichever of them were made, each row is once in each.
    const { exports } = await read(await send("GET", "index/exports"), 200, copiesSchema);
    expect(exports.length).toBeGreaterThan(1);
    const wanted = rowsOf(await exportList(made.name));
    for (const { name } of exports)
      expect({ name, rows: rowsOf(await exportList(name)) }).toEqual({ name, rows: wanted });
    const before = await contentOf();
    await loseDatabase();
    expect(await rebuild({ export: made.name })).toMatchObject({ rows: made.rows });
    expect(await contentOf()).toEqual(before);
  });

  it("go on by their name alone, and by no other", async () => {
    await refused(await send("POST", "index/exports", { name: "none" }), 409, "CONFLICT");
    const made = await makeExport();
    expect(await read(await send("POST", "index/exports", { name: made.name }), 200, copySchema)).toEqual(made);
    expect(await keptValue(exportValue)).not.toBeNull();
  });
});
