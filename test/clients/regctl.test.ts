import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { clientTest } from "./client-test.ts";
import type { Connect, Login, Logout, Run } from "./client-test.ts";
import { image, MiB, writeLayout } from "./image.ts";
import { layoutClientPromises } from "./layout-client.ts";
import { pushGraph } from "./push.ts";
import { program } from "./requirement.ts";
import { expectLayout, expectStored, hasBlob, readBlob, readManifest, readReferrers } from "./stored.ts";
import { requests } from "./wire.ts";

const test = clientTest(program("regctl"))
  .extend(
    "connect",
    ({ run }): Connect =>
      (host) =>
        configure(run, host),
  )
  .extend("login", ({ run }): Login => {
    return async (host, { user, password }) => {
      await run("regctl", ["registry", "login", host, "--user", user, "--pass-stdin"], { input: password });
    };
  })
  .extend("logout", ({ run }): Logout => {
    return async (host) => {
      await run("regctl", ["registry", "logout", host]);
    };
  });

async function configure(run: Run, host: string, ...options: string[]): Promise<void> {
  await run("regctl", ["registry", "set", host, "--tls", "disabled", "--skip-check", ...options]);
}

/** Every blob goes up in chunks of 1 MiB, whatever its size. */
const chunked = ["--blob-chunk", String(MiB), "--blob-max", "1"];

layoutClientPromises(test, {
  name: "regctl",
  mounts: true,
  loginAsks: true,
  renewsTokenAt: null,
  async push({ run }, folder, _graph, reference) {
    await run("regctl", ["image", "copy", `ocidir://${folder}:latest`, reference]);
  },
  async pull({ run }, reference, _graph, folder) {
    await run("regctl", ["image", "copy", reference, `ocidir://${folder}:latest`]);
  },
  async resolve({ run }, reference) {
    return (await run("regctl", ["image", "digest", reference])).stdout.trim();
  },
  async listTags({ run }, repository) {
    return (await run("regctl", ["tag", "ls", repository])).stdout.trim().split("\n");
  },
  async tag({ run }, source, tag) {
    await run("regctl", ["image", "copy", source, source.replace(/:[^:/]+$/, `:${tag}`)]);
  },
  async copy({ run }, source, target) {
    await run("regctl", ["image", "copy", source, target]);
  },
  async deleteManifest({ run }, reference) {
    await run("regctl", ["manifest", "delete", reference]);
  },
  async deleteTag({ run }, reference) {
    await run("regctl", ["tag", "delete", reference]);
  },
});

describe("regctl", () => {
  test("push: what is accepted but unwise is shown as a warning", async ({ run, reference, repository }) => {
    const pushed = await image();
    await pushGraph(repository, pushed, "v1");
    const type = pushed.descriptor.mediaType;
    const input = new TextDecoder().decode(pushed.bytes).replace(`"mediaType":"${type}",`, "");
    const { stderr } = await run("regctl", ["manifest", "put", "--content-type", type, reference("v2")], { input });
    expect(stderr).toContain("the manifest has no mediaType field");
    expect(new TextDecoder().decode((await readManifest(repository, "v2")).bytes)).toBe(input);
  });

  test("chunks: layers in chunks of 1 MiB", async ({ folder, run, reference, repository, wire }) => {
    const pushed = await image({ layerBytes: [4.5 * MiB, 20 * MiB, 100] });
    await writeLayout(join(folder, "layout"), pushed);
    await configure(run, wire.host, ...chunked);
    await run("regctl", ["image", "copy", "ocidir://layout:latest", reference("v1", { host: wire.host })]);
    expect(requests(wire, "PATCH", /./).length).toBeGreaterThan(3);
    await expectStored(repository, "v1", pushed);
  });

  test("chunks: a broken connection is resumed", async ({ folder, run, reference, repository, wire }) => {
    const pushed = await image({ layerBytes: [20 * MiB] });
    await writeLayout(join(folder, "layout"), pushed);
    await configure(run, wire.host, ...chunked);
    wire.breakOnce({ method: "PATCH", path: /uploads/, afterBytes: 300_000 });
    await run("regctl", ["image", "copy", "ocidir://layout:latest", reference("v1", { host: wire.host })]);
    expect(wire.broken).toBe(1);
    // One upload for each blob: the layer's went on where it was broken, told so by a 416 or the upload's status.
    expect(requests(wire, "POST", /uploads/).filter(({ status }) => status === 202)).toHaveLength(2);
    await expectStored(repository, "v1", pushed);
  });

  test("sha512: an image of sha512 digests, pushed and pulled", async ({ folder, run, reference, repository }) => {
    const pushed = await image({ algorithm: "sha512" });
    await writeLayout(join(folder, "layout"), pushed);
    await run("regctl", ["image", "copy", "ocidir://layout:latest", reference("v1")]);
    await expectStored(repository, "v1", pushed);
    await run("regctl", ["image", "copy", reference(pushed.descriptor.digest), "ocidir://pulled:latest"]);
    await expectLayout(join(folder, "pulled"), pushed);
  });

  test("sha512: in chunks of 1 MiB", async ({ folder, run, reference, repository, wire }) => {
    const pushed = await image({ algorithm: "sha512", layerBytes: [9 * MiB] });
    await writeLayout(join(folder, "layout"), pushed);
    await configure(run, wire.host, ...chunked);
    await run("regctl", ["image", "copy", "ocidir://layout:latest", reference("v1", { host: wire.host })]);
    expect(requests(wire, "PATCH", /./).length).toBeGreaterThan(1);
    await expectStored(repository, "v1", pushed);
  });

  test("push: a blob whose digest is not known before", async ({ run, repository, target }) => {
    const put = await run("regctl", ["blob", "put", `${target.host}/${repository.name}`], { input: "moorage" });
    const digest = put.stdout.trim();
    expect(Buffer.from(await readBlob(repository, digest)).toString()).toBe("moorage");
  });

  test("pull: an image exported as an archive, imported again", async ({ run, reference, repository }) => {
    const pushed = await image();
    await pushGraph(repository, pushed, "v1");
    await run("regctl", ["image", "export", reference("v1"), "image.tar"]);
    await run("regctl", ["image", "import", reference("v2"), "image.tar"]);
    await expectStored(repository, "v2", pushed);
  });

  test("delete: a blob", async ({ run, repository, target }) => {
    const pushed = await repository.pushBlob(new Uint8Array([1, 2, 3]));
    await run("regctl", ["blob", "delete", `${target.host}/${repository.name}`, pushed.digest]);
    expect(await hasBlob(repository, pushed.digest)).toBe(false);
  });

  test("attach: an SBOM to an image", async ({ run, reference, repository }) => {
    const subject = await image();
    await pushGraph(repository, subject, "v1");
    const type = "application/spdx+json";
    await run("regctl", ["artifact", "put", "--artifact-type", type, "--subject", reference("v1")], { input: "{}" });
    const referrers = await readReferrers(repository, subject.descriptor.digest);
    expect(referrers.map(({ artifactType }) => artifactType)).toEqual([type]);
    const attached = await readManifest(repository, referrers[0]?.digest ?? "");
    expect(attached.subject).toEqual(subject.descriptor);
  });

  test("discover: referrers, all and of one type", async ({ folder, run, reference, repository }) => {
    await pushGraph(repository, await image(), "v1");
    const types = ["application/spdx+json", "application/vnd.example.scan"];
    for (const type of types) {
      const input = `{"type":"${type}"}`;
      await run("regctl", ["artifact", "put", "--artifact-type", type, "--subject", reference("v1")], { input });
    }
    const list = async (...filter: string[]) => {
      const format = "{{range .Descriptors}}{{.ArtifactType}} {{end}}";
      const listed = await run("regctl", ["artifact", "list", "--format", format, ...filter, reference("v1")]);
      return listed.stdout.trim().split(" ").toSorted();
    };
    expect(await list()).toEqual(types);
    expect(await list("--filter-artifact-type", types[1] ?? "")).toEqual([types[1]]);
    expect((await run("regctl", ["artifact", "tree", reference("v1")])).stdout).toContain(types[0]);
    const get = ["artifact", "get", "--subject", reference("v1"), "--filter-artifact-type", types[0] ?? ""];
    expect((await run("regctl", get)).stdout).toContain(`{"type":"${types[0]}"}`);
    await run("regctl", ["image", "copy", "--referrers", reference("v1"), "ocidir://with-referrers:v1"]);
    expect(await readFile(join(folder, "with-referrers", "index.json"), "utf8")).toContain("sha256-");
  });

  test("copy: an image together with its referrers", async ({ run, reference, registry, repository }) => {
    const subject = await image();
    await pushGraph(repository, subject, "v1");
    const put = ["artifact", "put", "--artifact-type", "application/spdx+json", "--subject", reference("v1")];
    await run("regctl", put, { input: "{}" });
    const copy = registry.repository(`${repository.name}-copy`);
    await run("regctl", ["image", "copy", "--referrers", reference("v1"), reference("v1", { name: copy.name })]);
    const source = await readReferrers(repository, subject.descriptor.digest);
    expect(source).toHaveLength(1);
    expect(await readReferrers(copy, subject.descriptor.digest)).toEqual(source);
  });
});
