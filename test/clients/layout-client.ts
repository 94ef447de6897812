import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { accessPromises, refusal } from "./carrier.ts";
import type { Carrier } from "./carrier.ts";
import type { ClientTest, Reference, Run } from "./client-test.ts";
import { image, imagesSharingALayer, multiArchitecture, writeLayout } from "./image.ts";
import type { Graph } from "./image.ts";
import { pushGraph, pushManyTags } from "./push.ts";
import { expectLayout, expectStored, hasBlob, hasManifest, readTags } from "./stored.ts";
import { mountedDigests, repositoriesOfTokens } from "./wire.ts";
import type { Asked } from "./wire.ts";

/** What a promise gives to a client's commands. */
export interface ClientContext {
  readonly run: Run;
  readonly reference: Reference;
}

/**
 * A client that moves images between image layouts and registries. Its methods are the commands that its users type;
 * a folder is relative to the test's own, and a layout has its graph under the tag `latest`.
 */
export interface LayoutClient {
  readonly name: string;
  push(context: ClientContext, folder: string, graph: Graph, reference: string): Promise<void>;
  pull(context: ClientContext, reference: string, graph: Graph, folder: string): Promise<void>;
  /** The digest of what a tag names. */
  resolve(context: ClientContext, reference: string): Promise<string>;
  /** All tags of a repository, `host/name`. */
  listTags(context: ClientContext, repository: string): Promise<string[]>;
  tag(context: ClientContext, source: string, tag: string): Promise<void>;
  copy(context: ClientContext, source: string, target: string): Promise<void>;
  deleteManifest(context: ClientContext, reference: string): Promise<void>;
  /** Absent where the client can't delete a tag alone. */
  readonly deleteTag?: (context: ClientContext, reference: string) => Promise<void>;
  /** Whether a copy within a registry mounts blobs instead of sending them. */
  readonly mounts: boolean;
  /** Whether its login asks the registry; some only note what they are told. */
  readonly loginAsks: boolean;
  /** As of `CarrierOptions`. */
  readonly renewsTokenAt: Asked | null;
}

/** What users of any such client do, a test each. */
export function layoutClientPromises(test: ClientTest, client: LayoutClient): void {
  const { deleteTag } = client;
  const carrying = test.extend("carrier", ({ folder, run, reference }): Carrier => {
    const put = image();
    return {
      async put(repository) {
        await pushGraph(repository, await put, "v1");
      },
      async push(host, name) {
        const [pushed, layout] = [await image(), randomUUID()];
        await writeLayout(join(folder, layout), pushed);
        await client.push({ run, reference }, layout, pushed, reference("v2", { host, name }));
        return (repository) => expectStored(repository, "v2", pushed);
      },
      async pull(host, name) {
        const layout = randomUUID();
        await client.pull({ run, reference }, reference("v1", { host, name }), await put, layout);
        await expectLayout(join(folder, layout), await put);
      },
      async remove(host, name) {
        const { digest } = (await put).descriptor;
        await client.deleteManifest({ run, reference }, reference(digest, { host, name }));
      },
    };
  });

  accessPromises(carrying, { ...client, takesIdentityTokens: true, tokensBy: "GET" });

  describe(client.name, () => {
    test("push: an image is stored byte for byte", async ({ folder, run, reference, repository }) => {
      const pushed = await image();
      await writeLayout(join(folder, "layout"), pushed);
      await client.push({ run, reference }, "layout", pushed, reference("v1"));
      await expectStored(repository, "v1", pushed);
    });

    test("push: an index with an image for each architecture", async ({ folder, run, reference, repository }) => {
      const pushed = await multiArchitecture();
      await writeLayout(join(folder, "layout"), pushed);
      await client.push({ run, reference }, "layout", pushed, reference("v1"));
      await expectStored(repository, "v1", pushed);
    });

    test("push: again, when everything is there", async ({ folder, run, reference, repository }) => {
      const pushed = await image();
      await writeLayout(join(folder, "layout"), pushed);
      await client.push({ run, reference }, "layout", pushed, reference("v1"));
      await client.push({ run, reference }, "layout", pushed, reference("v1"));
      await expectStored(repository, "v1", pushed);
    });

    test("push: six at once, of images that share a layer", async ({ folder, run, reference, repository }) => {
      const images = await imagesSharingALayer();
      for (const [at, each] of images.entries()) await writeLayout(join(folder, `layout${at}`), each);
      await Promise.all(
        images.map((each, at) => client.push({ run, reference }, `layout${at}`, each, reference(`v${at}`))),
      );
      for (const [at, each] of images.entries()) await expectStored(repository, `v${at}`, each);
    });

    test("pull: the same bytes come back", async ({ folder, run, reference, repository }) => {
      const pushed = await image();
      await pushGraph(repository, pushed, "v1");
      await client.pull({ run, reference }, reference("v1"), pushed, "pulled");
      await expectLayout(join(folder, "pulled"), pushed);
    });

    test("pull: by digest", async ({ folder, run, reference, repository }) => {
      const pushed = await image();
      await pushGraph(repository, pushed);
      await client.pull({ run, reference }, reference(pushed.descriptor.digest), pushed, "pulled");
      await expectLayout(join(folder, "pulled"), pushed);
    });

    test("pull: an index with all its images", async ({ folder, run, reference, repository }) => {
      const pushed = await multiArchitecture();
      await pushGraph(repository, pushed, "v1");
      await client.pull({ run, reference }, reference("v1"), pushed, "pulled");
      await expectLayout(join(folder, "pulled"), pushed);
    });

    test("pull: what is not there is said to be missing", async ({ run, reference }) => {
      await expect(client.resolve({ run, reference }, reference("missing"))).rejects.toThrow(/not found|unknown|404/i);
    });

    test("list: more tags than a page holds", async ({ run, reference, target, repository }) => {
      const tags = await pushManyTags(repository, await image({ layerBytes: [10] }), 1100);
      const listed = await client.listTags({ run, reference }, `${target.host}/${repository.name}`);
      expect(listed.toSorted()).toEqual(tags);
    });

    test("tag: a second tag for the same manifest", async ({ run, reference, repository }) => {
      const pushed = await image();
      await pushGraph(repository, pushed, "v1");
      await client.tag({ run, reference }, reference("v1"), "v2");
      await expectStored(repository, "v2", pushed);
      expect(await client.resolve({ run, reference }, reference("v2"))).toBe(pushed.descriptor.digest);
    });

    test("tag: moved to another manifest", async ({ run, reference, repository }) => {
      const [before, after] = [await image(), await image()];
      await pushGraph(repository, before, "latest");
      await pushGraph(repository, after, "next");
      await client.tag({ run, reference }, reference("next"), "latest");
      await expectStored(repository, "latest", after);
      await expectStored(repository, before.descriptor.digest, before);
    });

    test("copy: to a second repository", async ({ run, reference, registry, repository, wire }) => {
      const pushed = await image();
      await pushGraph(repository, pushed, "v1");
      const copy = registry.repository(`${repository.name}-copy`);
      const { host } = wire;
      await client.copy({ run, reference }, reference("v1", { host }), reference("v1", { host, name: copy.name }));
      await expectStored(copy, "v1", pushed);
      if (client.mounts) {
        const layers = pushed.layers.map(({ descriptor }) => descriptor.digest);
        expect(mountedDigests(wire)).toEqual(expect.arrayContaining(layers));
        expect(repositoriesOfTokens(wire)).toContainEqual(expect.arrayContaining([repository.name, copy.name]));
      }
    });

    test("copy: an index with its images to a second repository", async ({ run, reference, registry, repository }) => {
      const pushed = await multiArchitecture();
      await pushGraph(repository, pushed, "v1");
      const copy = registry.repository(`${repository.name}-copy`);
      await client.copy({ run, reference }, reference("v1"), reference("v1", { name: copy.name }));
      await expectStored(copy, "v1", pushed);
    });

    test("copy: nothing of a repository that it may not pull", async ({
      accounts,
      login,
      run,
      reference,
      registry,
      repository,
      strangerWire,
    }) => {
      const { host } = strangerWire;
      const hidden = await image();
      await pushGraph(repository, hidden, "v1");
      const copy = registry.repository(`${repository.name}-copy`);
      await login(host, (await accounts.robot(`${copy.name}:pull,push`)).credentials);
      const copying = client.copy(
        { run, reference },
        reference("v1", { host }),
        reference("v1", { host, name: copy.name }),
      );
      await expect(copying).rejects.toThrow(refusal);
      expect(mountedDigests(strangerWire)).toEqual([]);
      expect(await readTags(copy)).toEqual([]);
      for (const { descriptor } of hidden.blobs) expect(await hasBlob(copy, descriptor.digest)).toBe(false);
    });

    test("delete: a manifest goes with all its tags", async ({ run, reference, repository }) => {
      const pushed = await image();
      const kept = await image();
      for (const tag of ["v1", "v2"]) await pushGraph(repository, pushed, tag);
      await pushGraph(repository, kept, "kept");
      await client.deleteManifest({ run, reference }, reference(pushed.descriptor.digest));
      expect(await hasManifest(repository, pushed.descriptor.digest)).toBe(false);
      expect(await readTags(repository)).toEqual(["kept"]);
      await expectStored(repository, "kept", kept);
    });

    if (deleteTag !== undefined) {
      test("delete: a tag alone leaves the manifest and its other tags", async ({ run, reference, repository }) => {
        const pushed = await image();
        for (const tag of ["v1", "v2"]) await pushGraph(repository, pushed, tag);
        await deleteTag({ run, reference }, reference("v1"));
        expect(await readTags(repository)).toEqual(["v2"]);
        await expectStored(repository, pushed.descriptor.digest, pushed);
      });
    }
  });
}
