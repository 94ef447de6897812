import { expect, test } from "vitest";
import { digestOf, imageManifest, type RepositoryClient } from "../../support/client.ts";
import { bytesOf, imageIn } from "../content.ts";
import { freshRepository } from "../registry-under-test.ts";

/** Tags all at once, by end-7b. */
async function tagged(repository: RepositoryClient, tags: readonly string[]): Promise<void> {
  const bytes = bytesOf(await imageIn(repository));
  const digest = await digestOf(bytes);
  for (let at = 0; at < tags.length; at += 32) {
    expect((await repository.putManifest(digest, bytes, imageManifest, tags.slice(at, at + 32))).status).toBe(201);
  }
}

test("end-8a GET tags: in the order of their bytes", async () => {
  const repository = freshRepository();
  const tags = ["b", "B", "_", "a-b", "a.b", "a", "a_b", "0", "A", "Z", "v10", "v9"];
  await tagged(repository, tags);
  expect(await (await repository.listTags()).json()).toEqual({ name: repository.name, tags: tags.toSorted() });
});

test("end-8a GET tags: [] where blobs are all that there is, and after the last tag is gone", async () => {
  const repository = freshRepository();
  await repository.pushManifest(await imageIn(repository));
  expect(await (await repository.listTags()).json()).toEqual({ name: repository.name, tags: [] });
  await tagged(repository, ["a"]);
  await repository.deleteManifest("a");
  expect(await (await repository.listTags()).json()).toEqual({ name: repository.name, tags: [] });
});

test('end-8b GET tags: Link is <path>; rel="next" of the same origin, and ends with the list', async () => {
  const repository = freshRepository();
  const tags = Array.from({ length: 10 }, (_, index) => `t${index}`);
  await tagged(repository, tags);
  const seen: unknown[] = [];
  let target: string | undefined = `/v2/${repository.name}/tags/list?n=4`;
  while (target !== undefined) {
    const response: Response = await repository.registry.request("GET", target);
    seen.push(await response.json());
    const link = response.headers.get("Link");
    if (link !== null) expect(link).toMatch(/^<\/v2\/[^>]+>; rel="next"$/);
    target = /^<([^>]+)>/.exec(link ?? "")?.[1];
  }
  expect(seen).toEqual(
    [tags.slice(0, 4), tags.slice(4, 8), tags.slice(8)].map((page) => ({ name: repository.name, tags: page })),
  );
});

test("end-8b GET tags: a page that ends with the last tag has no Link", async () => {
  const repository = freshRepository();
  await tagged(repository, ["a", "b"]);
  expect((await repository.listTags({ n: 2 })).headers.get("Link")).toBeNull();
});

test("end-8b GET tags: last need not be a tag that is there", async () => {
  const repository = freshRepository();
  await tagged(repository, ["a", "c", "e"]);
  expect(await (await repository.listTags({ last: "b" })).json()).toMatchObject({ tags: ["c", "e"] });
  expect(await (await repository.listTags({ last: "zzz" })).json()).toMatchObject({ tags: [] });
  expect(await (await repository.listTags({ last: "" })).json()).toMatchObject({ tags: ["a", "c", "e"] });
});

test("end-8a GET tags: ten thousand without n, and a Link to the rest", { timeout: 120_000 }, async () => {
  const repository = freshRepository();
  const tags = Array.from({ length: 10_016 }, (_, index) => `v${String(index).padStart(5, "0")}`);
  await tagged(repository, tags);
  const response = await repository.listTags();
  expect(await response.json()).toEqual({ name: repository.name, tags: tags.slice(0, 10_000) });
  const next = /^<([^>]+)>/.exec(response.headers.get("Link") ?? "")?.[1] ?? "";
  const rest = await repository.registry.request("GET", next);
  expect(rest.headers.get("Link")).toBeNull();
  expect(await rest.json()).toEqual({ name: repository.name, tags: tags.slice(10_000) });
});

test("end-8a GET tags: a digest that was pushed is no tag", async () => {
  const repository = freshRepository();
  const { digest } = await repository.pushManifest(await imageIn(repository));
  await tagged(repository, ["a"]);
  expect(JSON.stringify(await (await repository.listTags()).json())).not.toContain(digest);
});
