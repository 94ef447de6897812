import { join } from "node:path";
import { describe, expect } from "vitest";
import { clientTest } from "./client-test.ts";
import type { Login, Logout } from "./client-test.ts";
import { image, imageConfig, multiArchitecture, writeLayout } from "./image.ts";
import { layoutClientPromises } from "./layout-client.ts";
import { pushGraph } from "./push.ts";
import { program } from "./requirement.ts";
import { expectSameBytes, expectStored, readManifest } from "./stored.ts";

const test = clientTest(program("crane"))
  .extend("login", ({ run }): Login => {
    return async (host, { user, password }) => {
      await run("crane", ["auth", "login", host, "--username", user, "--password-stdin"], { input: password });
    };
  })
  .extend("logout", ({ run }): Logout => {
    return async (host) => {
      await run("crane", ["auth", "logout", host]);
    };
  });

layoutClientPromises(test, {
  name: "crane",
  mounts: true,
  loginAsks: false,
  renewsTokenAt: { method: "POST", path: /uploads/ },
  async push({ run }, folder, _graph, reference) {
    await run("crane", ["push", folder, reference]);
  },
  async pull({ run }, reference, _graph, folder) {
    await run("crane", ["pull", "--format=oci", reference, folder]);
  },
  async resolve({ run }, reference) {
    return (await run("crane", ["digest", reference])).stdout.trim();
  },
  async listTags({ run }, repository) {
    return (await run("crane", ["ls", repository])).stdout.trim().split("\n");
  },
  async tag({ run }, source, tag) {
    await run("crane", ["tag", source, tag]);
  },
  async copy({ run }, source, target) {
    await run("crane", ["copy", source, target]);
  },
  async deleteManifest({ run }, reference) {
    await run("crane", ["delete", reference]);
  },
  async deleteTag({ run }, reference) {
    await run("crane", ["delete", reference]);
  },
});

describe("crane", () => {
  test("push: a layer appended to an image of the registry", async ({ folder, run, reference, repository }) => {
    const base = await image();
    await pushGraph(repository, base, "v1");
    const added = await image({ layerBytes: [50_000] });
    await writeLayout(join(folder, "added"), added);
    const digests = added.layers.map(({ descriptor }) => descriptor.digest);
    const files = digests.map((digest) => join("added", "blobs", ...digest.split(":")));
    await run("crane", ["append", "-b", reference("v1"), "-f", files.join(","), "-t", reference("v2")]);
    await run("crane", ["validate", "--remote", reference("v2")]);
    const { layers } = await readManifest(repository, "v2");
    expect(layers.map(({ digest }) => digest)).toEqual([
      ...base.layers.map(({ descriptor }) => descriptor.digest),
      ...digests,
    ]);
  });

  test("pull: manifest, config and one blob", async ({ run, reference, repository }) => {
    const pushed = await image();
    await pushGraph(repository, pushed, "v1");
    const config = pushed.config.descriptor.digest;
    const printed = async (...args: string[]) => Buffer.from((await run("crane", args)).stdout.trimEnd());
    expectSameBytes(await printed("manifest", reference("v1")), pushed.bytes);
    expectSameBytes(await printed("config", reference("v1")), pushed.config.bytes);
    expectSameBytes(await printed("blob", reference(config)), pushed.config.bytes);
    await run("crane", ["validate", "--remote", reference("v1")]);
  });

  test("pull: the files of an image, by its layers", async ({ run, reference, repository }) => {
    await pushGraph(repository, await image({ layerBytes: [100] }), "v1");
    expect((await run("crane", ["export", reference("v1"), "-"])).stdout).toContain("layer ");
  });

  test("pull: the image of one platform of an index", async ({ run, reference, repository }) => {
    const pushed = await multiArchitecture(["amd64", "arm64"]);
    await pushGraph(repository, pushed, "v1");
    const { stdout } = await run("crane", ["digest", "--platform", "linux/arm64", reference("v1")]);
    expect(stdout.trim()).toBe(pushed.children[1]?.descriptor.digest);
  });

  test("list: repositories", async ({ run, target, repository }) => {
    await pushGraph(repository, await image({ layerBytes: [10] }), "v1");
    const listed = await run("crane", ["catalog", target.host]);
    expect(listed.stdout.split("\n")).toContain(repository.name);
  });

  test("copy: all tags of a repository", async ({ run, registry, repository, target }) => {
    const [one, many] = [await image(), await multiArchitecture()];
    await pushGraph(repository, one, "one");
    await pushGraph(repository, many, "many");
    const copy = registry.repository(`${repository.name}-copy`);
    await run("crane", ["copy", "--all-tags", `${target.host}/${repository.name}`, `${target.host}/${copy.name}`]);
    await expectStored(copy, "one", one);
    await expectStored(copy, "many", many);
  });

  test("tag: labels and annotations changed in the registry", async ({ run, reference, repository }) => {
    await pushGraph(repository, await image(), "v1");
    await run("crane", ["mutate", reference("v1"), "-l", "a=b", "-a", "made=yes", "-t", reference("v2")]);
    const { annotations, config } = await readManifest(repository, "v2");
    expect(annotations).toEqual({ made: "yes" });
    expect(config?.mediaType).toBe(imageConfig);
  });
});
