import { env } from "cloudflare:workers";
import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { type Artifact, image, push } from "../fixtures/artifacts.ts";
import { freshRepository } from "../fixtures/registry.ts";
import { expectError } from "../conformance/error-envelope.ts";
import type { Query, RepositoryClient } from "../support/client.ts";

interface HistoryRow {
  readonly name: string;
  readonly digest: string | null;
  readonly actor: string;
}

async function historyOf(repository: RepositoryClient): Promise<HistoryRow[]> {
  const { results } = await env.DB.prepare(
    `SELECT tag_history.name AS name, digest, actor FROM tag_history
     JOIN repositories ON repositories.id = repository_id WHERE repositories.name = ?1 ORDER BY tag_history.id`,
  )
    .bind(repository.name)
    .all<HistoryRow>();
  return results;
}

async function eventsOf(
  repository: RepositoryClient,
): Promise<{ kind: string; tag: string | null; digest: string | null }[]> {
  const { results } = await env.DB.prepare("SELECT kind, tag, digest FROM events WHERE repository = ?1 ORDER BY id")
    .bind(repository.name)
    .all<{ kind: string; tag: string | null; digest: string | null }>();
  return results;
}

const list = z.strictObject({ name: z.string(), tags: z.array(z.string()) });

async function listed(
  repository: RepositoryClient,
  query: Query = {},
): Promise<{ tags: string[]; link: string | null }> {
  const response = await repository.listTags(query);
  expect(response.status).toBe(200);
  const { name, tags } = list.parse(await response.json());
  expect(name).toBe(repository.name);
  return { tags, link: response.headers.get("Link") };
}

async function pushTagged(repository: RepositoryClient, ...tags: readonly string[]): Promise<Artifact> {
  return push(repository, image({ layers: [] }), ...tags);
}

describe("a tag's history", () => {
  it("says who moved what, in order; a put of the digest that the tag has is no move", async () => {
    const repository = freshRepository();
    const [one, other] = [await pushTagged(repository, "v1"), await pushTagged(repository)];
    await repository.putManifest("v1", one.bytes);
    await repository.putManifest("v1", other.bytes);
    await repository.putManifest("v2", other.bytes);
    await repository.deleteManifest("v1");
    await repository.putManifest("v1", one.bytes);
    expect(await historyOf(repository)).toEqual(
      [
        ["v1", one.descriptor.digest],
        ["v1", other.descriptor.digest],
        ["v2", other.descriptor.digest],
        ["v1", null],
        ["v1", one.descriptor.digest],
      ].map(([name, digest]) => ({ name, digest, actor: "admin" })),
    );
  });

  it("notes the deletion of a manifest's tags with it", async () => {
    const repository = freshRepository();
    const { descriptor } = await pushTagged(repository, "a", "b");
    await repository.deleteManifest(descriptor.digest);
    expect((await historyOf(repository)).slice(2).map(({ name, digest }) => [name, digest])).toEqual([
      ["a", null],
      ["b", null],
    ]);
  });
});

describe("the outbox of events", () => {
  it("has one for each change, written with it", async () => {
    const repository = freshRepository();
    const { bytes, descriptor, blobs } = await pushTagged(repository);
    const { digest } = descriptor;
    await repository.putManifest("v1", bytes);
    await repository.deleteManifest("v1");
    await repository.putManifest("v2", bytes);
    await repository.deleteManifest(digest);
    await repository.deleteBlob(blobs[0]?.descriptor.digest ?? "");
    const events = (await eventsOf(repository)).filter(({ kind }) => kind !== "manifest.pushed");
    expect(events.map(({ kind, tag }) => [kind, tag])).toEqual([
      ["tag.moved", "v1"],
      ["tag.deleted", "v1"],
      ["tag.moved", "v2"],
      ["tag.deleted", "v2"],
      ["manifest.deleted", null],
      ["blob.deleted", null],
    ]);
    const pushes = (await eventsOf(repository)).filter(({ kind }) => kind === "manifest.pushed");
    expect(pushes.length).toBeGreaterThan(0);
    for (const event of pushes) expect(event.digest).toBe(digest);
  });

  it("has none for what was refused, or was not there", async () => {
    const repository = freshRepository();
    await pushTagged(repository);
    const before = await eventsOf(repository);
    await repository.deleteManifest("nothing");
    await repository.deleteManifest(image().descriptor.digest);
    await repository.deleteBlob(image().descriptor.digest);
    await repository.putManifest("v1", image().bytes);
    expect(await eventsOf(repository)).toEqual(before);
  });
});

describe("end-8 GET tags/list", () => {
  it("is in byte order, digests are no tags, and a moved tag is listed once", async () => {
    const repository = freshRepository();
    const tags = ["b", "a", "B", "_", "a.b", "a-b", "1", "a_b", "10", "9"];
    await pushTagged(repository, ...tags);
    await pushTagged(repository, "a");
    expect(await listed(repository)).toEqual({ tags: tags.toSorted(), link: null });
  });

  it("of a repository without tags is an empty list, of none a 404", async () => {
    const repository = freshRepository();
    await pushTagged(repository);
    expect(await listed(repository)).toEqual({ tags: [], link: null });
    await expectError(await freshRepository().listTags(), 404, "NAME_UNKNOWN");
  });

  it("with n=0 is an empty list without a Link", async () => {
    const repository = freshRepository();
    await pushTagged(repository, "a");
    expect(await listed(repository, { n: 0 })).toEqual({ tags: [], link: null });
  });

  it("begins after last, whether that is a tag or not", async () => {
    const repository = freshRepository();
    await pushTagged(repository, "a", "b", "c");
    expect((await listed(repository, { last: "a" })).tags).toEqual(["b", "c"]);
    expect((await listed(repository, { last: "bb" })).tags).toEqual(["c"]);
    expect((await listed(repository, { last: "z" })).tags).toEqual([]);
    expect((await listed(repository, { last: "a", n: 1 })).tags).toEqual(["b"]);
  });

  it.each(["-1", "x", "1.5", ""])("with n=%j is refused", async (n) => {
    const repository = freshRepository();
    await pushTagged(repository, "a");
    await expectError(await repository.listTags({ n }), 400, "UNSUPPORTED");
  });

  const tag = fc
    .string({ unit: fc.constantFrom(..."aZ09_.-".split("")), minLength: 1, maxLength: 5 })
    .map((text) => `t${text}`);
  test.prop([fc.uniqueArray(tag, { minLength: 1, maxLength: 30 }), fc.integer({ min: 1, max: 12 })], { numRuns: 10 })(
    "the pages, by way of Link, are the whole list for any n",
    async (tags, n) => {
      const repository = freshRepository();
      await pushTagged(repository, ...tags);
      const pages: string[][] = [];
      for (let next: string | null = `/v2/${repository.name}/tags/list?n=${String(n)}`; next !== null;) {
        const response = await repository.registry.request("GET", next);
        pages.push(list.parse(await response.json()).tags);
        next = /^<([^>]+)>; rel="next"$/.exec(response.headers.get("Link") ?? "")?.[1] ?? null;
      }
      expect(pages.flat()).toEqual(tags.toSorted());
      for (const page of pages.slice(0, -1)) expect(page).toHaveLength(n);
    },
  );
});
