import { join } from "node:path";
import { describe, expect } from "vitest";
import { z } from "zod";
import { basic } from "../support/credentials.ts";
import { wrongPassword } from "./accounts.ts";
import { accessPromises } from "./carrier.ts";
import { clientTest } from "./client-test.ts";
import type { Login, Logout } from "./client-test.ts";
import { startDockerDaemon } from "./docker-daemon.ts";
import { readDockerLogins } from "./docker-login.ts";
import type { Engine } from "./engine.ts";
import { engineCarrier, enginePromises, expectLayers } from "./engine.ts";
import { image, MiB, writeDockerArchive } from "./image.ts";
import { pushGraph } from "./push.ts";
import { mountNamespace, program, root } from "./requirement.ts";
import { readManifest } from "./stored.ts";
import { requests } from "./wire.ts";

const test = clientTest(program("docker"), program("dockerd"), program("containerd"), root, mountNamespace)
  .extend("host", { scope: "file" }, async ({ fileFolder }, { onCleanup }) => {
    const { daemon, host } = await startDockerDaemon(fileFolder);
    onCleanup(() => daemon.stop());
    return host;
  })
  .extend("docker", ({ host, run }) => {
    return async (...args: string[]) => (await run("docker", ["--host", host, ...args])).stdout;
  })
  .extend("login", ({ host: daemon, run }): Login => {
    return async (host, { user, password }) => {
      const login = ["login", "--username", user, "--password-stdin", host];
      await run("docker", ["--host", daemon, ...login], { input: password });
    };
  })
  .extend("logout", ({ docker }): Logout => {
    return async (host) => {
      await docker("logout", host);
    };
  })
  .extend("engine", ({ docker }): Engine => {
    return {
      async load(archive) {
        await docker("load", "--input", archive);
      },
      async push(reference) {
        await docker("push", reference);
      },
      async pull(reference) {
        await docker("pull", reference);
      },
      async remove(reference) {
        await docker("rmi", "--force", reference);
      },
      async tag(source, target) {
        await docker("tag", source, target);
      },
      async diffIds(reference) {
        const format = "--format={{range .RootFS.Layers}}{{.}} {{end}}";
        return (await docker("image", "inspect", format, reference)).trim().split(" ");
      },
    };
  })
  .extend("carrier", ({ engine, folder }) => engineCarrier(engine, folder));

enginePromises(test, { name: "docker", largeLayerBytes: 300 * MiB });
accessPromises(test, {
  name: "docker",
  loginAsks: true,
  takesIdentityTokens: true,
  tokensBy: "GET",
  renewsTokenAt: null,
});

describe("docker", () => {
  test("login: keeps an identity token, and neither password nor access token", async ({
    accounts,
    folder,
    login,
    strangerWire,
  }) => {
    await login(strangerWire.host, accounts.member);
    const kept = z
      .object({ auth: z.string(), identitytoken: z.string().min(1) })
      .parse((await readDockerLogins(folder)).auths[strangerWire.host]);
    expect(atob(kept.auth)).not.toContain(accounts.member.password);
    expect(kept.identitytoken).not.toContain(accounts.member.password);
  });

  test("login: who has guessed too often is told to wait", async ({ accounts, login, strangerWire }) => {
    const wrong = { ...accounts.member, password: wrongPassword };
    // As many as the brake of failed logins lets an address guess in a minute, and one more.
    for (let guess = 0; guess < 11; guess++) {
      await fetch(`http://${strangerWire.host}/token`, {
        headers: { Authorization: basic(wrong.user, wrong.password) },
      });
    }
    // Not as the member, whose access token the registry knows to be right.
    await expect(login(strangerWire.host, accounts.administrator)).rejects.toThrow(/toomanyrequests|too many/i);
  });

  test("push: each blob goes up as one PATCH without a length", async ({ docker, folder, reference, wire }) => {
    const name = reference("v1", { host: wire.host });
    const pushed = await image({ layerBytes: [9 * MiB] });
    await writeDockerArchive(join(folder, "image.tar"), pushed, name);
    await docker("load", "--input", join(folder, "image.tar"));
    await docker("push", name);
    const sent = requests(wire, "PATCH", /uploads/).map(({ requestHeaders }) => requestHeaders);
    expect(sent.map((headers) => headers["transfer-encoding"])).toEqual(["chunked", "chunked"]);
    expect(sent.map((headers) => headers["content-range"])).toEqual([undefined, undefined]);
  });

  test("push: a broken connection is tried again", async ({ docker, folder, reference, repository, wire }) => {
    const name = reference("v1", { host: wire.host });
    const pushed = await image({ layerBytes: [20 * MiB] });
    await writeDockerArchive(join(folder, "image.tar"), pushed, name);
    await docker("load", "--input", join(folder, "image.tar"));
    wire.breakOnce({ method: "PATCH", path: /uploads/, afterBytes: 12 * MiB });
    await docker("push", name);
    expect(wire.broken).toBe(1);
    await expectLayers(repository, "v1", pushed);
  });

  test("push: a manifest list of two images", async ({ docker, folder, reference, repository }) => {
    const images = [reference("amd64"), reference("arm64")];
    for (const name of images) {
      const [architecture] = name.split(":").slice(-1);
      const archive = join(folder, `${architecture}.tar`);
      await writeDockerArchive(archive, await image({ architecture: architecture ?? "" }), name);
      await docker("load", "--input", archive);
      await docker("push", name);
    }
    await docker("manifest", "create", "--insecure", reference("v1"), ...images);
    await docker("manifest", "push", "--insecure", reference("v1"));
    const { contentType, manifests } = await readManifest(repository, "v1");
    expect(contentType).toBe("application/vnd.docker.distribution.manifest.list.v2+json");
    const children = await Promise.all(["amd64", "arm64"].map((tag) => readManifest(repository, tag)));
    expect(manifests.map(({ digest }) => digest)).toEqual(children.map(({ digest }) => digest));
  });

  test("pull: a broken connection is resumed with a range", async ({ docker, reference, repository, wire }) => {
    await pushGraph(repository, await image({ layerBytes: [20 * MiB] }), "v1");
    wire.breakOnce({ method: "GET", path: /blobs/, afterBytes: 8 * MiB });
    await docker("pull", reference("v1", { host: wire.host }));
    expect(wire.broken).toBe(1);
    const ranges = requests(wire, "GET", /blobs/).filter(({ requestHeaders }) => requestHeaders.range !== undefined);
    expect(ranges.map(({ status }) => status)).toEqual([206]);
  });
});
