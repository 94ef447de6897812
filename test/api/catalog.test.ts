import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { image, push } from "../fixtures/artifacts.ts";
import { randomBytes } from "../fixtures/content.ts";
import { registry } from "../fixtures/registry.ts";
import { emptyRegistry } from "../fixtures/storage.ts";
import { expectError } from "../conformance/error-envelope.ts";
import type { Query } from "../support/client.ts";

const names = ["a", "a-b", "a/b", "a0", "b", "b/c/d"];

beforeAll(async () => {
  await emptyRegistry();
  for (const name of names) await push(registry.repository(name), image({ layers: [] }));
  await registry.repository("only-blobs").pushBlob(randomBytes(10));
});

async function listed(query: Query = {}): Promise<{ repositories: string[]; link: string | null }> {
  const response = await registry.listRepositories(query);
  expect(response.status).toBe(200);
  const { repositories } = z.strictObject({ repositories: z.array(z.string()) }).parse(await response.json());
  return { repositories, link: response.headers.get("Link") };
}

describe("GET _catalog", () => {
  it("lists the repositories that hold a manifest, in byte order", async () => {
    expect(await listed()).toEqual({ repositories: names.toSorted(), link: null });
  });

  it.each([1, 2, 5])("pages by n=%i and Link", async (n) => {
    const found: string[] = [];
    for (let next: string | null = `/v2/_catalog?n=${String(n)}`; next !== null;) {
      const response = await registry.request("GET", next);
      found.push(
        ...z.strictObject({ repositories: z.array(z.string()).max(n) }).parse(await response.json()).repositories,
      );
      next = /^<([^>]+)>; rel="next"$/.exec(response.headers.get("Link") ?? "")?.[1] ?? null;
    }
    expect(found).toEqual(names.toSorted());
  });

  it("with n=0 is an empty list without a Link; with a bad n is refused", async () => {
    expect(await listed({ n: 0 })).toEqual({ repositories: [], link: null });
    await expectError(await registry.listRepositories({ n: "x" }), 400, "UNSUPPORTED");
  });

  it("forgets a repository whose last manifest is deleted", async () => {
    const repository = registry.repository("c");
    const pushed = [await push(repository, image({ layers: [] })), await push(repository, image({ layers: [] }))];
    for (const { descriptor } of pushed) {
      expect((await listed()).repositories).toContain("c");
      await repository.deleteManifest(descriptor.digest);
    }
    expect((await listed()).repositories).not.toContain("c");
  });
});
