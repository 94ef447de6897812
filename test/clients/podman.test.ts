import { randomBytes } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { z } from "zod";
import { accessPromises } from "./carrier.ts";
import { clientTest } from "./client-test.ts";
import type { Login, Logout } from "./client-test.ts";
import type { CommandOptions } from "./command.ts";
import type { Engine } from "./engine.ts";
import { engineCarrier, enginePromises } from "./engine.ts";
import { image, MiB } from "./image.ts";
import { pushManyTags } from "./push.ts";
import { mountNamespace, overlayFilesystem, program, root } from "./requirement.ts";
import { readManifest } from "./stored.ts";
import { requests } from "./wire.ts";

type Podman = (args: readonly string[], options?: CommandOptions) => Promise<string>;

function loginWith(podman: Podman): Login {
  return async (host, { user, password }) => {
    const login = ["login", "--tls-verify=false", "--username", user, "--password-stdin", host];
    await podman(login, { input: password });
  };
}

const test = clientTest(program("podman"), root, mountNamespace)
  .extend("podman", ({ folder, run }): Podman => {
    // A store of the test's own that needs neither a cgroup manager nor a file system of the kernel.
    const store = ["--root", join(folder, "store"), "--runroot", join(folder, "run"), "--storage-driver=vfs"];
    const system = ["--cgroup-manager=cgroupfs", "--events-backend=file", "--tmpdir", join(folder, "libpod")];
    return async (args, options) => (await run("podman", [...store, ...system, ...args], options)).stdout;
  })
  .extend("login", ({ podman }) => loginWith(podman))
  .extend("logout", ({ podman }): Logout => {
    return async (host) => {
      await podman(["logout", host]);
    };
  })
  .extend("engine", ({ podman }): Engine => {
    return {
      async load(archive) {
        await podman(["load", "--input", archive]);
      },
      async push(reference) {
        await podman(["push", "--tls-verify=false", reference]);
      },
      async pull(reference) {
        await podman(["pull", "--tls-verify=false", reference]);
      },
      async remove(reference) {
        await podman(["rmi", "--force", reference]);
      },
      async tag(source, target) {
        await podman(["tag", source, target]);
      },
      async diffIds(reference) {
        const format = "--format={{range .RootFS.Layers}}{{.}} {{end}}";
        return (await podman(["image", "inspect", format, reference])).trim().split(" ");
      },
    };
  })
  .extend("carrier", ({ engine, folder }) => engineCarrier(engine, folder));

enginePromises(test, { name: "podman", largeLayerBytes: 100 * MiB });
accessPromises(test, {
  name: "podman",
  loginAsks: true,
  takesIdentityTokens: true,
  tokensBy: "GET",
  renewsTokenAt: null,
});

/** A store that fetches of a layer only the files that it lacks. */
const partialTest = clientTest(program("podman"), root, overlayFilesystem)
  .extend("podman", async ({ folder, run }): Promise<Podman> => {
    const configuration = join(folder, "storage.conf");
    const pullOptions =
      'pull_options = { enable_partial_images = "true", use_hard_links = "false", ostree_repos = "" }';
    const paths = `graphroot = "${join(folder, "store")}"\nrunroot = "${join(folder, "run")}"`;
    await writeFile(configuration, `[storage]\ndriver = "overlay"\n${paths}\n[storage.options]\n${pullOptions}\n`);
    const env = { CONTAINERS_STORAGE_CONF: configuration };
    const system = ["--cgroup-manager=cgroupfs", "--events-backend=file", "--tmpdir", join(folder, "libpod")];
    return async (args, options) => (await run("podman", [...system, ...args], { ...options, env })).stdout;
  })
  .extend("login", ({ podman }) => loginWith(podman));

describe("podman", () => {
  test("list: tags", async ({ podman, repository, target }) => {
    const tags = await pushManyTags(repository, await image({ layerBytes: [10] }), 40);
    const search = ["search", "--tls-verify=false", "--list-tags", "--limit=100", "--format=json"];
    const listed = await podman([...search, `${target.host}/${repository.name}`]);
    expect(z.array(z.object({ Tags: z.array(z.string()) })).parse(JSON.parse(listed))).toMatchObject([{ Tags: tags }]);
  });

  partialTest("pull: the parts of a layer that are new", async ({ folder, podman, reference, repository, wire }) => {
    const { host } = wire;
    const context = join(folder, "context");
    await mkdir(context);
    await writeFile(join(context, "Containerfile"), "FROM scratch\nCOPY *.bin /\n");
    for (const tag of ["v1", "v2"]) {
      // Every tenth file changes, so the new parts lie apart.
      for (let file = 0; file < 40; file++) {
        if (tag === "v1" || file % 10 === 0) await writeFile(join(context, `${file}.bin`), randomBytes(100_000));
      }
      await podman(["build", "--tag", reference(tag, { host }), context]);
      const push = ["push", "--tls-verify=false", "--compression-format=zstd:chunked"];
      await podman([...push, reference(tag, { host })]);
    }
    const built = await podman(["image", "inspect", "--format={{.RootFS.Layers}}", reference("v2", { host })]);
    await podman(["rmi", "--force", "--all"]);
    for (const tag of ["v1", "v2"]) await podman(["pull", "--tls-verify=false", reference(tag, { host })]);
    const asked = requests(wire, "GET", /blobs/).filter(({ requestHeaders }) => requestHeaders.range?.includes(","));
    // The registry answers a few parts as such, and very many with the whole layer: podman takes both.
    expect(asked.map(({ status }) => status)).toEqual([200, 206]);
    expect(asked[1]?.responseHeaders["content-type"]).toMatch(/^multipart\/byteranges/);
    expect(await podman(["image", "inspect", "--format={{.RootFS.Layers}}", reference("v2", { host })])).toBe(built);
    expect((await readManifest(repository, "v2")).layers).toHaveLength(1);
  });
});
