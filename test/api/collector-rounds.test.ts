import { beforeEach, describe, expect, it } from "vitest";
import type { CollectStep } from "../../src/lifecycle/collect.ts";
import { type Artifact, artifact, type Blob, blob, index } from "../fixtures/artifacts.ts";
import { bodyOf, digest, randomBytes, sameBytes } from "../fixtures/content.ts";
import { Random } from "../fixtures/random.ts";
import { freshRepository } from "../fixtures/registry.ts";
import { emptyRegistry, listObjects, namedObjects, runPass, stepsOfPass } from "../fixtures/storage.ts";
import { append, begin } from "../fixtures/upload.ts";
import { imageManifest, type RepositoryClient } from "../support/client.ts";

/** What the requests so far promise of one repository. */
class RepositoryModel {
  readonly repository: RepositoryClient = freshRepository();
  /** accepted and not deleted, by digest */
  readonly manifests = new Map<string, Artifact>();
  /** tag -> digest */
  readonly tags = new Map<string, string>();
  /** blobs that were deleted by request, and have not come again since */
  readonly deletedBlobs = new Set<string>();

  /** Every promise is kept: each manifest is as it was pushed, with each blob that nobody deleted; each tag points right. */
  async expectKept(): Promise<void> {
    for (const { bytes, blobs, descriptor } of this.manifests.values()) {
      const pulled = await this.repository.getManifest(descriptor.digest);
      expect(pulled.status).toBe(200);
      expect(sameBytes(await bodyOf(pulled), bytes)).toBe(true);
      for (const each of blobs) {
        if (this.deletedBlobs.has(each.descriptor.digest)) continue;
        const response = await this.repository.getBlob(each.descriptor.digest);
        expect(response.status).toBe(200);
        expect(sameBytes(await bodyOf(response), each.bytes)).toBe(true);
      }
    }
    for (const [tag, named] of this.tags) {
      expect((await this.repository.headManifest(tag)).headers.get("Docker-Content-Digest")).toBe(named);
    }
  }
}

/**
 * A seed fixes the choices as they are drawn. Which of two actions at once draws first, how their statements mix, and the
 * bytes, it does not: runs of one seed are alike, not the same. Each begins with an empty registry and is short, so
 * that a failure is near its cause. The collector is stepped by hand, and requests are calls within the isolate;
 * test/conformance/promises/collector-rounds.test.ts has rounds over a socket, with whole passes among them.
 */
const SEEDS = [1, 2, 3, 4, 5];
const ROUNDS = 60;
const ROUNDS_PER_LOOK = 20;
const LONG = { timeout: 120_000 };

describe("rounds of pushes, deletions, mounts, tags and steps of the collector, at random", () => {
  beforeEach(emptyRegistry);

  it.each(SEEDS)("lose nothing, and in the end R2 holds what D1 names (seed %i)", LONG, async (seed) => {
    const random = new Random(seed);
    const models = Array.from({ length: 3 }, () => new RepositoryModel());
    const pool = Array.from({ length: 6 }, () => blob(randomBytes(30)));
    const actions = actionsOf(random, models, pool);
    for (let round = 0; round < ROUNDS; round++) {
      // Now and then two at once: their statements mix as the runtime will have it.
      const repositories = random.below(4) === 0 ? models.slice(0, 2) : [random.of(models)];
      await Promise.all(repositories.map(async (model) => random.of(actions)(model)));
      if (round % ROUNDS_PER_LOOK === ROUNDS_PER_LOOK - 1) for (const model of models) await model.expectKept();
    }
    for (let pass = 0; pass < 2; pass++) await runPass();
    for (const model of models) await model.expectKept();
    expect(await listObjects()).toEqual(await namedObjects());
    // And when all is deleted, nothing is left.
    for (const { repository, manifests } of models)
      for (const named of manifests.keys()) await repository.deleteManifest(named);
    for (let pass = 0; pass < 2; pass++) await runPass();
    expect(await listObjects()).toEqual([]);
  });
});

type Action = (model: RepositoryModel) => Promise<void>;

/** The steps of a pass that take something away. */
function takingSteps(): CollectStep[] {
  return stepsOfPass().slice(0, 4);
}

const collectPass: Action = async () => {
  for (const step of takingSteps()) await step();
};

/** What a round can do; those that stand more than once come more often. */
function actionsOf(random: Random, models: readonly RepositoryModel[], pool: readonly Blob[]): readonly Action[] {
  let nextStep = 0;

  async function send({ repository, deletedBlobs }: RepositoryModel, { bytes, descriptor }: Blob): Promise<void> {
    const way = random.below(3);
    if (way === 0) await repository.startUpload({ digest: descriptor.digest }, bytes);
    else if (way === 1) await repository.pushBlob(bytes);
    else {
      const { location } = await begin(repository);
      const last = await append(repository, location, bytes.slice(0, 10), bytes.slice(10));
      expect((await repository.finishUpload(last, descriptor.digest)).status).toBe(201);
    }
    deletedBlobs.delete(descriptor.digest);
  }

  /** As clients do: what is there is not sent, and what is missing after all is sent then. */
  async function push(model: RepositoryModel, pushed: Artifact, tag: string | null): Promise<void> {
    for (const each of pushed.blobs) {
      if ((await model.repository.headBlob(each.descriptor.digest)).status === 404) await send(model, each);
    }
    for (let attempt = 0; attempt < 10; attempt++) {
      const { digest: named, mediaType } = pushed.descriptor;
      const response = await model.repository.putManifest(tag ?? named, pushed.bytes, mediaType);
      if (response.status === 201) {
        model.manifests.set(named, pushed);
        if (tag !== null) model.tags.set(tag, named);
        for (const each of pushed.blobs) model.deletedBlobs.delete(each.descriptor.digest);
        return;
      }
      expect(response.status).toBe(404);
      for (const each of pushed.blobs) await send(model, each);
    }
    throw new Error("a push found no end");
  }

  const someBlobs = (): Blob[] => pool.filter(() => random.below(3) === 0);
  const tag = (): string => `t${String(random.below(3))}`;

  const pushImage: Action = async (model) => {
    const [config = random.of(pool), ...layers] = someBlobs();
    // Some are too large for their row, and lie in R2; some are pushed again later, byte for byte.
    const filling = random.below(4) === 0 ? "x".repeat(70_000) : String(random.below(4));
    const fields = {
      config: config.descriptor,
      layers: layers.map((each) => each.descriptor),
      annotations: { filling },
    };
    await push(model, artifact(imageManifest, fields, [config, ...layers]), random.below(2) === 0 ? tag() : null);
  };
  const pushIndex: Action = async (model) => {
    const blobs = someBlobs();
    const children = blobs.map((each) => each.descriptor);
    await push(model, { ...index(children), blobs }, tag());
  };
  const mount: Action = async (model) => {
    const { descriptor } = random.of(pool);
    const from = random.below(2) === 0 ? random.of(models).repository.name : undefined;
    const { status } = await model.repository.mountBlob(descriptor.digest, from);
    expect([201, 202]).toContain(status);
    if (status === 201) model.deletedBlobs.delete(descriptor.digest);
  };
  const retag: Action = async (model) => {
    if (model.manifests.size === 0) return;
    const { bytes, descriptor } = random.of([...model.manifests.values()]);
    const name = tag();
    const { status } = await model.repository.putManifest(name, bytes, descriptor.mediaType);
    // 404: a blob that it names was deleted since.
    expect([201, 404]).toContain(status);
    if (status === 201) model.tags.set(name, descriptor.digest);
  };
  const deleteManifest: Action = async (model) => {
    if (model.manifests.size === 0) return;
    const named = random.of([...model.manifests.keys()]);
    expect((await model.repository.deleteManifest(named)).status).toBe(202);
    model.manifests.delete(named);
    for (const [name, digestOfTag] of model.tags) if (digestOfTag === named) model.tags.delete(name);
  };
  const deleteTag: Action = async (model) => {
    const name = tag();
    expect((await model.repository.deleteManifest(name)).status).toBe(model.tags.delete(name) ? 202 : 404);
  };
  const deleteBlob: Action = async (model) => {
    const { descriptor } = random.of(pool);
    const { status } = await model.repository.deleteBlob(descriptor.digest);
    expect([202, 404]).toContain(status);
    if (status === 202) model.deletedBlobs.add(descriptor.digest);
  };
  const abandon: Action = async ({ repository }) => {
    const { location } = await begin(repository);
    const last = await append(repository, location, randomBytes(10));
    if (random.below(2) === 0) await repository.cancelUpload(last);
    else expect((await repository.finishUpload(last, digest(randomBytes(10)))).status).toBe(400);
  };
  const collectStep: Action = async () => {
    await takingSteps()[nextStep++ % 4]?.();
  };
  return [
    pushImage,
    pushImage,
    pushImage,
    pushIndex,
    mount,
    retag,
    deleteManifest,
    deleteTag,
    deleteBlob,
    abandon,
    ...Array<Action>(5).fill(collectStep),
    collectPass,
  ];
}
