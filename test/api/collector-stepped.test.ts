import { env } from "cloudflare:workers";
import { fc, test } from "@fast-check/vitest";
import { beforeAll, describe, expect, it } from "vitest";
import type { CollectStep } from "../../src/lifecycle/collect.ts";
import { artifact, type Blob, blob, push } from "../fixtures/artifacts.ts";
import { randomBytes } from "../fixtures/content.ts";
import { interceptOperations } from "../fixtures/intercepted-env.ts";
import { PushingClient } from "../fixtures/pushing-client.ts";
import { freshRepository, registry, registryWith } from "../fixtures/registry.ts";
import { emptyRegistry, listObjects, namedObjects, runPass, stepsOfPass } from "../fixtures/storage.ts";
import { imageManifest, type RegistryClient, type RepositoryClient } from "../support/client.ts";

/**
 * The collector runs with no grace at all, one step at a time, between the statements of a push. Whatever the order, a
 * manifest that was accepted has its blob, and in the end R2 holds what D1 names.
 */

beforeAll(emptyRegistry);

/** How a blob stands in a repository before the push. */
const beginnings: Readonly<Record<string, (repository: RepositoryClient, before: Blob) => Promise<unknown>>> = {
  absent: async () => undefined,
  unnamed: async (repository, { bytes }) => repository.pushBlob(bytes),
  condemned: async (repository, { bytes }) => repository.pushBlob(bytes),
  "named by a manifest that is deleted": async (repository, named) => {
    const { descriptor } = await push(
      repository,
      artifact(imageManifest, { config: named.descriptor, layers: [] }, [named]),
    );
    await repository.deleteManifest(descriptor.digest);
  },
  "deleted, and not yet out of R2": async (repository, { bytes }) => {
    const { digest } = await repository.pushBlob(bytes);
    await repository.deleteBlob(digest);
  },
};

interface Push {
  readonly client: PushingClient;
  readonly statements: readonly (() => Promise<void>)[];
}

interface Flow {
  readonly begin: (beginning: string) => Promise<void>;
  readonly push: (through: RegistryClient) => Push;
}

function headAndSend(): Flow {
  const { name } = freshRepository();
  const content = blob(randomBytes(20));
  return {
    begin: async (beginning) => void (await beginnings[beginning]?.(registry.repository(name), content)),
    push: (through) => {
      const client = new PushingClient(through.repository(name), content);
      return {
        client,
        statements: [async () => client.head(), async () => client.send(), async () => client.putManifest()],
      };
    },
  };
}

function mountAndSend(): Flow {
  const [{ name }, source] = [freshRepository(), freshRepository()];
  const content = blob(randomBytes(20));
  return {
    begin: async (beginning) => void (await beginnings[beginning]?.(source, content)),
    push: (through) => {
      const client = new PushingClient(through.repository(name), content);
      return {
        client,
        statements: [async () => client.mount(source), async () => client.send(), async () => client.putManifest()],
      };
    },
  };
}

const flows: Readonly<Record<string, () => Flow>> = {
  "HEAD, PUT, manifest PUT": headAndSend,
  "mount, PUT, manifest PUT": mountAndSend,
};

/** What can take a blob away, in its order: it is condemned in one pass, and removed in the next. */
function deadlySteps(): CollectStep[] {
  const [removeCondemned, condemn, removeUnheld, emptyGarbage] = stepsOfPass();
  return [condemn, removeCondemned, removeUnheld, emptyGarbage].flatMap((step) => step ?? []);
}

/** Every way to deal `steps` steps, in their order, to the gaps before `statements` statements. */
function deals(steps: number, statements: number): number[][] {
  if (statements === 1) return [[steps]];
  return Array.from({ length: steps + 1 }, (_, first) =>
    deals(steps - first, statements - 1).map((rest) => [first, ...rest]),
  ).flat();
}

async function expectNothingLost(clients: readonly PushingClient[]): Promise<void> {
  for (const client of clients) await client.expectPulled();
  for (let pass = 0; pass < 2; pass++) await runPass();
  for (const client of clients) await client.expectPulled();
  expect(await listObjects()).toEqual(await namedObjects());
}

describe.each(Object.entries(flows))("%s", (_flow, makeFlow) => {
  it.each(deals(4, 3).map((deal) => ({ deal, title: deal.join(", ") })))(
    "with $title steps of the collector before each",
    async ({ deal }) => {
      const names = Object.keys(beginnings);
      const running = names.map((beginning) => ({ beginning, flow: makeFlow() }));
      for (const { beginning, flow } of running.filter((each) => each.beginning === "condemned"))
        await flow.begin(beginning);
      await runPass();
      for (const { beginning, flow } of running.filter((each) => each.beginning !== "condemned"))
        await flow.begin(beginning);

      const pushes = running.map(({ flow }) => flow.push(registry));
      const steps = deadlySteps();
      for (const [at, number] of deal.entries()) {
        for (const step of steps.splice(0, number)) await step();
        for (const { statements } of pushes) await statements[at]?.();
      }
      await expectNothingLost(pushes.map(({ client }) => client));
    },
  );

  test.prop(
    [
      fc.constantFrom(...Object.keys(beginnings)),
      // Which steps of a pass run before each operation that the push makes on D1, R2 and Durable Objects.
      fc.array(fc.array(fc.nat({ max: 3 }), { maxLength: 4 }), { minLength: 4, maxLength: 12 }),
    ],
    { numRuns: 20 },
  )("with any steps of the collector before any of its operations", async (beginning, stepsBefore) => {
    const flow = makeFlow();
    await flow.begin(beginning);
    if (beginning === "condemned") await runPass();
    let operation = 0;
    const stepped = interceptOperations(env, {
      before: async () => {
        const steps = stepsOfPass();
        for (const step of stepsBefore[operation++] ?? []) await steps[step]?.();
      },
    });
    const { client, statements } = flow.push(registryWith(stepped));
    for (const statement of statements) await statement();
    await expectNothingLost([client]);
  });
});
