import { describe, expect, test } from "vitest";
import { z } from "zod";
import type { RepositoryClient } from "../support/client.ts";
import { bytesOf, imageIn } from "./content.ts";
import { freshRepository } from "./registry-under-test.ts";

const tagList = z.object({ name: z.string(), tags: z.array(z.string()) });

async function withTags(tags: readonly string[]): Promise<RepositoryClient> {
  const repository = freshRepository();
  const bytes = bytesOf(await imageIn(repository));
  for (const tag of tags) expect((await repository.putManifest(tag, bytes)).status).toBe(201);
  return repository;
}

async function list(
  repository: RepositoryClient,
  query: Readonly<Record<string, string | number>> = {},
): Promise<{ tags: readonly string[]; link: string | null }> {
  const response = await repository.listTags(query);
  expect(response.status).toBe(200);
  const parsed = tagList.parse(await response.json());
  expect(parsed.name).toBe(repository.name);
  return { tags: parsed.tags, link: response.headers.get("Link") };
}

/** The spec allows two orders: without regard to case, or of bytes. */
function inEitherOrder(tags: readonly string[]): readonly (readonly string[])[] {
  const byBytes = tags.toSorted();
  const byLetters = byBytes.toSorted((a, b) =>
    a.toLowerCase() < b.toLowerCase() ? -1 : a.toLowerCase() > b.toLowerCase() ? 1 : 0,
  );
  return [byBytes, byLetters];
}

describe("end-8a", () => {
  test("end-8a GET tags: all of them, in order", async () => {
    const tags = ["v1.10", "v1.9", "latest", "Beta", "alpha", "_x", "0"];
    const listed = await list(await withTags(tags));
    expect(inEitherOrder(tags)).toContainEqual(listed.tags);
  });

  test("end-8a GET tags: an empty list is [] once the last tag is deleted", async (context) => {
    const repository = await withTags(["only"]);
    const deleted = await repository.deleteManifest("only");
    context.skip(deleted.status !== 202, "deletion of tags is disabled in this registry");
    const response = await repository.listTags();
    context.skip(response.status === 404, "this registry forgets a repository without tags");
    expect(tagList.parse(await response.json()).tags).toEqual([]);
  });

  test("end-8a GET tags: 404 for a repository that does not exist", async () => {
    expect((await freshRepository().listTags()).status).toBe(404);
  });
});

describe("end-8b", () => {
  const tags = ["a", "b", "c", "d", "e"];

  test("end-8b GET tags with n: the first n", async () => {
    expect((await list(await withTags(tags), { n: 2 })).tags).toEqual(["a", "b"]);
  });

  test("end-8b GET tags with n=0: an empty list without Link", async () => {
    expect(await list(await withTags(tags), { n: 0 })).toEqual({ tags: [], link: null });
  });

  test("end-8b GET tags with n larger than the list: all, without Link", async () => {
    expect(await list(await withTags(tags), { n: 50 })).toEqual({ tags, link: null });
  });

  test("end-8b GET tags with last: what comes after it, with and without n", async () => {
    const repository = await withTags(tags);
    expect((await list(repository, { last: "b" })).tags).toEqual(["c", "d", "e"]);
    expect((await list(repository, { last: "b", n: 2 })).tags).toEqual(["c", "d"]);
    expect((await list(repository, { last: "e" })).tags).toEqual([]);
  });

  test("end-8b GET tags: following Link visits every tag once", async () => {
    const repository = await withTags(tags);
    const seen: string[] = [];
    let target: string | null = `/v2/${repository.name}/tags/list?n=2`;
    for (let pages = 0; target !== null && pages < 10; pages++) {
      const response = await repository.registry.request("GET", target);
      seen.push(...tagList.parse(await response.json()).tags);
      const link = response.headers.get("Link");
      if (link !== null) expect(link).toMatch(/^<[^>]+>; *rel="?next"?$/);
      target = link === null ? null : (/<([^>]+)>/.exec(link)?.[1] ?? null);
    }
    expect(seen).toEqual(tags);
  });
});
