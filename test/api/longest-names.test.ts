import { env } from "cloudflare:workers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { REPOSITORIES_PAGE_MAX, TAGS_PAGE_MAX } from "../../src/limits.ts";
import { isTag } from "../../src/oci/reference.ts";
import { isRepositoryName } from "../../src/oci/repository.ts";
import { image, push } from "../fixtures/artifacts.ts";
import { freshRepository, registry } from "../fixtures/registry.ts";
import { emptyRegistry } from "../fixtures/storage.ts";

/** D1's limit for a value (developers.cloudflare.com/d1/platform/limits): a page of names is one. */
const D1_VALUE_MAX_BYTES = 2_000_000;

const TAG_MAX_CHARACTERS = 128;
const NAME_MAX_CHARACTERS = 255;

interface Page {
  readonly names: readonly string[];
  readonly next: string | undefined;
}

const list = z.union([
  z.strictObject({ name: z.string(), tags: z.array(z.string()) }).transform(({ tags }) => tags),
  z.strictObject({ repositories: z.array(z.string()) }).transform(({ repositories }) => repositories),
]);

async function pageAt(path: string): Promise<Page> {
  const response = await registry.request("GET", path);
  expect(response.status).toBe(200);
  const names = list.parse(await response.json());
  return { names, next: /^<([^>]+)>; rel="next"$/.exec(response.headers.get("Link") ?? "")?.[1] };
}

/** Follows the Links to their end. */
async function pagesAt(path: string): Promise<Page[]> {
  const pages = [await pageAt(path)];
  for (let next = pages[0]?.next; next !== undefined; next = pages.at(-1)?.next) pages.push(await pageAt(next));
  return pages;
}

/** Names of one length that differ in their last characters, in order. */
function namesOf(number: number, length: number): string[] {
  return Array.from({ length: number }, (_, at) => String(at).padStart(6, "0").padStart(length, "x"));
}

/** Full pages, and one with the rest; each a value that D1 hands out, with the one name more that tells of a next page. */
function expectPages(pages: readonly Page[], names: readonly string[], most: number): void {
  expect(pages.map((page) => page.names.length)).toEqual([most, names.length - most]);
  for (const page of pages) {
    const value = JSON.stringify([...page.names, names[0]]);
    expect(new TextEncoder().encode(value).byteLength).toBeLessThanOrEqual(D1_VALUE_MAX_BYTES);
  }
  const listed = pages.flatMap((page) => page.names);
  expect(listed.findIndex((name, at) => name !== names[at])).toBe(-1);
  expect(listed).toHaveLength(names.length);
}

// Rows as pushes make them, of which so many would take minutes.
beforeAll(emptyRegistry);
afterAll(emptyRegistry);

describe("lists of names that are all as long as they may be", () => {
  it("end-8 GET tags/list is complete over its Links, with n and without", async () => {
    const repository = freshRepository();
    const names = namesOf(TAGS_PAGE_MAX + 500, TAG_MAX_CHARACTERS);
    expect(names.every(isTag)).toBe(true);
    await push(repository, image({ layers: [] }));
    await env.DB.prepare(
      `INSERT INTO tags (repository_id, name, manifest_id, updated_at)
       SELECT repositories.id, wanted.value, manifests.id, 0
       FROM repositories JOIN manifests ON manifests.repository_id = repositories.id JOIN json_each(?2) AS wanted
       WHERE repositories.name = ?1`,
    )
      .bind(repository.name, JSON.stringify(names))
      .run();
    const path = `/v2/${repository.name}/tags/list`;
    expectPages(await pagesAt(path), names, TAGS_PAGE_MAX);
    expectPages(await pagesAt(`${path}?n=1000000`), names, TAGS_PAGE_MAX);
  });

  it("GET _catalog is complete over its Links, with n and without", async () => {
    await emptyRegistry();
    const names = namesOf(REPOSITORIES_PAGE_MAX + 500, NAME_MAX_CHARACTERS);
    expect(names.every(isRepositoryName)).toBe(true);
    // A list of them all is no value that D1 takes.
    for (const some of [names.slice(0, 4000), names.slice(4000)]) {
      await env.DB.prepare("INSERT INTO repositories (name, created_at) SELECT value, 0 FROM json_each(?1)")
        .bind(JSON.stringify(some))
        .run();
    }
    await env.DB.prepare(
      `INSERT INTO manifests (repository_id, digest, media_type, size, put_request, created_at, body)
       SELECT id, 'sha256:' || hex(randomblob(32)), 'application/json', 2, '', 0, '{}' FROM repositories`,
    ).run();
    expectPages(await pagesAt("/v2/_catalog"), names, REPOSITORIES_PAGE_MAX);
    expectPages(await pagesAt("/v2/_catalog?n=1000000"), names, REPOSITORIES_PAGE_MAX);
  });
});
