import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { accessPromises } from "./carrier.ts";
import type { Carrier } from "./carrier.ts";
import { cleanEnvironment, clientTest } from "./client-test.ts";
import type { Login } from "./client-test.ts";
import { startDaemon } from "./command.ts";
import { writeDockerLogin } from "./docker-login.ts";
import { image as randomImage } from "./image.ts";
import { pushGraph } from "./push.ts";
import { findProgram, mountNamespace, program, root } from "./requirement.ts";
import { readBlob, readManifest } from "./stored.ts";
import { requests } from "./wire.ts";

const attestation = "application/vnd.in-toto+json";

const test = clientTest(program("buildkitd"), program("buildctl"), program("runc"), root, mountNamespace)
  .extend("address", { scope: "file" }, async ({ fileFolder }, { onCleanup }) => {
    const address = `unix://${join(fileFolder, "buildkitd.sock")}`;
    const daemon = await startDaemon(
      (await findProgram("buildkitd")) ?? "buildkitd",
      [
        `--addr=${address}`,
        `--root=${join(fileFolder, "root")}`,
        "--oci-worker=true",
        "--containerd-worker=false",
        "--oci-worker-snapshotter=native",
        "--oci-worker-net=host",
        "--oci-worker-gc=false",
      ],
      { env: cleanEnvironment(fileFolder), ready: /running server on/ },
    );
    onCleanup(() => daemon.stop());
    return address;
  })
  .extend("context", async ({ folder }) => {
    await mkdir(join(folder, "context"));
    await writeFile(join(folder, "context", "hello.txt"), `hello from ${folder}\n`);
    await writeFile(join(folder, "context", "Dockerfile"), "FROM scratch\nCOPY hello.txt /\nCOPY hello.txt /again\n");
    return "context";
  })
  .extend("build", ({ address, context, run }) => {
    return async (...args: string[]) => {
      const local = [`--local=context=${context}`, `--local=dockerfile=${context}`];
      const build = ["build", "--progress=plain", "--frontend=dockerfile.v0", ...local];
      return (await run("buildctl", ["--addr", address, ...build, ...args])).stderr;
    };
  })
  // It has no login of its own: it takes docker's.
  .extend("login", ({ folder }): Login => {
    return async (host, { user, password }) => {
      await writeDockerLogin(folder, host, { auth: btoa(`${user}:${password}`) });
    };
  })
  .extend(
    "image",
    ({ reference }) =>
      (tag: string) =>
        output(reference(tag)),
  )
  .extend("carrier", ({ build, context, folder }): Carrier => {
    const base = randomImage();
    return {
      async put(repository) {
        await pushGraph(repository, await base, "v1");
      },
      async push(host, name) {
        await build("--output", output(`${host}/${name}:v2`));
        return async (repository) => {
          const { layers } = await readManifest(repository, "v2");
          expect(layers).toHaveLength(2);
          for (const { digest, size } of layers) expect((await readBlob(repository, digest)).length).toBe(size);
        };
      },
      async pull(host, name) {
        await writeFile(join(folder, context, "Dockerfile"), `FROM ${host}/${name}:v1\nCOPY hello.txt /third\n`);
        await build("--output", `type=oci,dest=${join(folder, "built.tar")}`);
      },
    };
  });

accessPromises(test, {
  name: "buildkit",
  loginAsks: false,
  takesIdentityTokens: true,
  tokensBy: "POST",
  renewsTokenAt: { method: "PUT", path: /manifests/ },
});

function output(name: string): string {
  return `type=image,name=${name},push=true,registry.insecure=true`;
}

describe("buildkit", () => {
  test("push: an image that it built", async ({ build, image, repository }) => {
    await build("--output", image("v1"));
    const { layers } = await readManifest(repository, "v1");
    expect(layers).toHaveLength(2);
    for (const { digest, size } of layers) expect((await readBlob(repository, digest)).length).toBe(size);
  });

  test("push: an index for two platforms", async ({ build, image, repository }) => {
    await build("--output", image("v1"), "--opt=platform=linux/amd64,linux/arm64");
    const { manifests } = await readManifest(repository, "v1");
    expect(manifests).toHaveLength(2);
  });

  test("attach: attestations as images of an unknown platform in the index", async ({ build, image, repository }) => {
    await build("--output", image("v1"), "--opt=attest:provenance=mode=max");
    const { manifests } = await readManifest(repository, "v1");
    expect(manifests).toHaveLength(2);
    const [, attached] = manifests;
    const { layers } = await readManifest(repository, attached?.digest ?? "");
    expect(layers.map(({ mediaType }) => mediaType)).toEqual([attestation]);
  });

  for (const [how, manifest] of Object.entries({ "as an image": "true", "as an index of layers": "false" })) {
    test(`copy: the build cache ${how}, used again`, async ({ address, build, image, reference, repository, run }) => {
      const cache = `type=registry,ref=${reference("cache")},registry.insecure=true`;
      await build("--output", image("v1"), "--export-cache", `${cache},mode=max,image-manifest=${manifest}`);
      const stored = await readManifest(repository, "cache");
      const isImage = manifest === "true";
      expect(stored.layers.length > 0).toBe(isImage);
      expect(stored.manifests.length > 0).toBe(!isImage);
      await run("buildctl", ["--addr", address, "prune", "--all"]);
      expect(await build("--output", image("v2"), "--import-cache", cache)).toContain("CACHED");
      expect((await readManifest(repository, "v2")).layers).toHaveLength(2);
    });
  }

  test("pull: an image to build on", async ({ build, image, folder, context, reference, repository, wire }) => {
    await build("--output", image("base"));
    const base = reference("base", { host: wire.host });
    await writeFile(join(folder, context, "Dockerfile"), `FROM ${base}\nCOPY hello.txt /third\n`);
    await build("--output", image("v1"));
    expect((await readManifest(repository, "v1")).layers).toHaveLength(3);
    expect(requests(wire, "HEAD", /manifests/).map(({ status }) => status)).toContain(200);
  });
});
