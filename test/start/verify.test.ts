import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect } from "vitest";
import { z } from "zod";
import { findingSchema, findingsSchema } from "../../src/integrity/finding.ts";
import { type Artifact, blob, image, push } from "../fixtures/artifacts.ts";
import { randomBytes, sameBytes } from "../fixtures/content.ts";
import { asAdmin } from "../support/credentials.ts";
import { RegistryClient, type RepositoryClient } from "../support/client.ts";
import { projectRoot, type Registry, startRegistry } from "../support/registry.ts";
import { cliTest, expectLine, readJson } from "./cli-test.ts";
import { writeConfig } from "./start-test.ts";

const verdictSchema = z.strictObject({
  repository: z.string(),
  objects: z.int(),
  bytes: z.int(),
  findings: z.array(findingSchema),
});

/** A registry whose cron trigger is due on 29 February: the scrub would find in its first minute what is for a command to find. */
const verifyTest = cliTest.override("registry", { scope: "file" }, async ({ vars }, { onCleanup }) => {
  const folder = await mkdtemp(path.join(tmpdir(), "moorage-verify-"));
  const config = await writeConfig(folder, (toml) => toml.replace(/^crons = .*$/m, 'crons = ["0 0 29 2 *"]'));
  const registry = await startRegistry({ vars, config });
  onCleanup(async () => {
    await registry.stop();
    await rm(folder, { recursive: true, force: true });
  });
  return registry;
});

function freshRepository(registry: Registry): RepositoryClient {
  return new RegistryClient(registry.url, fetch, asAdmin).repository(`verify/${crypto.randomUUID()}`);
}

/** A bit of an object becomes another where the simulator of R2 keeps it: a file an object. */
async function flipBit({ stateDir }: Registry, bytes: Uint8Array): Promise<void> {
  const folder = path.join(stateDir, "v3/r2/moorage-blobs/blobs");
  for (const name of await readdir(folder)) {
    const file = path.join(folder, name);
    const found = new Uint8Array(await readFile(file));
    if (!sameBytes(found, bytes)) continue;
    found[10] = (found[10] ?? 0) ^ 1;
    await writeFile(file, found);
    return;
  }
  throw new Error("R2 does not have these bytes");
}

async function pushImage(repository: RepositoryClient): Promise<Artifact> {
  return push(repository, image({ layers: [blob(randomBytes(100_000)), blob(randomBytes(50_000))] }), "v1");
}

describe("moorage verify", () => {
  verifyTest("says that all is as it should be, and how much that is", async ({ run, registry }) => {
    const repository = freshRepository(registry);
    const { blobs, bytes } = await pushImage(repository);
    const ran = await run(["verify", repository.name]);
    expect(ran).toMatchObject({ code: 0, stdout: "" });
    expect(ran.stderr).toMatch(
      /^moorage: 4 blobs and manifests of \S+ were read, \d+ bytes: all are what their digests say\n$/,
    );
    const size = bytes.byteLength + blobs.reduce((sum, each) => sum + each.bytes.byteLength, 0);
    expect(readJson(await run(["verify", repository.name, "--json"]), verdictSchema)).toEqual({
      repository: repository.name,
      objects: 4,
      bytes: size,
      findings: [],
    });
  });

  verifyTest(
    "finds a bit that is another, and ends with 1; the blob is not served until it is pushed again",
    async ({ run, registry }) => {
      const repository = freshRepository(registry);
      const { blobs } = await pushImage(repository);
      const layer = blobs[1] ?? blob(new Uint8Array());
      await flipBit(registry, layer.bytes);
      const ran = await run(["verify", repository.name]);
      expect(ran.code).toBe(1);
      expect(ran.stdout).toMatch(/^ID +FOUND +STATE +WHAT +PROBLEM +OBJECT\n/);
      expect(ran.stdout).toMatch(
        new RegExp(`quarantined +blob ${layer.descriptor.digest} +the bytes are sha256:[0-9a-f]{64} +blobs/`),
      );
      expect(ran.stderr).toMatch(
        /^moorage: 4 blobs and manifests of \S+ were read, \d+ bytes; 1 are bad: push them again\n$/,
      );
      expect((await repository.getBlob(layer.descriptor.digest)).status).toBe(404);
      const again = await run(["verify", repository.name, "--json"]);
      expect(again.code).toBe(1);
      expect(verdictSchema.parse(JSON.parse(again.stdout)).findings).toMatchObject([
        { digest: layer.descriptor.digest },
      ]);

      await repository.pushBlob(layer.bytes);
      expect(await run(["verify", repository.name])).toMatchObject({ code: 0 });
      const pulled = new Uint8Array(await (await repository.getBlob(layer.descriptor.digest)).arrayBuffer());
      expect(sameBytes(pulled, layer.bytes)).toBe(true);
    },
  );

  verifyTest("shows how far it is to who looks on, and to nobody else", async ({ run, registry }) => {
    const repository = freshRepository(registry);
    await pushImage(repository);
    const command = [process.execPath, path.join(projectRoot, "scripts/moorage.ts"), "verify", repository.name];
    // util-linux's script gives its command a terminal.
    const seen = await run([], { program: ["script", "-qec", command.join(" "), "/dev/null"], env: { TERM: "xterm" } });
    expect(seen.code).toBe(0);
    expect(seen.stdout).toContain(`${repository.name}  100 %  0.1 of 0.1 MiB`);
    expect(seen.stdout).toContain("all are what their digests say");
    expect((await run(["verify", repository.name])).stderr).not.toContain("%");
  });

  verifyTest("is told where there is no such repository, and what is no name", async ({ run }) => {
    expectLine(await run(["verify", "none/such"]), 1, /there is no such repository \(NOT_FOUND\)/);
    expectLine(await run(["verify", "No/Such"]), 1, /NAME_INVALID/);
  });
});

describe("moorage integrity", () => {
  verifyTest("shows, lists, releases and discards", async ({ run, registry }) => {
    const repository = freshRepository(registry);
    const { blobs } = await pushImage(repository);
    const [, first = blob(new Uint8Array()), second = blob(new Uint8Array())] = blobs;
    for (const each of [first, second]) await flipBit(registry, each.bytes);
    await run(["verify", repository.name]);
    const listed = readJson(await run(["integrity", "list", "--json"]), findingsSchema);
    const idOf = (digest: string): string => String(listed.findings.find((each) => each.digest === digest)?.id);
    expect((await run(["integrity", "show"])).stdout).toMatch(/^quarantined +\d+\n/);

    expect(await run(["integrity", "release", idOf(first.descriptor.digest)])).toMatchObject({ code: 0 });
    expect((await repository.getBlob(first.descriptor.digest)).status).toBe(200);
    expectLine(await run(["integrity", "release", idOf(first.descriptor.digest)]), 1, /nothing is quarantined for it/);

    const discarded = await run(["integrity", "discard", idOf(second.descriptor.digest)]);
    expect(discarded).toMatchObject({ code: 0, stdout: "" });
    expect((await repository.getBlob(second.descriptor.digest)).status).toBe(404);
    const table = await run(["integrity", "list"]);
    expect(table.stdout).toMatch(new RegExp(`released +blob ${first.descriptor.digest}`));
    expect(table.stdout).toMatch(new RegExp(`quarantined +blob ${second.descriptor.digest} .* deleted\n`));
    const all = await run(["integrity", "release", "--all"]);
    // That of which nothing is left is passed over.
    expect(all).toMatchObject({ code: 0, stdout: "" });
    await flipBit(registry, (blobs[0] ?? first).bytes);
    await run(["verify", repository.name]);
    expect((await run(["integrity", "release", "--all"])).stdout).toMatch(
      new RegExp(`released +blob ${blobs[0]?.descriptor.digest ?? ""}`),
    );
    for (const args of [[], ["1", "--all"]]) {
      expectLine(await run(["integrity", "release", ...args]), 2, /either the id of a finding, or --all/);
    }
    expectLine(await run(["integrity", "discard", "999999"]), 1, /there is no such finding/);
    expectLine(await run(["integrity", "discard", "first"]), 2, /.*/);
  });
});
