import { rm } from "node:fs/promises";
import path from "node:path";
import { describe, expect } from "vitest";
import { z } from "zod";
import { copiesSchema, copySchema, rebuiltSchema } from "../../src/integrity/copy.ts";
import { type Artifact, blob, image, index, push, referrer } from "../fixtures/artifacts.ts";
import { MIB, randomBytes, sameBytes } from "../fixtures/content.ts";
import { adminPassword, basic } from "../support/credentials.ts";
import { RegistryClient, type RepositoryClient } from "../support/client.ts";
import type { Registry } from "../support/registry.ts";
import { expectLine, moorage, type Ran, readJson } from "./cli-test.ts";
import { repositoryOf, startTest } from "./start-test.ts";

function run(registry: Registry, ...args: readonly string[]): Promise<Ran> {
  return moorage(args, { env: { MOORAGE_REGISTRY: registry.url, MOORAGE_PASSWORD: adminPassword } });
}

/** As a database that is deleted and made anew: R2, and the secrets, stay. */
async function dropDatabase(stateDir: string): Promise<void> {
  await rm(path.join(stateDir, "v3/d1"), { recursive: true });
}

async function expectPulled(repository: RepositoryClient, { bytes, blobs, descriptor }: Artifact): Promise<void> {
  const pulled = await repository.getManifest(descriptor.digest);
  expect(pulled.status).toBe(200);
  expect(sameBytes(new Uint8Array(await pulled.arrayBuffer()), bytes)).toBe(true);
  for (const each of blobs) {
    const response = await repository.getBlob(each.descriptor.digest);
    expect(response.status).toBe(200);
    expect(sameBytes(new Uint8Array(await response.arrayBuffer()), each.bytes)).toBe(true);
  }
}

describe("moorage rebuild", () => {
  startTest(
    "brings a registry back whose database was dropped, from R2 and the export",
    async ({ start, stateDir }) => {
      const first = await start();
      const names = ["team/app", "team/base"];
      const layer = blob(randomBytes(20 * MIB));
      const pushed: Artifact[] = [];
      for (const name of names) {
        const repository = repositoryOf(first, name);
        const one = await push(repository, image({ layers: [layer, blob(randomBytes(1000))] }), "v1", "latest");
        const large = await push(
          repository,
          image({ fields: { annotations: { filling: "x".repeat(100_000) } } }),
          "v2",
        );
        pushed.push(one, large);
        pushed.push(await push(repository, index([one.descriptor, large.descriptor]), "all"));
        for (let at = 0; at < 2; at++) pushed.push(await push(repository, referrer(one.descriptor)));
      }
      expect(await run(first, "user", "create", "robot", "--grant", "team/*:pull")).toMatchObject({ code: 0 });
      const { stdout } = await run(first, "token", "create", "robot", "of a test");
      const token = stdout.trim();

      const made = readJson(await run(first, "export", "create", "--json"), copySchema);
      const whole = { name: made.name, beganAt: made.beganAt, rows: made.rows };
      const told = readJson(await run(first, "export", "list", "--json"), copiesSchema);
      expect(told).toEqual({ exports: [whole], underWay: null, halted: false });
      const table = await run(first, "export", "list");
      expect(table.stdout).toMatch(
        new RegExp(`^NAME +BEGAN +ROWS\\n${made.name} +20\\d\\d-\\d\\d-\\d\\d \\S+ +${String(made.rows)}\\n$`),
      );
      expect(table.stderr).toBe("");
      const late = await repositoryOf(first, names[0]).pushBlob(randomBytes(500));
      await first.stop();
      await dropDatabase(stateDir);

      const second = await start();
      for (const name of names) expect((await repositoryOf(second, name).getManifest("v1")).status).toBe(404);
      const rebuilt = readJson(await run(second, "rebuild", "--json"), rebuiltSchema);
      expect(rebuilt).toMatchObject({ export: made.name, ended: true, rows: made.rows, missing: 0 });
      expect(rebuilt.unnamed).toEqual({ objects: 1, bytes: 500 });

      const each = pushed.length / names.length;
      for (const [at, artifact] of pushed.entries()) {
        await expectPulled(repositoryOf(second, names[Math.floor(at / each)]), artifact);
      }
      for (const [at, name] of names.entries()) {
        const repository = repositoryOf(second, name);
        expect(await (await repository.listTags()).json()).toMatchObject({ tags: ["all", "latest", "v1", "v2"] });
        const [one, , , ...notes] = pushed.slice(at * each, (at + 1) * each);
        const head = await repository.headManifest("latest");
        expect(head.headers.get("Docker-Content-Digest")).toBe(one?.descriptor.digest);
        const listed = z
          .object({ manifests: z.array(z.object({ digest: z.string() })) })
          .parse(await (await repository.listReferrers(one?.descriptor.digest ?? "")).json());
        expect(listed.manifests.map(({ digest }) => digest)).toEqual(notes.map(({ descriptor }) => descriptor.digest));
      }
      const asRobot = new RegistryClient(second.url, fetch, basic("robot", token));
      expect((await asRobot.repository("team/app").getManifest("v1")).status).toBe(200);
      expect((await asRobot.repository("other/app").getManifest("v1")).status).toBe(403);
      expect((await repositoryOf(second, names[0]).headBlob(late.digest)).status).toBe(404);
      for (const name of names) expect(await run(second, "verify", name)).toMatchObject({ code: 0 });
      // And it takes what is new, as any other.
      await expectPulled(
        repositoryOf(second, "team/new"),
        await push(repositoryOf(second, "team/new"), image({ layers: [layer] })),
      );
      expectLine(await run(second, "rebuild"), 1, /the index is not empty; force/);
    },
  );

  startTest("is what a new database waits for, unless it is to begin anew", async ({ start, stateDir }) => {
    const first = await start();
    await push(repositoryOf(first, "team/app"), image(), "v1");
    expect(await run(first, "user", "create", "robot", "--grant", "team/*:pull")).toMatchObject({ code: 0 });
    const { name } = readJson(await run(first, "export", "create", "--json"), copySchema);
    await first.stop();
    await dropDatabase(stateDir);

    const second = await start();
    expectLine(
      await run(second, "export", "create"),
      1,
      /older than this database.*moorage rebuild.*moorage export create --force.*\(CONFLICT\)/,
    );
    expect((await run(second, "export", "list")).stderr).toMatch(
      /^moorage: some are older than this database.*moorage rebuild.*moorage export create --force begins anew\n$/,
    );
    // Somebody was faster.
    await push(repositoryOf(second, "team/other"), image(), "v1");
    const rebuilt = await run(second, "rebuild", "--force");
    expect(rebuilt.code).toBe(0);
    expect(rebuilt.stdout).toMatch(new RegExp(`^export +${name}\\n`));
    expect(rebuilt.stderr).toMatch(/what was deleted since is back\n/);
    expect(rebuilt.stderr).toMatch(
      /each access token that was revoked since, is good again. Look through moorage user list, moorage token list and moorage trust list\n$/,
    );
    expect((await run(second, "user", "list")).stdout).toMatch(/^robot /m);
    expect(await run(second, "export", "create")).toMatchObject({ code: 0, stderr: "" });
    const beside = await run(second, "rebuild", "--force");
    expect(beside.stderr).toMatch(/users, access tokens and trust rules were left as they are in this database\n$/);
    await second.stop();
    await dropDatabase(stateDir);

    const third = await start();
    expect(await run(third, "export", "create", "--force")).toMatchObject({ code: 0, stderr: "" });
    const { exports, halted } = readJson(await run(third, "export", "list", "--json"), copiesSchema);
    expect({ number: exports.length, halted }).toEqual({ number: 3, halted: false });
  });

  startTest("says that there is nothing to be put back", async ({ start }) => {
    const registry = await start();
    expectLine(await run(registry, "rebuild"), 1, /there is no such export that is whole and has rows \(NOT_FOUND\)/);
    const listed = await run(registry, "export", "list");
    expect(listed).toMatchObject({ code: 0, stdout: "" });
  });
});
