import { describe, expect, it } from "vitest";
import { z } from "zod";
import { REFERRER_DESCRIPTOR_MAX_BYTES, REFERRERS_SLICE_BYTES, REFERRERS_SLICES_PER_PAGE } from "../../src/limits.ts";
import { artifact, type Artifact, emptyBlob } from "../fixtures/artifacts.ts";
import { bodyOf, digest, MIB, unknownDigest } from "../fixtures/content.ts";
import { freshRepository } from "../fixtures/registry.ts";
import { type Descriptor, imageIndex, imageManifest, type RepositoryClient, utf8 } from "../support/client.ts";

/** Lists that are more than one D1 value. A page is put together from slices of nearly 1 MiB, in bytes of UTF-8. */

/** With a character that means a space in a query that does not encode it. */
const artifactType = "application/vnd.example.filled.v1+json";

interface Filled {
  readonly manifest: Artifact;
  /** JSON of its entry in the list, as the registry should have it */
  readonly entry: string;
}

/** Characters of 1, 2, 3 and 4 bytes in UTF-8; the last one is two UTF-16 units. */
const characters = ["x", "é", "€", "😀"] as const;

/** A referrer whose entry in the list has exactly so many bytes, nearly all of them of characters of `width` bytes. */
function filledTo(subject: Descriptor, bytes: number, width: number): Filled {
  const make = (filling: string): Filled => {
    const annotations = { made, filling };
    const fields = { artifactType, config: emptyBlob.descriptor, layers: [], subject, annotations };
    const manifest = artifact(imageManifest, fields, []);
    return { manifest, entry: JSON.stringify({ ...manifest.descriptor, artifactType, annotations }) };
  };
  const made = crypto.randomUUID();
  const character = characters[width - 1] ?? "x";
  const lengthOf = ({ entry }: Filled): number => utf8(entry).byteLength;
  // The entry holds the manifest's size too, which is a digit longer where the filling is: so it is aimed at twice.
  let filled = make("");
  for (let aim = 0; aim < 3 && lengthOf(filled) !== bytes; aim++) {
    const room = bytes - lengthOf(filled) + fillingBytes(filled);
    filled = make("x".repeat(room % width) + character.repeat(Math.floor(room / width)));
  }
  expect(lengthOf(filled)).toBe(bytes);
  return filled;
}

function fillingBytes({ entry }: Filled): number {
  const { annotations } = z.object({ annotations: z.object({ filling: z.string() }) }).parse(JSON.parse(entry));
  return utf8(annotations.filling).byteLength;
}

async function pushAll(repository: RepositoryClient, referrers: readonly Filled[]): Promise<void> {
  await repository.pushBlob(emptyBlob.bytes);
  for (const { manifest } of referrers) {
    expect((await repository.putManifest(manifest.descriptor.digest, manifest.bytes)).status).toBe(201);
  }
}

interface Page {
  /** JSON of each entry */
  readonly entries: readonly string[];
  readonly bytes: number;
  readonly hasNext: boolean;
  readonly filtersApplied: string | null;
}

const list = z.strictObject({
  schemaVersion: z.literal(2),
  mediaType: z.literal(imageIndex),
  manifests: z.array(z.unknown()),
});

async function pagesOf(repository: RepositoryClient, subject: string, query = ""): Promise<Page[]> {
  const pages: Page[] = [];
  for (let next: string | undefined = `/v2/${repository.name}/referrers/${subject}${query}`; next !== undefined;) {
    const response = await repository.registry.request("GET", next);
    expect(response.status).toBe(200);
    const body = await bodyOf(response);
    expect(response.headers.get("Content-Length")).toBe(String(body.byteLength));
    next = /^<([^>]+)>; rel="next"$/.exec(response.headers.get("Link") ?? "")?.[1];
    // `fatal`: half a character at the border of two slices would be no UTF-8.
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
    const entries = list.parse(JSON.parse(text)).manifests.map((entry) => JSON.stringify(entry));
    const filtersApplied = response.headers.get("OCI-Filters-Applied");
    pages.push({ entries, bytes: body.byteLength, hasNext: next !== undefined, filtersApplied });
  }
  return pages;
}

/** Told by digests: an assertion that prints megabytes helps nobody. */
const named = (entries: readonly string[]): string[] => entries.map((entry) => digest(utf8(entry)));

/** Each exactly once and whole, in order; pages of at most 4 MiB, each as full as the next entry lets it be. */
async function expectListed(
  repository: RepositoryClient,
  subject: Descriptor,
  referrers: readonly Filled[],
): Promise<Page[]> {
  const entries = referrers.map(({ entry }) => entry);
  const pages = await pagesOf(repository, subject.digest);
  expect(named(pages.flatMap((page) => page.entries))).toEqual(named(entries));
  let listed = 0;
  for (const { bytes, entries: own, hasNext } of pages) {
    listed += own.length;
    expect(bytes).toBeLessThanOrEqual(4 * MIB);
    expect(hasNext).toBe(listed < entries.length);
    const following = utf8(entries[listed] ?? "").byteLength + 1;
    if (hasNext) expect(bytes + following).toBeGreaterThan(REFERRERS_SLICES_PER_PAGE * REFERRERS_SLICE_BYTES);
  }
  return pages;
}

const absent = (): Descriptor => ({ mediaType: imageManifest, digest: unknownDigest(), size: 10 });

describe("end-12 GET referrers whose list is more than one D1 value", () => {
  it.each([2, 3, 4])("has each of characters of %i bytes once and whole, over several pages", async (width) => {
    const repository = freshRepository();
    const subject = absent();
    // Of lengths that never fit a slice evenly, so that its borders fall anywhere.
    const referrers = Array.from({ length: 36 }, (_, at) => filledTo(subject, 100_003 + 12_347 * (at % 11), width));
    await pushAll(repository, referrers);
    expect((await expectListed(repository, subject, referrers)).length).toBeGreaterThan(1);
  });

  it("has entries as large as they may be", async () => {
    const repository = freshRepository();
    const subject = absent();
    const referrers = Array.from({ length: 17 }, (_, at) =>
      filledTo(subject, REFERRER_DESCRIPTOR_MAX_BYTES, 1 + (at % 4)),
    );
    await pushAll(repository, referrers);
    expect((await expectListed(repository, subject, referrers)).map(({ entries }) => entries.length)).toEqual([
      7, 7, 3,
    ]);
  });

  it.each([-1, 0, 1])(
    "has each where the entries and their commas end %i bytes after the borders of slices, and of a page",
    async (after) => {
      const repository = freshRepository();
      const subject = absent();
      const quarter = REFERRERS_SLICE_BYTES / 4 - 1;
      const quarters = REFERRERS_SLICES_PER_PAGE * 4 + 3;
      const referrers = Array.from({ length: quarters }, (_, at) =>
        filledTo(subject, at === 0 ? quarter + after : quarter, 1 + (at % 4)),
      );
      await pushAll(repository, referrers);
      expect(await expectListed(repository, subject, referrers)).toHaveLength(2);
    },
  );

  it("has each where many short ones come before those that fill the page", async () => {
    const repository = freshRepository();
    const subject = absent();
    const short = Array.from({ length: 260 }, () => filledTo(subject, 450, 1));
    const long = Array.from({ length: 10 }, () => filledTo(subject, 500_000, 1));
    await pushAll(repository, [...short, ...long]);
    expect(await expectListed(repository, subject, [...short, ...long])).toHaveLength(2);
  });

  it("goes on by its Links with the same filter, and says on each page that it was applied", async () => {
    const repository = freshRepository();
    const subject = absent();
    const referrers = Array.from({ length: 12 }, () => filledTo(subject, 500_000, 3));
    await pushAll(repository, referrers);
    const other = artifact(imageManifest, { artifactType: "application/other", config: emptyBlob.descriptor, subject });
    expect((await repository.putManifest(other.descriptor.digest, other.bytes)).status).toBe(201);
    const pages = await pagesOf(repository, subject.digest, `?${new URLSearchParams({ artifactType }).toString()}`);
    expect(pages.length).toBeGreaterThan(1);
    expect(named(pages.flatMap(({ entries }) => entries))).toEqual(named(referrers.map(({ entry }) => entry)));
    expect(pages.map(({ filtersApplied }) => filtersApplied)).toEqual(pages.map(() => "artifactType"));
  });

  it.each([-1, 0, 1])("has each where all together have %i bytes more than one value", async (more) => {
    const repository = freshRepository();
    const subject = absent();
    const half = REFERRERS_SLICE_BYTES / 2 - 1;
    const referrers = [filledTo(subject, half, 4), filledTo(subject, half + more, 2)];
    await pushAll(repository, referrers);
    expect(await expectListed(repository, subject, referrers)).toHaveLength(1);
  });
});

describe("end-7 PUT of a referrer", () => {
  it.each([2, 3, 4])(
    "is measured for the list in bytes, not in characters: annotations of %i bytes each",
    async (width) => {
      const repository = freshRepository();
      const subject = absent();
      await repository.pushBlob(emptyBlob.bytes);
      const largest = filledTo(subject, REFERRER_DESCRIPTOR_MAX_BYTES, width);
      const larger = filledTo(subject, REFERRER_DESCRIPTOR_MAX_BYTES + 1, width);
      for (const [{ manifest }, warns] of [
        [largest, false],
        [larger, true],
      ] as const) {
        const response = await repository.putManifest(manifest.descriptor.digest, manifest.bytes);
        expect([response.status, response.headers.has("Warning")]).toEqual([201, warns]);
      }
      const [page] = await pagesOf(repository, subject.digest);
      const bare = JSON.stringify({ ...larger.manifest.descriptor, artifactType });
      expect(named(page?.entries ?? [])).toEqual(named([largest.entry, bare]));
    },
  );
});
