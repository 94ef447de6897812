import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { z } from "zod";
import { utf8 } from "../support/client.ts";
import { clientTest } from "./client-test.ts";
import type { Login, Logout, Run } from "./client-test.ts";
import { image, MiB, writeLayout } from "./image.ts";
import { layoutClientPromises } from "./layout-client.ts";
import { pushGraph, pushReferrer } from "./push.ts";
import { libraries, librariesProgram } from "./requirement.ts";
import {
  descriptor,
  expectLayout,
  expectSameBytes,
  expectStored,
  hasBlob,
  readBlob,
  readManifest,
  readReferrers,
} from "./stored.ts";
import type { StoredDescriptor } from "./stored.ts";
import { mountedDigests, refusedUses, requests } from "./wire.ts";

async function oras(run: Run, ...args: string[]): Promise<string> {
  return (await run(librariesProgram, ["oras", ...args])).stdout;
}

async function discover(run: Run, ...args: string[]): Promise<StoredDescriptor[]> {
  return z.array(descriptor).parse(JSON.parse(await oras(run, "discover", ...args)));
}

function digestsOf(descriptors: readonly { readonly digest: string }[]): string[] {
  return descriptors.map(({ digest }) => digest).toSorted();
}

const test = clientTest(libraries)
  .extend("login", ({ run }): Login => {
    return async (host, { user, password }) => {
      await run(librariesProgram, ["oras", "login", "-username", user, host], { input: password });
    };
  })
  .extend("logout", ({ run }): Logout => {
    return async (host) => {
      await run(librariesProgram, ["oras", "logout", host]);
    };
  });
const sbom = "application/spdx+json";
const scan = "application/vnd.example.scan";

layoutClientPromises(test, {
  name: "oras-go",
  mounts: true,
  loginAsks: true,
  renewsTokenAt: { method: "PUT", path: /manifests/ },
  async push({ run }, folder, _graph, reference) {
    await oras(run, "copy", `oci:${folder}:latest`, reference);
  },
  async pull({ run }, reference, _graph, folder) {
    await oras(run, "copy", reference, `oci:${folder}:latest`);
  },
  async resolve({ run }, reference) {
    return descriptor.parse(JSON.parse(await oras(run, "resolve", reference))).digest;
  },
  async listTags({ run }, repository) {
    return z.array(z.string()).parse(JSON.parse(await oras(run, "tags", "-page-size", "100", repository)));
  },
  async tag({ run }, source, tag) {
    await oras(run, "tag", source, tag);
  },
  async copy({ run }, source, target) {
    await oras(run, "copy", source, target);
  },
  async deleteManifest({ run }, reference) {
    await oras(run, "delete", reference);
  },
});

describe("oras-go", () => {
  test("push: files as an artifact, pulled back", async ({ folder, run, reference, repository }) => {
    await writeFile(join(folder, "readme.md"), "# Hello\n");
    await writeFile(join(folder, "data.bin"), Buffer.alloc(3 * MiB, "moorage"));
    const files = ["readme.md:text/markdown", "data.bin:application/octet-stream"];
    await oras(run, "push", "-artifact-type", "application/vnd.example.files", reference("v1"), ...files);
    const { artifactType, config } = await readManifest(repository, "v1");
    expect(artifactType).toBe("application/vnd.example.files");
    expect(config?.mediaType).toBe("application/vnd.oci.empty.v1+json");
    await oras(run, "pull", "-output", "pulled", reference("v1"));
    for (const name of ["readme.md", "data.bin"]) {
      expectSameBytes(await readFile(join(folder, "pulled", name)), await readFile(join(folder, name)));
    }
  });

  test("push: a blob, and a part of it back", async ({ folder, run, reference, repository, target }) => {
    const bytes = Buffer.alloc(2 * MiB, "0123456789");
    await writeFile(join(folder, "blob"), bytes);
    const pushed = await oras(run, "blob-push", `${target.host}/${repository.name}`, "blob");
    const { digest } = descriptor.parse(JSON.parse(pushed));
    expectSameBytes(await readBlob(repository, digest), bytes);
    expectSameBytes(Buffer.from(await oras(run, "blob-fetch", reference(digest))), bytes);
    const offset = String(bytes.length - 12);
    expect(await oras(run, "blob-seek", "-offset", offset, reference(digest))).toBe(bytes.subarray(-12).toString());
  });

  test("sha512: an image of sha512 digests, pushed and pulled", async ({ folder, run, reference, repository }) => {
    const pushed = await image({ algorithm: "sha512" });
    await writeLayout(join(folder, "layout"), pushed);
    await oras(run, "copy", "oci:layout:latest", reference(pushed.descriptor.digest));
    await expectStored(repository, pushed.descriptor.digest, pushed);
    await oras(run, "copy", reference(pushed.descriptor.digest), "oci:pulled:latest");
    await expectLayout(join(folder, "pulled"), pushed);
  });

  test("attach: an SBOM to an image", async ({ folder, run, reference, repository }) => {
    const subject = await image();
    await pushGraph(repository, subject, "v1");
    await writeFile(join(folder, "sbom.json"), "{}");
    const printed = await oras(run, "attach", "-artifact-type", sbom, reference("v1"), `sbom.json:${sbom}`);
    const { digest } = descriptor.parse(JSON.parse(printed));
    const referrers = await readReferrers(repository, subject.descriptor.digest);
    expect(referrers).toMatchObject([{ digest, artifactType: sbom }]);
    expect((await readManifest(repository, digest)).subject).toEqual(subject.descriptor);
  });

  test("attach: without the fallback tag of registries that know no referrers", async ({
    folder,
    run,
    reference,
    wire,
  }) => {
    await writeFile(join(folder, "sbom.json"), "{}");
    const name = reference("v1", { host: wire.host });
    await oras(run, "push", name, `sbom.json:${sbom}`);
    await oras(run, "attach", "-artifact-type", sbom, name, `sbom.json:${sbom}`);
    expect(requests(wire, "PUT", /manifests\/sha256-/)).toEqual([]);
  });

  test("discover: referrers, all and of one type", async ({ run, reference, repository }) => {
    const subject = await image();
    await pushGraph(repository, subject, "v1");
    const first = await pushReferrer(repository, subject, sbom);
    const second = await pushReferrer(repository, subject, scan);
    expect(digestsOf(await discover(run, reference("v1")))).toEqual(digestsOf([first, second]));
    expect(digestsOf(await discover(run, "-artifact-type", scan, reference("v1")))).toEqual([second.digest]);
  });

  test("discover: an empty list for a subject without referrers", async ({ run, reference, repository }) => {
    await pushGraph(repository, await image(), "v1");
    expect(await discover(run, reference("v1"))).toEqual([]);
  });

  test("discover: more referrers than an answer holds", async ({ run, reference, repository, wire }) => {
    const subject = await image();
    await pushGraph(repository, subject, "v1");
    // Annotations are part of the list, whose pages end at 4 MiB.
    const annotations = { note: "n".repeat(400 * 1024) };
    const pushed: string[] = [];
    for (let count = 0; count < 12; count++) {
      pushed.push((await pushReferrer(repository, subject, `${scan}${count}`, annotations)).digest);
    }
    const found = await discover(run, reference("v1", { host: wire.host }));
    expect(digestsOf(found)).toEqual(pushed.toSorted());
    expect(requests(wire, "GET", /referrers/).length).toBeGreaterThan(1);
  });

  test("copy: an image with its referrers and theirs", async ({ run, reference, registry, repository }) => {
    const subject = await image();
    await pushGraph(repository, subject, "v1");
    const first = await pushReferrer(repository, subject, sbom);
    const second = await pushReferrer(repository, { descriptor: first }, scan);
    const copy = registry.repository(`${repository.name}-copy`);
    await oras(run, "copy", "-recursive", reference("v1"), reference("v1", { name: copy.name }));
    await expectStored(copy, "v1", subject);
    const found = await discover(run, "-recursive", reference("v1", { name: copy.name }));
    expect(found.map(({ digest }) => digest)).toEqual([first.digest, second.digest]);
  });

  test("copy: layers of a repository that it may not pull are sent, not mounted", async ({
    accounts,
    folder,
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
    await writeLayout(join(folder, "layout"), pushed);
    const copy = registry.repository(`${repository.name}-copy`);
    await login(host, (await accounts.robot(`${copy.name}:pull,push`)).credentials);
    const target = reference("v1", { host, name: copy.name });
    await oras(run, "copy", "-mount-from", repository.name, "oci:layout:latest", target);
    await expectStored(copy, "v1", pushed);
    expect(refusedUses(wire, repository.name)).not.toEqual([]);
    expect(mountedDigests(wire)).toEqual([]);
  });

  test("list: repositories, a few at a time", async ({ run, target, registry, repository }) => {
    const names = ["a", "b", "c"].map((each) => `${repository.name}/${each}`);
    const pushed = await image({ layerBytes: [10] });
    for (const name of names) await pushGraph(registry.repository(name), pushed, "v1");
    const listed = z.array(z.string()).parse(JSON.parse(await oras(run, "repos", "-page-size", "2", target.host)));
    expect(listed).toEqual(expect.arrayContaining(names));
    expect(listed).toEqual(listed.toSorted());
  });

  test("delete: a referrer is no longer discovered", async ({ run, reference, repository }) => {
    const subject = await image();
    await pushGraph(repository, subject, "v1");
    const attached = await pushReferrer(repository, subject, sbom);
    await oras(run, "delete", reference(attached.digest));
    expect(await discover(run, reference("v1"))).toEqual([]);
  });

  test("delete: a blob", async ({ run, reference, repository }) => {
    const { digest } = await repository.pushBlob(utf8("unwanted"));
    await oras(run, "delete", "-blob", reference(digest));
    expect(await hasBlob(repository, digest)).toBe(false);
  });
});
