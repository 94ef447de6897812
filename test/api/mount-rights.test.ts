import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { parseDigest } from "../../src/oci/digest.ts";
import { parseRepositoryName, type RepositoryName } from "../../src/oci/repository.ts";
import { mountBlob, mountCandidates } from "../../src/uploads/mount.ts";
import { randomBytes } from "../fixtures/content.ts";
import { freshRepository } from "../fixtures/registry.ts";
import { count } from "../fixtures/storage.ts";
import type { RepositoryClient } from "../support/client.ts";

/** end-11 with a caller who may pull some repositories only. */

const somebody = { principal: { name: "somebody", tokenId: null }, address: null, requestId: "a request" };

const nameOf = ({ name }: RepositoryClient): RepositoryName => parseRepositoryName(name);

interface Mount {
  readonly into: RepositoryClient;
  readonly digest: string;
  /** null: without `from` */
  readonly from: RepositoryClient | null;
  readonly mayPull: readonly RepositoryClient[];
}

async function mount({ into, digest, from, mayPull: pullable }: Mount): Promise<boolean> {
  const allowed = new Set<string>(pullable.map(({ name }) => name));
  const source = from === null ? null : nameOf(from);
  const mayPull = (name: RepositoryName): boolean => allowed.has(name);
  const parsed = parseDigest(digest);
  const candidates = await mountCandidates(env.DB, parsed, source);
  return mountBlob(env.DB, { into: nameOf(into), digest: parsed, candidates, mayPull }, somebody);
}

/** Who has not the bytes gets no link, and the refused mount leaves no trace. */
async function expectNotLinked(into: RepositoryClient, digest: string): Promise<void> {
  expect((await into.headBlob(digest)).status).toBe(404);
  expect(await count("SELECT count(*) AS count FROM repositories WHERE name = ?1", into.name)).toBe(0);
}

describe("a mount with from", () => {
  it("links the blob where the caller may pull that repository", async () => {
    const [source, into] = [freshRepository(), freshRepository()];
    const { digest } = await source.pushBlob(randomBytes(10));
    expect(await mount({ into, digest, from: source, mayPull: [source] })).toBe(true);
    expect((await into.headBlob(digest)).status).toBe(200);
  });

  it("links nothing where the caller may not, though another repository that it may pull has the blob", async () => {
    const [source, other, into] = [freshRepository(), freshRepository(), freshRepository()];
    const bytes = randomBytes(10);
    const { digest } = await source.pushBlob(bytes);
    await other.pushBlob(bytes);
    expect(await mount({ into, digest, from: source, mayPull: [other, into] })).toBe(false);
    await expectNotLinked(into, digest);
  });

  it("links nothing from a repository that has not the blob, or is not there", async () => {
    const [source, into] = [freshRepository(), freshRepository()];
    const { digest } = await freshRepository().pushBlob(randomBytes(10));
    expect(await mount({ into, digest, from: source, mayPull: [source] })).toBe(false);
    await source.pushBlob(randomBytes(10));
    expect(await mount({ into, digest, from: source, mayPull: [source] })).toBe(false);
    await expectNotLinked(into, digest);
  });
});

describe("a mount without from", () => {
  it("links the blob where any repository that the caller may pull has it", async () => {
    const sources = [freshRepository(), freshRepository(), freshRepository()];
    const bytes = randomBytes(10);
    const digests = await Promise.all(sources.map(async (source) => (await source.pushBlob(bytes)).digest));
    for (const allowed of sources) {
      const into = freshRepository();
      expect(await mount({ into, digest: digests[0] ?? "", from: null, mayPull: [allowed] })).toBe(true);
      expect((await into.headBlob(digests[0] ?? "")).status).toBe(200);
    }
  });

  it("links nothing where only others have it", async () => {
    const [source, mine, into] = [freshRepository(), freshRepository(), freshRepository()];
    const { digest } = await source.pushBlob(randomBytes(10));
    await mine.pushBlob(randomBytes(10));
    expect(await mount({ into, digest, from: null, mayPull: [mine, into] })).toBe(false);
    await expectNotLinked(into, digest);
  });
});
