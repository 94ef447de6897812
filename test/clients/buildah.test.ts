import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { accessPromises } from "./carrier.ts";
import { clientTest } from "./client-test.ts";
import type { Login, Logout } from "./client-test.ts";
import type { Engine } from "./engine.ts";
import { engineCarrier, enginePromises } from "./engine.ts";
import { MiB } from "./image.ts";
import { mountNamespace, program, root } from "./requirement.ts";
import { readManifest, readTags } from "./stored.ts";

const test = clientTest(program("buildah"), root, mountNamespace)
  .extend("store", ({ folder }) => {
    return ["--root", join(folder, "store"), "--runroot", join(folder, "run"), "--storage-driver=vfs"];
  })
  .extend("buildah", ({ run, store }) => {
    return async (...args: string[]) => (await run("buildah", [...store, ...args])).stdout;
  })
  .extend("login", ({ run, store }): Login => {
    return async (host, { user, password }) => {
      const login = ["login", "--tls-verify=false", "--username", user, "--password-stdin", host];
      await run("buildah", [...store, ...login], { input: password });
    };
  })
  .extend("logout", ({ buildah }): Logout => {
    return async (host) => {
      await buildah("logout", host);
    };
  })
  .extend("engine", ({ buildah }): Engine => {
    return {
      async load(archive) {
        await buildah("pull", "--quiet", `docker-archive:${archive}`);
      },
      async push(reference) {
        await buildah("push", "--tls-verify=false", reference);
      },
      async pull(reference) {
        await buildah("pull", "--policy=always", "--tls-verify=false", reference);
      },
      async remove(reference) {
        await buildah("rmi", "--force", reference);
      },
      async tag(source, target) {
        await buildah("tag", source, target);
      },
      async diffIds(reference) {
        const format = "--format={{range .OCIv1.RootFS.DiffIDs}}{{.}} {{end}}";
        return (await buildah("inspect", "--type=image", format, reference)).trim().split(" ");
      },
    };
  })
  .extend("carrier", ({ engine, folder }) => engineCarrier(engine, folder));

enginePromises(test, { name: "buildah", largeLayerBytes: 30 * MiB });
accessPromises(test, {
  name: "buildah",
  loginAsks: true,
  takesIdentityTokens: true,
  tokensBy: "GET",
  renewsTokenAt: null,
});

describe("buildah", () => {
  test("push: an image built from a Containerfile", async ({ buildah, folder, reference, repository }) => {
    await mkdir(join(folder, "context"));
    await writeFile(join(folder, "context", "hello.txt"), "hello\n");
    await writeFile(join(folder, "context", "Containerfile"), "FROM scratch\nCOPY hello.txt /\nLABEL made=here\n");
    await buildah("build", "--isolation=chroot", "--tag", reference("v1"), join(folder, "context"));
    await buildah("push", "--tls-verify=false", reference("v1"));
    const { layers, contentType } = await readManifest(repository, "v1");
    expect(layers).toHaveLength(1);
    expect(contentType).toBe("application/vnd.oci.image.manifest.v1+json");
  });

  test("push: an index put together from two images", async ({ buildah, folder, reference, repository }) => {
    const names: string[] = [];
    for (const architecture of ["amd64", "arm64"]) {
      const name = `localhost/${architecture}:v1`;
      const container = (await buildah("from", "--arch", architecture, "scratch")).trim();
      await writeFile(join(folder, architecture), architecture);
      await buildah("copy", container, join(folder, architecture), "/");
      await buildah("commit", container, name);
      names.push(name);
    }
    await buildah("manifest", "create", "both", ...names);
    await buildah(
      "manifest",
      "push",
      "--tls-verify=false",
      "--format=oci",
      "--all",
      "both",
      `docker://${reference("v1")}`,
    );
    const { manifests, contentType } = await readManifest(repository, "v1");
    expect(contentType).toBe("application/vnd.oci.image.index.v1+json");
    expect(manifests).toHaveLength(2);
    for (const { digest } of manifests) expect((await readManifest(repository, digest)).layers).toHaveLength(1);
    expect(await readTags(repository)).toEqual(["v1"]);
  });

  test("push: in the Docker format", async ({ buildah, reference, repository }) => {
    const container = (await buildah("from", "scratch")).trim();
    await buildah("config", "--label", "made=here", container);
    await buildah("commit", "--format=docker", container, reference("v1"));
    await buildah("push", "--tls-verify=false", "--format=v2s2", reference("v1"));
    const { contentType } = await readManifest(repository, "v1");
    expect(contentType).toBe("application/vnd.docker.distribution.manifest.v2+json");
  });
});
