/// <reference types="vite/types/importMeta.d.ts" />
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { BLOBS_PULLED, costOf, costsDocument, counted, LAYERS, plus, times, type Usage } from "../bench/costs.ts";
import { type Artifact, blob, image, push } from "../fixtures/artifacts.ts";
import { randomBytes } from "../fixtures/content.ts";
import { bearerFor, freshAddress, makeRobot } from "../fixtures/principals.ts";
import { freshRepository, registryWith } from "../fixtures/registry.ts";
import { emptyRegistry } from "../fixtures/storage.ts";
import { begin } from "../fixtures/upload.ts";
import { billOperations } from "../support/billed-env.ts";
import { type RepositoryClient } from "../support/client.ts";

/** What test/bench/COSTS.md says that requests use, and what it makes of that. */

const billing = billOperations(env);
const { env: environment, billed } = billing;

// What other tests left is looked at too: a row more or less, by where a table ends.
beforeAll(emptyRegistry);

let requests = 0;
async function done(response: Promise<Response>, status: number): Promise<Response> {
  const answer = await response;
  await answer.arrayBuffer();
  expect(answer.status).toBe(status);
  requests++;
  return answer;
}

/** What requests use; those that come before it are not counted. */
async function usageOf(send: () => Promise<unknown>): Promise<Usage> {
  billing.reset();
  requests = 0;
  await send();
  const { d1RowsRead, d1RowsWritten, r2ClassA, r2ClassB, durableObjectRequests, dataPoints } = billed;
  return plus({ requests, d1RowsRead, d1RowsWritten, r2ClassA, r2ClassB, durableObjectRequests, dataPoints });
}

const layered = (): Artifact => image({ layers: Array.from({ length: LAYERS }, () => blob(randomBytes(2000))) });

async function pull(from: RepositoryClient, { blobs }: Artifact): Promise<void> {
  await done(from.getManifest("v1"), 200);
  for (const { descriptor } of blobs.slice(0, BLOBS_PULLED)) await done(from.getBlob(descriptor.digest), 200);
}

describe("what the table of costs is made of", () => {
  it("a pull, cold and warm, and the login before it", async () => {
    const pushed = layered();
    const { name } = freshRepository();
    await push(registryWith(env).repository(name), pushed, "v1");
    const { token } = await makeRobot([`${name}:pull`]);
    const registry = registryWith(environment, freshAddress());
    const puller = registry.as(await bearerFor(registry, token.authorization, `repository:${name}:pull`));
    const coldPull = await usageOf(async () => pull(puller.repository(name), pushed));
    const warmPull = await usageOf(async () => pull(puller.repository(name), pushed));
    const elsewhere = registryWith(environment, freshAddress());
    const logIn = async (): Promise<void> => {
      await done(elsewhere.as(null).ping(), 401);
      const query = { scope: `repository:${name}:pull` };
      await done(elsewhere.as(token.authorization).request("GET", "/token", { query }), 200);
    };
    const login = await usageOf(logIn);
    const loginAgain = await usageOf(logIn);
    expect({ coldPull, warmPull, login, loginAgain }).toEqual({
      coldPull: counted.coldPull,
      warmPull: counted.warmPull,
      login: counted.login,
      loginAgain: counted.loginAgain,
    });
  });

  it("a push, as docker does it and as most others do", async () => {
    const registry = registryWith(environment, freshAddress());
    await begin(freshRepository(registry));
    const pushes = { dockerPush: layered(), otherPush: layered() };
    const { name } = freshRepository();
    // The first push to a repository makes its row, and no other does.
    await push(registry.repository(name), layered(), "v1");
    const usages: Record<string, Usage> = {};
    for (const [how, { blobs, bytes }] of Object.entries(pushes)) {
      const repository = registry.repository(name);
      usages[how] = await usageOf(async () => {
        for (const each of blobs) {
          await done(repository.headBlob(each.descriptor.digest), 404);
          const begun = await done(repository.startUpload(), 202);
          const location = begun.headers.get("Location") ?? "";
          if (how === "otherPush") {
            await done(repository.finishUpload(location, each.descriptor.digest, each.bytes), 201);
            continue;
          }
          const patched = await done(repository.appendChunk(location, each.bytes), 202);
          await done(repository.finishUpload(patched.headers.get("Location") ?? "", each.descriptor.digest), 201);
          await done(repository.headBlob(each.descriptor.digest), 200);
        }
        await done(repository.putManifest("v1", bytes), 201);
      });
    }
    expect(usages).toEqual({ dockerPush: counted.dockerPush, otherPush: counted.otherPush });
  });
});

describe("the arithmetic of costs", () => {
  it("takes each price for a million", () => {
    expect(costOf({ requests: 1e6 })).toBeCloseTo(0.3, 10);
    expect(costOf({ d1RowsRead: 2e6, r2ClassA: 1000, r2ClassB: 0 })).toBeCloseTo(0.002 + 0.0045, 10);
    expect(costOf({})).toBe(0);
  });

  it("adds and multiplies, and leaves out what there is none of", () => {
    expect(plus({ requests: 1, r2ClassA: 2 }, { requests: 3, dataPoints: 0 })).toEqual({ requests: 4, r2ClassA: 2 });
    expect(times({ requests: 2, d1RowsRead: 0.5 }, 4)).toEqual({ requests: 8, d1RowsRead: 2 });
  });

  it("gives the tables of the document: npx node test/bench/write-costs.ts writes it anew", () => {
    const [written] = Object.values(documents);
    expect(unpadded(written ?? "")).toBe(unpadded(costsDocument()));
  });
});

const documents = import.meta.glob<string>("../bench/COSTS.md", { query: "?raw", import: "default", eager: true });

/** As wide as it is written, not as it is formatted. */
function unpadded(markdown: string): string {
  return markdown.replaceAll(/ +/g, " ").replaceAll(/-+/g, "-");
}
