import { join } from "node:path";
import { describe, expect } from "vitest";
import type { RepositoryClient } from "../support/client.ts";
import type { Accounts } from "./accounts.ts";
import type { Carrier } from "./carrier.ts";
import type { Login, Reference, Run } from "./client-test.ts";
import { diffIdOf, image, imagesSharingALayer, multiArchitecture, writeDockerArchive } from "./image.ts";
import type { Image } from "./image.ts";
import { pushGraph } from "./push.ts";
import { readBlob, readManifest } from "./stored.ts";
import { mountedDigests, refusedUses, repositoriesOfTokens } from "./wire.ts";
import type { Wire } from "./wire.ts";

/**
 * A client with a store of its own, which packs images anew when it pushes them: what comes back is compared by the
 * digests of the unpacked layers. Its methods are the commands that its users type.
 */
export interface Engine {
  /** Takes the one image of a docker archive into the store, under the name that the archive says. */
  load(archive: string, reference: string): Promise<void>;
  push(reference: string): Promise<void>;
  pull(reference: string): Promise<void>;
  /** Takes an image, with its layers, out of the store. */
  remove(reference: string): Promise<void>;
  tag(source: string, target: string): Promise<void>;
  /** The digests of an image's unpacked layers. */
  diffIds(reference: string): Promise<string[]>;
}

export interface EngineOptions {
  readonly name: string;
  /** Size of the layer that counts as large, bytes. */
  readonly largeLayerBytes: number;
}

/** The fixtures of a client's test and its engine. */
interface EngineContext {
  readonly accounts: Accounts;
  readonly engine: Engine;
  readonly folder: string;
  readonly login: Login;
  readonly run: Run;
  readonly reference: Reference;
  readonly repository: RepositoryClient;
  readonly wire: Wire;
}

/** Registers a test, as `test` of vitest does. */
type DeclareTest = (title: string, body: (context: EngineContext) => Promise<void>) => void;

/** What users of any engine do, a test each. */
export function enginePromises(test: DeclareTest, { name, largeLayerBytes }: EngineOptions): void {
  describe(name, () => {
    test("push: an image of several layers", async ({ engine, folder, reference, repository }) => {
      const pushed = await image();
      await load(engine, folder, pushed, reference("v1"));
      await engine.push(reference("v1"));
      await expectLayers(repository, "v1", pushed);
    });

    test("push: six at once, of images that share a layer", async ({ engine, folder, reference, repository }) => {
      const images = await imagesSharingALayer();
      for (const [at, each] of images.entries()) await load(engine, folder, each, reference(`v${at}`));
      await Promise.all(images.map((_, at) => engine.push(reference(`v${at}`))));
      for (const [at, each] of images.entries()) await expectLayers(repository, `v${at}`, each);
    });

    test("pull: an image that the same client pushed", async ({ engine, folder, reference }) => {
      const pushed = await image();
      await load(engine, folder, pushed, reference("v1"));
      await engine.push(reference("v1"));
      await engine.remove(reference("v1"));
      await engine.pull(reference("v1"));
      expect(await engine.diffIds(reference("v1"))).toEqual(diffIds(pushed));
    });

    test("pull: an OCI image that another client pushed", async ({ engine, reference, repository }) => {
      const pushed = await image();
      await pushGraph(repository, pushed, "v1");
      await engine.pull(reference("v1"));
      expect(await engine.diffIds(reference("v1"))).toEqual(diffIds(pushed));
    });

    test("pull: by digest", async ({ engine, reference, repository }) => {
      const pushed = await image();
      await pushGraph(repository, pushed);
      await engine.pull(reference(pushed.descriptor.digest));
      expect(await engine.diffIds(reference(pushed.descriptor.digest))).toEqual(diffIds(pushed));
    });

    test("pull: this machine's image of an index", async ({ engine, reference, repository }) => {
      const own = process.arch === "arm64" ? "arm64" : "amd64";
      const pushed = await multiArchitecture([own, "s390x"]);
      await pushGraph(repository, pushed, "v1");
      await engine.pull(reference("v1"));
      expect(await engine.diffIds(reference("v1"))).toEqual(pushed.children.slice(0, 1).flatMap(diffIds));
    });

    test("pull: what is not there is said to be missing", async ({ engine, reference }) => {
      await expect(engine.pull(reference("missing"))).rejects.toThrow(/not found|unknown|404/i);
    });

    test("large: a layer pushed and pulled", async ({ engine, folder, reference, repository }) => {
      const pushed = await image({ layerBytes: [largeLayerBytes, 1000] });
      await load(engine, folder, pushed, reference("large"));
      await engine.push(reference("large"));
      await engine.remove(reference("large"));
      await engine.pull(reference("large"));
      expect(await engine.diffIds(reference("large"))).toEqual(diffIds(pushed));
      const { layers } = await readManifest(repository, "large");
      expect(Math.max(...layers.map(({ size }) => size))).toBeGreaterThan(largeLayerBytes);
    });

    test("tag: moved to another image", async ({ engine, folder, reference, repository }) => {
      for (const pushed of [await image(), await image()]) {
        await load(engine, folder, pushed, reference("latest"));
        await engine.push(reference("latest"));
        await expectLayers(repository, "latest", pushed);
      }
    });

    test("copy: to a second repository, its layers mounted", async ({
      engine,
      folder,
      reference,
      repository,
      wire,
    }) => {
      const { host } = wire;
      const pushed = await image();
      await load(engine, folder, pushed, reference("v1", { host }));
      await engine.push(reference("v1", { host }));
      // Some engines remember where layers are from a pull alone.
      await engine.remove(reference("v1", { host }));
      await engine.pull(reference("v1", { host }));
      const copy = repository.registry.repository(`${repository.name}-copy`);
      await engine.tag(reference("v1", { host }), reference("v1", { host, name: copy.name }));
      await engine.push(reference("v1", { host, name: copy.name }));
      await expectLayers(copy, "v1", pushed);
      const { layers } = await readManifest(copy, "v1");
      expect(mountedDigests(wire)).toEqual(expect.arrayContaining(layers.map(({ digest }) => digest)));
      expect(repositoriesOfTokens(wire)).toContainEqual(expect.arrayContaining([repository.name, copy.name]));
    });

    test("copy: layers of a repository that it may not pull are sent, not mounted", async ({
      accounts,
      engine,
      folder,
      login,
      reference,
      repository,
      wire,
    }) => {
      const { host } = wire;
      const pushed = await image();
      await load(engine, folder, pushed, reference("v1", { host }));
      await engine.push(reference("v1", { host }));
      await engine.remove(reference("v1", { host }));
      await engine.pull(reference("v1", { host }));
      const copy = repository.registry.repository(`${repository.name}-copy`);
      const { credentials } = await accounts.robot(`${copy.name}:pull,push`);
      await login(host, credentials);
      await engine.tag(reference("v1", { host }), reference("v1", { host, name: copy.name }));
      await engine.push(reference("v1", { host, name: copy.name }));
      await expectLayers(copy, "v1", pushed);
      expect(refusedUses(wire, repository.name)).not.toEqual([]);
      expect(mountedDigests(wire)).toEqual([]);
    });
  });
}

/** How an engine's commands carry an image to a registry and back. */
export function engineCarrier(engine: Engine, folder: string): Carrier {
  const put = image();
  return {
    async put(repository) {
      await pushGraph(repository, await put, "v1");
    },
    async push(host, name) {
      const reference = `${host}/${name}:v2`;
      const pushed = await image();
      await load(engine, folder, pushed, reference);
      await engine.push(reference);
      return (repository) => expectLayers(repository, "v2", pushed);
    },
    async pull(host, name) {
      const reference = `${host}/${name}:v1`;
      await engine.pull(reference);
      expect(await engine.diffIds(reference)).toEqual(diffIds(await put));
    },
  };
}

async function load(engine: Engine, folder: string, loaded: Image, reference: string): Promise<void> {
  const archive = join(folder, `${loaded.descriptor.digest.slice(-12)}.tar`);
  await writeDockerArchive(archive, loaded, reference);
  await engine.load(archive, reference);
}

function diffIds({ layers }: Image): string[] {
  return layers.map(({ diffId }) => diffId);
}

/** Fails unless a tag names an image whose layers unpack to the given one's. */
export async function expectLayers(repository: RepositoryClient, tag: string, expected: Image): Promise<void> {
  const { layers } = await readManifest(repository, tag);
  const stored = await Promise.all(layers.map(async ({ digest }) => diffIdOf(await readBlob(repository, digest))));
  expect(stored).toEqual(diffIds(expected));
}
