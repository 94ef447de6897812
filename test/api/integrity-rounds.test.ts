import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import { findingsSchema } from "../../src/integrity/finding.ts";
import { type Artifact, artifact, type Blob, blob } from "../fixtures/artifacts.ts";
import { bodyOf, randomBytes, sameBytes } from "../fixtures/content.ts";
import { scrubMinute, scrubRound, setScrubState } from "../fixtures/integrity.ts";
import { read, send } from "../fixtures/management.ts";
import { Random } from "../fixtures/random.ts";
import { freshRepository } from "../fixtures/registry.ts";
import {
  count,
  emptyRegistry,
  listObjects,
  namedObjects,
  objectKeyOf,
  runPass,
  stepsOfPass,
} from "../fixtures/storage.ts";
import { imageManifest, type RepositoryClient } from "../support/client.ts";

/**
 * Pushes, deletions, mounts, steps of the collector and minutes of the scrub at random, while objects go bad. Whatever
 * the order: after a round of the scrub nothing bad is served, and a client that pushes again has all that it pushed.
 */

const SEEDS = [1, 2, 3, 4, 5, 6];
const ROUNDS = 80;

interface Model {
  readonly repository: RepositoryClient;
  /** accepted and not deleted, by digest */
  readonly manifests: Map<string, Artifact>;
}

/** As clients do: what is there is not sent. */
async function push({ repository, manifests }: Model, pushed: Artifact): Promise<void> {
  for (let attempt = 0; attempt < 5; attempt++) {
    for (const { bytes, descriptor } of pushed.blobs) {
      if ((await repository.headBlob(descriptor.digest)).status === 404) await repository.pushBlob(bytes);
    }
    const { digest, mediaType } = pushed.descriptor;
    const { status } = await repository.putManifest(digest, pushed.bytes, mediaType);
    if (status === 201) {
      manifests.set(digest, pushed);
      return;
    }
    expect(status).toBe(404);
  }
  throw new Error("a push found no end");
}

async function spoilSome(random: Random, pool: readonly Blob[]): Promise<void> {
  const key = await objectKeyOf(random.of(pool).descriptor.digest);
  if (key === null) return;
  if (random.below(3) === 0) await env.BLOBS.delete(key);
  else await env.BLOBS.put(key, randomBytes(random.below(2) === 0 ? 30 : 31));
}

async function decideSome(random: Random): Promise<void> {
  const { findings } = await read(await send("GET", "integrity/findings"), 200, findingsSchema);
  if (findings.length === 0) return;
  const { id } = random.of(findings);
  const { status } = await send("DELETE", `integrity/findings/${String(id)}/object`);
  expect([204, 409]).toContain(status);
}

/** Nothing that is served is bad. @returns how many blobs are not served */
async function expectNothingBad(models: readonly Model[]): Promise<number> {
  let absent = 0;
  for (const { repository, manifests } of models) {
    for (const { blobs } of manifests.values()) {
      for (const { bytes, descriptor } of blobs) {
        const response = await repository.getBlob(descriptor.digest);
        const body = await bodyOf(response);
        if (response.status === 200) expect(sameBytes(body, bytes)).toBe(true);
        else absent += 1;
      }
    }
  }
  return absent;
}

/** What findings hold in R2 besides. */
async function heldObjects(): Promise<string[]> {
  const { results } = await env.DB.prepare(
    "SELECT DISTINCT object_key AS key FROM integrity_findings WHERE discarded_at IS NULL AND released_at IS NULL",
  ).all<{ key: string }>();
  return results.map(({ key }) => key);
}

describe("rounds in which objects go bad", () => {
  beforeEach(emptyRegistry);

  it.each(SEEDS)(
    "serve nothing bad, and lose nothing that is pushed again (seed %i)",
    { timeout: 120_000 },
    async (seed) => {
      const random = new Random(seed);
      const models: readonly Model[] = [0, 1, 2].map(() => ({ repository: freshRepository(), manifests: new Map() }));
      const pool = Array.from({ length: 5 }, () => blob(randomBytes(30)));
      await scrubMinute();
      const step = async (): Promise<void> => {
        const model = random.of(models);
        switch (random.below(9)) {
          case 0:
          case 1: {
            const blobs = [random.of(pool), random.of(pool)];
            const [config, layer] = blobs.map((each) => each.descriptor);
            await push(model, artifact(imageManifest, { config, layers: [layer] }, blobs));
            break;
          }
          case 2: {
            const { descriptor } = random.of(pool);
            const { status } = await model.repository.mountBlob(descriptor.digest, random.of(models).repository.name);
            expect([201, 202]).toContain(status);
            break;
          }
          case 3: {
            const [digest] = model.manifests.keys();
            if (digest === undefined) break;
            expect((await model.repository.deleteManifest(digest)).status).toBe(202);
            model.manifests.delete(digest);
            break;
          }
          case 4:
            await spoilSome(random, pool);
            break;
          case 5:
          case 6:
            await setScrubState({ endedMs: null, kind: "blob", after: 0, progress: null });
            await scrubMinute();
            break;
          case 7:
            await stepsOfPass()[random.below(4)]?.();
            break;
          default:
            await decideSome(random);
        }
      };
      for (let round = 0; round < ROUNDS; round++) {
        // Now and then two at once: their statements mix as the runtime will have it.
        await Promise.all(random.below(4) === 0 ? [step(), step()] : [step()]);
      }
      await scrubRound();
      await expectNothingBad(models);
      for (const model of models) for (const pushed of model.manifests.values()) await push(model, pushed);
      expect(await expectNothingBad(models)).toBe(0);
      for (let pass = 0; pass < 2; pass++) await runPass();
      expect(await expectNothingBad(models)).toBe(0);
      // What is in R2 has a name, or is held for somebody to look at; what a row names and R2 has not is quarantined.
      const objects = await listObjects();
      const named = await namedObjects();
      const held = new Set([...named, ...(await heldObjects())]);
      expect(objects.filter((key) => !held.has(key))).toEqual([]);
      for (const key of named.filter((each) => !objects.includes(each))) {
        const quarantined = "SELECT count(*) AS count FROM blobs WHERE object_key = ?1 AND quarantined_at IS NOT NULL";
        expect(await count(quarantined, key)).toBe(1);
      }
    },
  );
});
