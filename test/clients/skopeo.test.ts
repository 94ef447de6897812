import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { z } from "zod";
import { clientTest } from "./client-test.ts";
import type { Login, Logout } from "./client-test.ts";
import { diffIdOf, image, MiB, writeDockerArchive, writeLayout } from "./image.ts";
import { layoutClientPromises } from "./layout-client.ts";
import { pushGraph } from "./push.ts";
import { program } from "./requirement.ts";
import { expectStored, readBlob, readManifest, readTags } from "./stored.ts";
import { mountedDigests, refusedUses, repositoriesOfTokens, requests } from "./wire.ts";

const test = clientTest(program("skopeo"))
  .extend("login", ({ run }): Login => {
    return async (host, { user, password }) => {
      const as = ["--username", user, "--password-stdin"];
      await run("skopeo", ["login", "--tls-verify=false", ...as, host], { input: password });
    };
  })
  .extend("logout", ({ run }): Logout => {
    return async (host) => {
      await run("skopeo", ["logout", host]);
    };
  });
/** Plain http on either side, and no policy file of the machine's own. */
const insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
const skopeo = (...args: string[]): string[] => ["--insecure-policy", ...args];

layoutClientPromises(test, {
  name: "skopeo",
  // It mounts what it remembers from an earlier copy: a test of its own, below.
  mounts: false,
  loginAsks: true,
  renewsTokenAt: null,
  async push({ run }, folder, _graph, reference) {
    await run("skopeo", skopeo("copy", ...insecure, "--all", `oci:${folder}:latest`, `docker://${reference}`));
  },
  async pull({ run }, reference, _graph, folder) {
    await run("skopeo", skopeo("copy", ...insecure, "--all", `docker://${reference}`, `oci:${folder}:latest`));
  },
  async resolve({ run }, reference) {
    const inspect = ["inspect", "--tls-verify=false", "--format={{.Digest}}", `docker://${reference}`];
    return (await run("skopeo", skopeo(...inspect))).stdout.trim();
  },
  async listTags({ run }, repository) {
    const { stdout } = await run("skopeo", skopeo("list-tags", "--tls-verify=false", `docker://${repository}`));
    return z.object({ Tags: z.array(z.string()) }).parse(JSON.parse(stdout)).Tags;
  },
  async tag({ run }, source, tag) {
    const target = source.replace(/:[^:/]+$/, `:${tag}`);
    await run("skopeo", skopeo("copy", ...insecure, "--all", `docker://${source}`, `docker://${target}`));
  },
  async copy({ run }, source, target) {
    await run("skopeo", skopeo("copy", ...insecure, "--all", `docker://${source}`, `docker://${target}`));
  },
  async deleteManifest({ run }, reference) {
    await run("skopeo", skopeo("delete", "--tls-verify=false", `docker://${reference}`));
  },
});

describe("skopeo", () => {
  test("push: an archive of docker, as a Docker manifest", async ({ folder, run, reference, repository }) => {
    const pushed = await image();
    await writeDockerArchive(join(folder, "image.tar"), pushed, "moorage.test/image:v1");
    const target = `docker://${reference("v1")}`;
    await run("skopeo", skopeo("copy", ...insecure, "--format=v2s2", "docker-archive:image.tar", target));
    const { contentType, config, layers } = await readManifest(repository, "v1");
    expect(contentType).toBe("application/vnd.docker.distribution.manifest.v2+json");
    expect(config?.mediaType).toBe("application/vnd.docker.container.image.v1+json");
    for (const [at, { digest }] of layers.entries()) {
      expect(await diffIdOf(await readBlob(repository, digest))).toBe(pushed.layers[at]?.diffId);
    }
  });

  test("push: a large layer, as one PATCH", async ({ folder, run, reference, repository, wire }) => {
    const pushed = await image({ layerBytes: [40 * MiB] });
    await writeLayout(join(folder, "layout"), pushed);
    const target = `docker://${reference("v1", { host: wire.host })}`;
    await run("skopeo", skopeo("copy", ...insecure, "oci:layout:latest", target));
    const sent = requests(wire, "PATCH", /uploads/).map(({ requestHeaders }) => requestHeaders["content-range"]);
    expect(sent).toEqual([undefined, undefined]);
    await expectStored(repository, "v1", pushed);
  });

  test("pull: what an image is, without its layers", async ({ run, reference, repository }) => {
    const pushed = await image();
    await pushGraph(repository, pushed, "v1");
    const inspected = await run("skopeo", skopeo("inspect", "--tls-verify=false", `docker://${reference("v1")}`));
    expect(JSON.parse(inspected.stdout)).toMatchObject({
      Digest: pushed.descriptor.digest,
      RepoTags: ["v1"],
      Layers: pushed.layers.map(({ descriptor }) => descriptor.digest),
    });
  });

  test("copy: layers that it has seen before are mounted", async ({ run, reference, registry, repository, wire }) => {
    const { host } = wire;
    const pushed = await image();
    await pushGraph(repository, pushed, "v1");
    const source = `docker://${reference("v1", { host })}`;
    await run("skopeo", skopeo("copy", ...insecure, source, "oci:pulled:latest"));
    const copy = registry.repository(`${repository.name}-copy`);
    await run("skopeo", skopeo("copy", ...insecure, source, `docker://${reference("v1", { host, name: copy.name })}`));
    const layers = pushed.layers.map(({ descriptor }) => descriptor.digest);
    expect(mountedDigests(wire)).toEqual(expect.arrayContaining(layers));
    expect(repositoriesOfTokens(wire)).toContainEqual(expect.arrayContaining([repository.name, copy.name]));
    await expectStored(copy, "v1", pushed);
  });

  test("copy: layers of a repository that it may not pull are sent, not mounted", async ({
    accounts,
    login,
    run,
    reference,
    registry,
    repository,
    wire,
  }) => {
    const { host } = wire;
    const pushed = await image();
    await pushGraph(repository, pushed, "v1");
    await run("skopeo", skopeo("copy", ...insecure, `docker://${reference("v1", { host })}`, "oci:pulled:latest"));
    const copy = registry.repository(`${repository.name}-copy`);
    await login(host, (await accounts.robot(`${copy.name}:pull,push`)).credentials);
    const target = `docker://${reference("v1", { host, name: copy.name })}`;
    await run("skopeo", skopeo("copy", ...insecure, "oci:pulled:latest", target));
    await expectStored(copy, "v1", pushed);
    expect(refusedUses(wire, repository.name)).not.toEqual([]);
    expect(mountedDigests(wire)).toEqual([]);
  });

  test("copy: all tags of a repository, synchronised to a folder and back", async ({
    folder,
    run,
    registry,
    repository,
    target,
  }) => {
    const [one, two] = [await image(), await image()];
    await pushGraph(repository, one, "one");
    await pushGraph(repository, two, "two");
    const { name } = repository;
    const source = ["--src", "docker", "--dest", "dir", `${target.host}/${name}`, "folder"];
    await run("skopeo", skopeo("sync", ...insecure, ...source));
    const last = name.slice(name.lastIndexOf("/") + 1);
    expect((await readdir(join(folder, "folder"))).toSorted()).toEqual([`${last}:one`, `${last}:two`]);
    const copy = registry.repository(`${name}-copy`);
    const back = ["--src", "dir", "--dest", "docker", "folder", `${target.host}/${copy.name}`];
    await run("skopeo", skopeo("sync", ...insecure, ...back));
    await expectStored(registry.repository(`${copy.name}/${last}`), "two", two);
  });

  test("delete: by tag, which takes the manifest", async ({ run, reference, repository }) => {
    const pushed = await image();
    for (const tag of ["v1", "v2"]) await pushGraph(repository, pushed, tag);
    await run("skopeo", skopeo("delete", "--tls-verify=false", `docker://${reference("v1")}`));
    expect(await readTags(repository)).toEqual([]);
  });
});
