import { readdirSync } from "node:fs";
import { copyFile, mkdir } from "node:fs/promises";
import path from "node:path";
import type { Miniflare } from "miniflare";
import { describe, expect } from "vitest";
import { z } from "zod";
import { type Bundle, bundleWorker } from "../../scripts/bundle.ts";
import { applyMigrations } from "../../scripts/migrations.ts";
import { openMiniflare } from "../../scripts/miniflare.ts";
import { readProject } from "../../scripts/project.ts";
import { image, push } from "../fixtures/artifacts.ts";
import { asAdmin, basic, testSecrets } from "../support/credentials.ts";
import { RegistryClient } from "../support/client.ts";
import { projectRoot } from "../support/registry.ts";
import { runPatiently, wranglerCli } from "./deploy-test.ts";
import { type EarlierState, earlierState } from "./earlier-state.ts";
import { startTest } from "./start-test.ts";

type Database = Awaited<ReturnType<Miniflare["getD1Database"]>>;
type Row = Readonly<Record<string, unknown>>;
type Rows = Readonly<Record<string, readonly Row[]>>;

/** In the order in which they are applied. */
const migrations = readdirSync(path.join(projectRoot, "migrations"))
  .filter((name) => name.endsWith(".sql"))
  .toSorted();

/** What is removed needs two passes, its object one more; the last ones find nothing to do. */
const passes = 6;

const project = readProject(path.join(projectRoot, "wrangler.toml"), { GC_GRACE_SECONDS: "0" });

describe.each(migrations.map((newest, index) => ({ newest, known: migrations.slice(0, index + 1) })))(
  "data that was written when $newest was the newest migration",
  ({ known }) => {
    startTest("is there after the upgrade of npm start, and the collector leaves it", async ({ folder, stateDir }) => {
      const state = earlierState(testSecrets.TOKEN_KEY);
      const before = await writeEarlierState(state, known, folder, stateDir);
      const applied = await applyMigrations(project, persistPathOf(stateDir));
      expect(applied).toEqual(migrations.slice(known.length));
      await expectUpgraded(state, known, before, stateDir);
    });

    startTest("is there after wrangler d1 migrations apply", async ({ folder, stateDir }) => {
      const state = earlierState(testSecrets.TOKEN_KEY);
      const before = await writeEarlierState(state, known, folder, stateDir);
      const apply = ["d1", "migrations", "apply", "DB", "--local", `--persist-to=${stateDir}`];
      const ran = await runPatiently([wranglerCli, ...apply]);
      expect(ran).toMatchObject({ code: 0 });
      expect(await applyMigrations(project, persistPathOf(stateDir))).toEqual([]);
      await expectUpgraded(state, known, before, stateDir);
    });
  },
);

function persistPathOf(stateDir: string): string {
  return path.join(stateDir, "v3");
}

/** @returns all rows, by table */
async function writeEarlierState(
  state: EarlierState,
  known: readonly string[],
  folder: string,
  stateDir: string,
): Promise<Rows> {
  const older = path.join(folder, "migrations");
  await mkdir(older);
  for (const name of known) await copyFile(path.join(projectRoot, "migrations", name), path.join(older, name));
  const olderProject = { ...project, migrations: project.migrations.map((one) => ({ ...one, folder: older })) };
  expect(await applyMigrations(olderProject, persistPathOf(stateDir))).toEqual(known);

  return withState(stateDir, inert(stateDir), async (miniflare) => {
    const database = await miniflare.getD1Database("DB");
    for (const [sql, ...values] of known.flatMap((name) => state.rows[name] ?? [])) {
      const { meta } = await database
        .prepare(sql)
        .bind(...values)
        .run();
      // One that inserts what it selects would else find nothing, in silence.
      expect({ sql, changed: meta.changes > 0 }).toEqual({ sql, changed: true });
    }
    const bucket = await miniflare.getR2Bucket("BLOBS");
    for (const [key, bytes] of state.objects) await bucket.put(key, bytes);
    return readRows(database);
  });
}

/** Serves nothing: for a look at what a state holds. */
function inert(stateDir: string): Bundle {
  const contents = "export default {}; export class UploadSession {}";
  return { root: stateDir, modules: [{ type: "ESModule", path: path.join(stateDir, "inert.js"), contents }] };
}

async function withState<T>(
  stateDir: string,
  bundle: Bundle,
  work: (miniflare: Miniflare, url: string) => Promise<T>,
): Promise<T> {
  const place = { persistPath: persistPathOf(stateDir), host: "127.0.0.1", port: 0 };
  const miniflare = openMiniflare(project, bundle, place, testSecrets);
  try {
    const { origin } = await miniflare.ready;
    return await work(miniflare, origin);
  } finally {
    await miniflare.dispose();
  }
}

const tablesSchema = z.array(z.object({ name: z.string() }));
const rowsSchema = z.array(z.record(z.string(), z.unknown()));

async function readRows(database: Database): Promise<Rows> {
  const { results } = await database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").all();
  const names = tablesSchema.parse(results).map(({ name }) => name);
  const rows: Record<string, readonly Row[]> = {};
  // The others are SQLite's, D1's, and that of the migrations themselves.
  for (const name of names.filter((table) => !/^(sqlite_|_cf_|d1_)/.test(table))) {
    rows[name] = rowsSchema.parse((await database.prepare(`SELECT * FROM "${name}"`).all()).results);
  }
  return rows;
}

async function expectUpgraded(
  state: EarlierState,
  known: readonly string[],
  before: Rows,
  stateDir: string,
): Promise<void> {
  const bundle = await bundleWorker(project.main, project.define, project.exports);
  await withState(stateDir, bundle, async (miniflare, url) => {
    const database = await miniflare.getD1Database("DB");
    expectKept(before, await readRows(database));
    await expectPulled(state, known, url);
    await expectPushed(state, url);
    await collect(miniflare);
    await expectPulled(state, known, url);
    await expectCollected(state, known, miniflare);
  });
}

/** Each row is there, with what it had; columns may have come, and values that the registry makes for itself. */
function expectKept(before: Rows, after: Rows): void {
  expect(Object.keys(before).length).toBeGreaterThan(0);
  for (const [table, rows] of Object.entries(before)) {
    const now = after[table] ?? [];
    if (table !== "registry_values") expect({ table, count: now.length }).toEqual({ table, count: rows.length });
    expect({ table, lost: rows.filter((row) => !now.some((other) => hasAllOf(other, row))) }).toEqual({
      table,
      lost: [],
    });
  }
}

function hasAllOf(row: Row, older: Row): boolean {
  return Object.entries(older).every(([column, value]) => row[column] === value);
}

async function expectPulled(state: EarlierState, known: readonly string[], url: string): Promise<void> {
  const client = new RegistryClient(url, fetch, asAdmin);
  const repository = client.repository(state.repository);
  for (const { bytes, descriptor } of state.blobs.filter((one) => isIn(state, one.descriptor.digest))) {
    const answer = await repository.getBlob(descriptor.digest);
    expect({ digest: descriptor.digest, status: answer.status }).toEqual({ digest: descriptor.digest, status: 200 });
    expect(new Uint8Array(await answer.arrayBuffer())).toEqual(bytes);
  }
  for (const { bytes, descriptor } of state.manifests) {
    const answer = await repository.getManifest(descriptor.digest);
    expect({ digest: descriptor.digest, status: answer.status }).toEqual({ digest: descriptor.digest, status: 200 });
    expect(answer.headers.get("Content-Type")).toBe(descriptor.mediaType);
    expect(new Uint8Array(await answer.arrayBuffer())).toEqual(bytes);
  }
  const mounted = await client.repository(state.mounting).getBlob(state.mountedLayer.descriptor.digest);
  expect(new Uint8Array(await mounted.arrayBuffer())).toEqual(state.mountedLayer.bytes);

  const { descriptor } = state.referrer;
  const artifactType = "application/vnd.example.note.v1";
  expect(await (await repository.listReferrers(state.subject.descriptor.digest)).json()).toMatchObject({
    manifests: [{ ...descriptor, artifactType, annotations: { note: "of long ago" } }],
  });
  if (known.includes("0002_tags.sql")) await expectTagged(state, url);
  if (known.includes("0006_access.sql")) await expectLoggedIn(state, url);
}

/** Whether the repository has the blob, and not only the one that mounts. */
function isIn(state: EarlierState, digest: string): boolean {
  return state.manifests.some(({ blobs }) => blobs.some((one) => one.descriptor.digest === digest));
}

const tagListSchema = z.object({ tags: z.array(z.string()) });

async function expectTagged(state: EarlierState, url: string): Promise<void> {
  const repository = new RegistryClient(url, fetch, asAdmin).repository(state.repository);
  for (const [tag, { bytes, descriptor }] of Object.entries(state.tags)) {
    const answer = await repository.getManifest(tag);
    expect({ tag, digest: answer.headers.get("Docker-Content-Digest") }).toEqual({ tag, digest: descriptor.digest });
    expect(new Uint8Array(await answer.arrayBuffer())).toEqual(bytes);
  }
  const list = tagListSchema.parse(await (await repository.listTags()).json());
  expect(list.tags).toEqual(expect.arrayContaining(Object.keys(state.tags)));
}

async function expectLoggedIn({ accessToken, ...state }: EarlierState, url: string): Promise<void> {
  const asUser = new RegistryClient(url, fetch, basic(accessToken.user, accessToken.secret));
  const digest = state.subject.descriptor.digest;
  expect((await asUser.repository(state.repository).headManifest(digest)).status).toBe(200);
  expect((await asUser.repository("other/app").headManifest(digest)).status).toBe(403);
}

/** An image whose layers are partly of then, and a tag that moves. */
async function expectPushed(state: EarlierState, url: string): Promise<void> {
  const repository = new RegistryClient(url, fetch, asAdmin).repository(state.repository);
  const layer = state.blobs.find((one) => isIn(state, one.descriptor.digest));
  const pushed = image({ layers: layer === undefined ? [] : [layer] });
  await push(repository, pushed, "new");
  expect((await repository.headManifest("new")).headers.get("Docker-Content-Digest")).toBe(pushed.descriptor.digest);
}

async function collect(miniflare: Miniflare): Promise<void> {
  const worker = await miniflare.getWorker();
  for (let pass = 0; pass < passes; pass++) {
    // The full hour: R2 is swept too.
    const scheduledTime = new Date(Date.UTC(2030, 0, 1, pass));
    for (const cron of project.crons) {
      expect(await worker.scheduled({ cron, scheduledTime })).toMatchObject({ outcome: "ok" });
    }
  }
}

/** That it did what it is for: else it would be no wonder that all else is there. */
async function expectCollected(state: EarlierState, known: readonly string[], miniflare: Miniflare): Promise<void> {
  const bucket = await miniflare.getR2Bucket("BLOBS");
  expect(await bucket.head(state.garbageKey)).toBeNull();
  const database = await miniflare.getD1Database("DB");
  const found = await database
    .prepare("SELECT 1 FROM blobs WHERE digest = ?1")
    .bind(state.unnamed.descriptor.digest)
    .all();
  expect(found.results).toEqual([]);
  if (known.includes("0007_integrity.sql")) await expectQuarantined(state, miniflare);
  // What is older than the database's record of its birth may be another's.
  const isOlder = !known.includes("0005_birth.sql");
  expect((await bucket.head(state.orphanKey)) !== null).toBe(isOlder);
}

async function expectQuarantined({ repository, quarantined }: EarlierState, miniflare: Miniflare): Promise<void> {
  const { digest, objectKey } = quarantined;
  const bucket = await miniflare.getR2Bucket("BLOBS");
  expect(await bucket.head(objectKey)).not.toBeNull();
  const client = new RegistryClient((await miniflare.ready).origin, fetch, asAdmin);
  expect((await client.repository(repository).getBlob(digest)).status).toBe(404);
  const findings = await client.request("GET", "/api/v1/integrity/findings");
  expect(await findings.json()).toMatchObject({ findings: [{ digest, problem: "size", objectKey }] });
}
