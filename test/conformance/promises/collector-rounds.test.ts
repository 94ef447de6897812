import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Miniflare } from "miniflare";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { bundleWorker } from "../../../scripts/bundle.ts";
import { applyMigrations } from "../../../scripts/migrations.ts";
import { openMiniflare } from "../../../scripts/miniflare.ts";
import { readProject } from "../../../scripts/project.ts";
import { Random } from "../../fixtures/random.ts";
import {
  type Bytes,
  type Descriptor,
  digestOf,
  expectStatus,
  imageIndex,
  imageManifest,
  locationOf,
  RegistryClient,
  type RepositoryClient,
} from "../../support/client.ts";
import { projectRoot } from "../../support/registry.ts";
import { bodyOf, bytesOf, imageIn, imageLayer, indexOf, randomBytes } from "../content.ts";
import { asAdmin, testSecrets } from "../../support/credentials.ts";

/**
 * Requests over a socket, several at once, and passes of the collector among them: what was accepted stays, R2 holds what
 * D1 names, and when all is deleted nothing is left. A seed fixes the choices as they are drawn; which of several
 * requests at once draws first, and where between their statements a pass falls, it does not: runs of one seed are
 * alike, not the same. Passes that are stepped between the statements of a push are in test/api/collector-stepped.test.ts.
 *
 * A collector without grace would take unnamed blobs from under the other tests, and no request fires it: so this file
 * serves a Worker of its own, as `npm start` does, whatever registry the others are run against, and fires the cron's
 * handler itself.
 */

const SEEDS = [1, 2];
const ROUNDS = 100;
const ROUNDS_PER_LOOK = 25;
const LONG_MS = 240_000;

/** Larger than a row of D1 takes, so that R2 holds such a manifest too. */
const LARGE_FILLING = "x".repeat(70_000);

interface Content {
  readonly bytes: Bytes;
  readonly descriptor: Descriptor;
}

interface Pushed extends Content {
  readonly blobs: readonly Content[];
}

/** What the requests so far promise of one repository. */
class RepositoryModel {
  readonly repository: RepositoryClient;
  /** accepted and not deleted, by digest */
  readonly manifests = new Map<string, Pushed>();
  /** tag -> digest */
  readonly tags = new Map<string, string>();
  /** blobs that were deleted by request, and have not come again since */
  readonly deletedBlobs = new Set<string>();

  constructor(repository: RepositoryClient) {
    this.repository = repository;
  }

  async expectKept(): Promise<void> {
    for (const [digest, { bytes, blobs }] of this.manifests) {
      const pulled = await expectStatus(await this.repository.getManifest(digest), 200);
      expect(Buffer.compare(await bodyOf(pulled), bytes)).toBe(0);
      for (const blob of blobs.filter(({ descriptor }) => !this.deletedBlobs.has(descriptor.digest))) {
        const response = await expectStatus(await this.repository.getBlob(blob.descriptor.digest), 200);
        expect(await bodyOf(response)).toEqual(blob.bytes);
      }
    }
    for (const [tag, digest] of this.tags) {
      expect((await this.repository.headManifest(tag)).headers.get("Docker-Content-Digest")).toBe(digest);
    }
  }

  /** As clients do: what is there is not sent, and what is missing after all is sent then. */
  async push(random: Random, pushed: Pushed, tag: string | null): Promise<void> {
    for (const blob of pushed.blobs) {
      if ((await this.repository.headBlob(blob.descriptor.digest)).status === 404) await this.#send(random, blob);
    }
    for (let attempt = 0; attempt < 10; attempt++) {
      const { digest, mediaType } = pushed.descriptor;
      const { status } = await this.repository.putManifest(tag ?? digest, pushed.bytes, mediaType);
      if (status === 201) {
        this.manifests.set(digest, pushed);
        if (tag !== null) this.tags.set(tag, digest);
        for (const { descriptor } of pushed.blobs) this.deletedBlobs.delete(descriptor.digest);
        return;
      }
      expect(status).toBe(404);
      for (const blob of pushed.blobs) await this.#send(random, blob);
    }
    throw new Error("a push found no end");
  }

  async #send(random: Random, { bytes, descriptor: { digest } }: Content): Promise<void> {
    const { repository } = this;
    switch (random.below(3)) {
      case 0:
        await expectStatus(await repository.startUpload({ digest }, bytes), 201);
        break;
      case 1:
        await repository.pushBlob(bytes);
        break;
      default: {
        const started = await expectStatus(await repository.startUpload(), 202);
        const appended = await expectStatus(await repository.appendChunk(locationOf(started), bytes), 202);
        await expectStatus(await repository.finishUpload(locationOf(appended), digest), 201);
      }
    }
    this.deletedBlobs.delete(digest);
  }
}

type Action = (model: RepositoryModel) => Promise<void>;

/** What a round can do; those that stand more than once come more often. */
function actionsOf(random: Random, models: readonly RepositoryModel[], pool: readonly Content[]): readonly Action[] {
  const someBlobs = (): Content[] => pool.filter(() => random.below(3) === 0);
  const tag = (): string => `t${random.below(3)}`;
  const filling = (): object => ({ filling: random.below(4) === 0 ? LARGE_FILLING : String(random.below(4)) });

  const pushImage: Action = async (model) => {
    const [config = random.of(pool), ...layers] = someBlobs();
    const pushed = await manifestOf(
      imageManifest,
      {
        config: config.descriptor,
        layers: layers.map(({ descriptor }) => descriptor),
        annotations: filling(),
        // Of what is there, or of what nobody ever pushed.
        subject: random.of([...model.manifests.values(), random.of(pool)]).descriptor,
      },
      [config, ...layers],
    );
    await model.push(random, pushed, random.below(2) === 0 ? tag() : null);
  };
  const pushIndex: Action = async (model) => {
    const children = [...model.manifests.values()].filter(() => random.below(3) === 0);
    const blobs = someBlobs();
    const descriptors = [...children, ...blobs].map(({ descriptor }) => descriptor);
    await model.push(random, await manifestOf(imageIndex, indexOf(descriptors), blobs), tag());
  };
  const mount: Action = async (model) => {
    const { digest } = random.of(pool).descriptor;
    const from = random.below(2) === 0 ? random.of(models).repository.name : undefined;
    const { status } = await model.repository.mountBlob(digest, from);
    expect([201, 202]).toContain(status);
    if (status === 201) model.deletedBlobs.delete(digest);
  };
  const deleteManifest: Action = async (model) => {
    if (model.manifests.size === 0) return;
    const digest = random.of([...model.manifests.keys()]);
    await expectStatus(await model.repository.deleteManifest(digest), 202);
    model.manifests.delete(digest);
    for (const [name, named] of model.tags) if (named === digest) model.tags.delete(name);
  };
  const deleteTag: Action = async (model) => {
    const name = tag();
    await expectStatus(await model.repository.deleteManifest(name), model.tags.delete(name) ? 202 : 404);
  };
  const deleteBlob: Action = async (model) => {
    const { digest } = random.of(pool).descriptor;
    const { status } = await model.repository.deleteBlob(digest);
    expect([202, 404]).toContain(status);
    if (status === 202) model.deletedBlobs.add(digest);
  };
  const abandon: Action = async ({ repository }) => {
    const started = await repository.startUpload();
    const appended = await expectStatus(await repository.appendChunk(locationOf(started), randomBytes(10)), 202);
    if (random.below(2) === 0) await expectStatus(await repository.cancelUpload(locationOf(appended)), 204);
    else await expectStatus(await repository.finishUpload(locationOf(appended), await digestOf(randomBytes(10))), 400);
  };
  return [pushImage, pushImage, pushImage, pushIndex, mount, deleteManifest, deleteTag, deleteBlob, abandon];
}

async function contentOf(bytes: Bytes, mediaType: string): Promise<Content> {
  return { bytes, descriptor: { mediaType, digest: await digestOf(bytes), size: bytes.length } };
}

async function manifestOf(mediaType: string, fields: object, blobs: readonly Content[]): Promise<Pushed> {
  const bytes = bytesOf({ schemaVersion: 2, mediaType, ...fields });
  return { ...(await contentOf(bytes, mediaType)), blobs };
}

/** What R2 holds against what D1 says of it. */
class Storage {
  readonly #miniflare: Miniflare;

  constructor(miniflare: Miniflare) {
    this.#miniflare = miniflare;
  }

  /** Every key, in order; a test makes fewer than a list has. */
  async objects(): Promise<string[]> {
    const bucket = await this.#miniflare.getR2Bucket("BLOBS");
    const { objects, truncated } = await bucket.list();
    expect(truncated).toBe(false);
    return objects.map(({ key }) => key);
  }

  /** Every key that a row names as a blob's or a manifest's, in order. */
  async named(): Promise<string[]> {
    const database = await this.#miniflare.getD1Database("DB");
    const { results } = await database
      .prepare(
        "SELECT object_key AS key FROM blobs UNION ALL SELECT object_key FROM manifests WHERE object_key IS NOT NULL ORDER BY 1",
      )
      .all();
    return z
      .array(z.object({ key: z.string() }))
      .parse(results)
      .map(({ key }) => key);
  }

  /** A pass of the collector, as the cron fires it. */
  async pass(): Promise<void> {
    const worker = await this.#miniflare.getWorker();
    expect((await worker.scheduled({ cron: "* * * * *", scheduledTime: new Date() })).outcome).toBe("ok");
  }

  /** What one pass condemns, the next one takes. */
  async passTwice(): Promise<void> {
    for (let pass = 0; pass < 2; pass++) await this.pass();
  }
}

describe("a collector without grace", () => {
  let folder: string;
  let miniflare: Miniflare;
  let storage: Storage;
  let registry: RegistryClient;

  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "moorage-rounds-"));
    const project = readProject(path.join(projectRoot, "wrangler.toml"), { GC_GRACE_SECONDS: "0" });
    await applyMigrations(project, folder);
    const bundle = await bundleWorker(project.main, project.define);
    miniflare = openMiniflare(project, bundle, { persistPath: folder, host: "127.0.0.1", port: 0 }, testSecrets);
    storage = new Storage(miniflare);
    registry = new RegistryClient((await miniflare.ready).origin, fetch, asAdmin);
  });
  afterAll(async () => {
    await miniflare.dispose();
    await rm(folder, { recursive: true, force: true });
  });

  test("an index without a tag keeps its images, and a subject what refers to it, with all their blobs", async () => {
    const repository = registry.repository("graph");
    const images = [await imageIn(repository), await imageIn(repository)];
    const children = await Promise.all(images.map((image) => repository.pushManifest(image)));
    const subject = await repository.pushManifest(indexOf(children), { reference: "latest" });
    const signature = await imageIn(repository, { subject, artifactType: "application/vnd.example.signature" });
    const referrer = await repository.pushManifest(signature);
    // The tag moves on: it was all that named them from outside.
    const next = await repository.pushManifest(indexOf([]), { reference: "latest" });

    await storage.passTwice();
    for (const { digest } of [...children, subject, referrer]) {
      await expectStatus(await repository.headManifest(digest), 200);
    }
    for (const { digest } of [...images, signature].flatMap(({ config, layers }) => [config, ...layers])) {
      await expectStatus(await repository.headBlob(digest), 200);
    }
    const listed = await (await repository.listReferrers(subject.digest)).json();
    expect(listed).toMatchObject({ manifests: [{ digest: referrer.digest }] });
    for (const { digest } of [...children, subject, referrer, next]) {
      await expectStatus(await repository.deleteManifest(digest), 202);
    }
  });

  test("what was taken is nowhere said to be there, and can be pushed again", async () => {
    const repository = registry.repository("taken");
    const bytes = randomBytes(100);
    const blob = await repository.pushBlob(bytes);
    const image = await imageIn(repository, { layers: [{ ...blob, mediaType: imageLayer }] });
    const { digest } = await repository.pushManifest(image);
    await expectStatus(await repository.deleteManifest(digest), 202);

    // Condemned, then gone.
    for (let pass = 0; pass < 2; pass++) {
      await storage.pass();
      await expectStatus(await repository.headBlob(blob.digest), 404);
      await expectStatus(await repository.getBlob(blob.digest), 404);
    }
    await expectStatus(await registry.repository("taken-too").mountBlob(blob.digest, repository.name), 202);
    await expectStatus(await repository.putManifest("v1", bytesOf(image)), 404);

    await repository.pushBlob(bytes);
    const again = await repository.pushManifest(await imageIn(repository, { layers: image.layers }));
    await storage.passTwice();
    expect(await bodyOf(await repository.getBlob(blob.digest))).toEqual(bytes);
    await expectStatus(await repository.deleteManifest(again.digest), 202);
  });

  test.each(SEEDS)(
    "rounds at random lose nothing, and leave nothing in the end (seed %i)",
    { timeout: LONG_MS },
    async (seed) => {
      const random = new Random(seed);
      const models = Array.from(
        { length: 3 },
        (_, number) => new RepositoryModel(registry.repository(`rounds/${seed}/${number}`)),
      );
      const pool = await Promise.all(Array.from({ length: 6 }, () => contentOf(randomBytes(30), imageLayer)));
      const actions = actionsOf(random, models, pool);
      for (let round = 1; round <= ROUNDS; round++) {
        const atOnce = models.filter(() => random.below(2) === 0).map(async (model) => random.of(actions)(model));
        await Promise.all(random.below(3) === 0 ? [storage.pass(), ...atOnce] : atOnce);
        if (round % ROUNDS_PER_LOOK === 0) for (const model of models) await model.expectKept();
      }
      await storage.passTwice();
      for (const model of models) await model.expectKept();
      expect(models.some(({ manifests }) => manifests.size > 0)).toBe(true);
      expect(await storage.objects()).not.toEqual([]);
      expect(await storage.objects()).toEqual(await storage.named());

      for (const { repository, manifests } of models) {
        for (const digest of manifests.keys()) await expectStatus(await repository.deleteManifest(digest), 202);
      }
      await storage.passTwice();
      expect(await storage.objects()).toEqual([]);
    },
  );
});
