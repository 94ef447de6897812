import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { manyReferrers, manyTags, rareType, RARE_REFERRERS } from "../../scripts/scale/content.ts";
import { databaseFile } from "../../scripts/scale/load.ts";
import { RegistryClient } from "../support/client.ts";
import { asAdmin } from "../support/credentials.ts";
import { projectRoot, type Registry, startRegistry } from "../support/registry.ts";

/** What scripts/scale.ts loads is what pushes would have left: the registry serves it, changes it and takes it away. */

const run = promisify(execFile);
const script = path.join(projectRoot, "scripts/scale.ts");
const counts = [
  "--manifests",
  "300",
  "--repositories",
  "20",
  "--tags",
  "600",
  "--large-tags",
  "150",
  "--large-referrers",
  "80",
];

let folder = "";
let stateDir = "";
let output = "";
let served: Registry | null = null;
let registry = new RegistryClient("http://localhost", fetch);

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "moorage-scale-test-"));
  stateDir = path.join(folder, "served");
  output = (await run(process.execPath, [script, "--state", stateDir, ...counts])).stdout;
  // Before anything is served from it.
  expect(broken()).toEqual([]);
  served = await startRegistry({ stateDir });
  registry = new RegistryClient(served.url, fetch, asAdmin);
});

afterAll(async () => {
  await served?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** What SQLite finds wrong: the load looks at no foreign key. */
function broken(): unknown[] {
  const database = new DatabaseSync(databaseFile(path.join(stateDir, "v3")));
  try {
    const integrity = database.prepare("PRAGMA integrity_check").all();
    return [
      ...database.prepare("PRAGMA foreign_key_check").all(),
      ...integrity.filter((row) => row["integrity_check"] !== "ok"),
    ];
  } finally {
    database.close();
  }
}

const names = z.object({ repositories: z.array(z.string()) });
const tagNames = z.object({ tags: z.array(z.string()) });
const index = z.object({ manifests: z.array(z.object({ digest: z.string(), artifactType: z.string() })) });

describe("scripts/scale.ts", () => {
  it("loads so many repositories, tags and referrers as it is told, and says what they take", async () => {
    const { repositories } = names.parse(await (await registry.listRepositories()).json());
    expect(repositories).toHaveLength(20);
    const tags = new Map<string, number>();
    for (const name of repositories) {
      tags.set(name, tagNames.parse(await (await registry.repository(name).listTags()).json()).tags.length);
    }
    expect(tags.get(manyTags)).toBe(150);
    expect([...tags.values()].reduce((sum, count) => sum + count, 0)).toBe(600);
    expect(output).toMatch(/^manifests +\d+\.\d MB +\d+ bytes a manifest$/m);
    expect(output).toMatch(/^10 GB hold \d+\.\d\d million such manifests$/m);
  });

  it("loads manifests that are pulled by tag, and are what their digests say", async () => {
    const repository = registry.repository(manyTags);
    const { tags } = tagNames.parse(await (await repository.listTags()).json());
    for (const tag of [tags[0], tags[75], tags[149]]) {
      const response = await repository.getManifest(tag ?? "");
      const digest = createHash("sha256")
        .update(await response.text())
        .digest("hex");
      expect([response.status, response.headers.get("Docker-Content-Digest")]).toEqual([200, `sha256:${digest}`]);
    }
  });

  it("loads referrers of one subject, some of them of a rare type", async () => {
    const database = new DatabaseSync(databaseFile(path.join(stateDir, "v3")), { readOnly: true });
    const { subject } = z
      .object({ subject: z.string() })
      .parse(database.prepare("SELECT DISTINCT subject FROM manifests WHERE subject IS NOT NULL").get());
    database.close();
    const repository = registry.repository(manyReferrers);
    const all = index.parse(await (await repository.listReferrers(subject)).json());
    expect(all.manifests).toHaveLength(80);
    const rare = index.parse(await (await repository.listReferrers(subject, { artifactType: rareType })).json());
    expect(rare.manifests).toHaveLength(RARE_REFERRERS);
  });

  it("loads what can be pushed again, tagged, and deleted", async () => {
    const repository = registry.repository(manyTags);
    const { tags } = tagNames.parse(await (await repository.listTags({ n: 1 })).json());
    const pulled = await repository.getManifest(tags[0] ?? "");
    const digest = pulled.headers.get("Docker-Content-Digest") ?? "";
    // Each blob that it names is there, in the size that it says.
    expect((await repository.putManifest("again", await pulled.text())).status).toBe(201);
    expect((await repository.headManifest("again")).headers.get("Docker-Content-Digest")).toBe(digest);
    expect((await repository.deleteManifest(digest)).status).toBe(202);
    expect((await repository.headManifest("again")).status).toBe(404);
  });

  it("refuses a state that is served, one that has repositories, and counts that can't be", async () => {
    expect(await refusalOf("--state", stateDir, ...counts)).toContain(`${stateDir} is in use`);
    const loaded = path.join(folder, "loaded");
    await run(process.execPath, [script, "--state", loaded, ...counts]);
    expect(await refusalOf("--state", loaded, ...counts)).toContain(`${loaded} has repositories`);
    expect(await refusalOf("--manifests", "10")).toContain("--manifests takes more");
    expect(await refusalOf("--manifests", "many")).toContain('--manifests takes a whole number, not "many"');
    expect(await refusalOf("--repositories", "2")).toContain("--repositories takes 3 or more");
  });
});

/** What it says where it does nothing. */
async function refusalOf(...args: readonly string[]): Promise<string> {
  return run(process.execPath, [script, ...args]).then(
    () => "it went well",
    (error: unknown) => z.object({ code: z.literal(1), stderr: z.string() }).parse(error).stderr,
  );
}
