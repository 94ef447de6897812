import { describe, expect, it } from "vitest";
import { z } from "zod";
import { REFERRER_DESCRIPTOR_MAX_BYTES } from "../../src/limits.ts";
import { type Artifact, emptyBlob, type Fields, image, index, push, referrer } from "../fixtures/artifacts.ts";
import { MIB, unknownDigest } from "../fixtures/content.ts";
import { freshRepository } from "../fixtures/registry.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { type Descriptor, imageIndex, imageManifest, type Query, type RepositoryClient } from "../support/client.ts";

const descriptor = z.strictObject({
  mediaType: z.string(),
  digest: z.string(),
  size: z.number(),
  artifactType: z.string().optional(),
  annotations: z.record(z.string(), z.string()).optional(),
});
const list = z.strictObject({
  schemaVersion: z.literal(2),
  mediaType: z.literal(imageIndex),
  manifests: z.array(descriptor),
});

interface Page {
  readonly manifests: readonly z.infer<typeof descriptor>[];
  readonly bytes: number;
  readonly next: string | null;
}

async function pageOf(response: Response): Promise<Page> {
  expect(response.status).toBe(200);
  // ggcr takes this very type, without a charset.
  expect(response.headers.get("Content-Type")).toBe(imageIndex);
  const text = await response.text();
  const next = /^<([^>]+)>; rel="next"$/.exec(response.headers.get("Link") ?? "")?.[1] ?? null;
  return { manifests: list.parse(JSON.parse(text)).manifests, bytes: text.length, next };
}

async function pagesOf(repository: RepositoryClient, subject: string, query: Query = {}): Promise<Page[]> {
  const pages = [await pageOf(await repository.listReferrers(subject, query))];
  for (let next = pages[0]?.next ?? null; next !== null; next = pages.at(-1)?.next ?? null) {
    pages.push(await pageOf(await repository.registry.request("GET", next)));
  }
  return pages;
}

const digests = (page: Page | undefined): readonly string[] => page?.manifests.map(({ digest }) => digest) ?? [];

/** Referrers of one subject, pushed one after the other. */
async function pushReferrers(
  repository: RepositoryClient,
  subject: Descriptor,
  number: number,
  fields: (at: number) => Fields = () => ({}),
): Promise<Artifact[]> {
  await repository.pushBlob(emptyBlob.bytes);
  const pushed: Artifact[] = [];
  for (let at = 0; at < number; at++)
    pushed.push(await push(repository, { ...referrer(subject, fields(at)), blobs: [] }));
  return pushed;
}

const absent = (): Descriptor => ({ mediaType: imageManifest, digest: unknownDigest(), size: 10 });

/** Fields that make a large entry of the list; every third is of another type. */
const large = (at: number) => ({
  artifactType: `application/vnd.example.${at % 3 === 0 ? "third" : "other"}`,
  annotations: { number: String(at), filling: "é".repeat(100_000) },
});

describe("end-12 GET referrers", () => {
  it("lists images, indexes and artifacts whose subject it is, each with its type, size and annotations", async () => {
    const repository = freshRepository();
    const { descriptor: subject } = await push(repository, image());
    const note = await push(repository, referrer(subject, { annotations: { a: "1" } }));
    const byConfig = await push(repository, image({ fields: { subject } }));
    const byIndex = await push(
      repository,
      index([], { subject, artifactType: "application/vnd.example.list", annotations: {} }),
    );
    await push(repository, image());
    expect((await pagesOf(repository, subject.digest)).flatMap(({ manifests }) => manifests)).toEqual([
      { ...note.descriptor, artifactType: "application/vnd.example.note.v1", annotations: { a: "1" } },
      { ...byConfig.descriptor, artifactType: byConfig.blobs[0]?.descriptor.mediaType },
      { ...byIndex.descriptor, artifactType: "application/vnd.example.list", annotations: {} },
    ]);
  });

  it("is an empty list for a digest, or a repository, that nobody knows; a malformed digest is refused", async () => {
    const repository = freshRepository();
    for (const digest of [unknownDigest(), unknownDigest("sha512"), `sha256:${"0".repeat(64)}`]) {
      expect((await pagesOf(repository, digest)).map(digests)).toEqual([[]]);
    }
    await expectError(await repository.listReferrers("sha256:abc"), 400, "DIGEST_INVALID");
  });

  it("lists what came before the subject, keeps it when the subject is deleted, and forgets what is deleted", async () => {
    const repository = freshRepository();
    const subject = image();
    const [first, second] = await pushReferrers(repository, subject.descriptor, 2);
    await push(repository, subject);
    await repository.deleteManifest(subject.descriptor.digest);
    const { digest } = subject.descriptor;
    expect((await pagesOf(repository, digest)).map(digests)).toEqual([
      [first?.descriptor.digest, second?.descriptor.digest],
    ]);
    await repository.deleteManifest(first?.descriptor.digest ?? "");
    expect((await pagesOf(repository, digest)).map(digests)).toEqual([[second?.descriptor.digest]]);
  });

  it("is of one repository, and of the subject's own digest: sha512 is another", async () => {
    const [one, other] = [freshRepository(), freshRepository()];
    const subject = image();
    const twin = { ...subject.descriptor, digest: unknownDigest("sha512") };
    const [note] = await pushReferrers(one, subject.descriptor, 1);
    const [noteOfTwin] = await pushReferrers(one, twin, 1);
    expect((await pagesOf(one, subject.descriptor.digest)).map(digests)).toEqual([[note?.descriptor.digest]]);
    expect((await pagesOf(one, twin.digest)).map(digests)).toEqual([[noteOfTwin?.descriptor.digest]]);
    expect((await pagesOf(other, subject.descriptor.digest)).map(digests)).toEqual([[]]);
  });

  it("with artifactType lists those alone, and says that it did", async () => {
    const repository = freshRepository();
    const subject = absent();
    const types = ["application/vnd.example.a", "application/vnd.example.b+json"];
    const pushed = await pushReferrers(repository, subject, 6, (at) => ({ artifactType: types[at % 2] }));
    for (const [offset, artifactType] of types.entries()) {
      const response = await repository.listReferrers(subject.digest, { artifactType });
      expect(response.headers.get("OCI-Filters-Applied")).toBe("artifactType");
      expect(digests(await pageOf(response))).toEqual(
        pushed.filter((_, at) => at % 2 === offset).map((each) => each.descriptor.digest),
      );
    }
    expect((await pagesOf(repository, subject.digest, { artifactType: "application/none" })).map(digests)).toEqual([
      [],
    ]);
    expect((await repository.listReferrers(subject.digest)).headers.get("OCI-Filters-Applied")).toBeNull();
  });

  it("lists 320 of them on one page, in the order in which they came, pushed again or not", async () => {
    const repository = freshRepository();
    const subject = absent();
    const pushed = await pushReferrers(repository, subject, 320);
    for (const again of [pushed[7], pushed[200]])
      if (again !== undefined) await push(repository, { ...again, blobs: [] });
    const pages = await pagesOf(repository, subject.digest);
    expect(pages.map(digests)).toEqual([pushed.map((each) => each.descriptor.digest)]);
  });

  it("ends a page only near 4 MiB of body; its Link goes on, filter and all, and nothing is missing or double", async () => {
    const repository = freshRepository();
    const subject = absent();
    const pushed = await pushReferrers(repository, subject, 45, large);
    const pages = await pagesOf(repository, subject.digest);
    expect(pages.flatMap(digests)).toEqual(pushed.map((each) => each.descriptor.digest));
    expect(pages.length).toBeGreaterThan(1);
    for (const { manifests, next } of pages) {
      const bytes = new TextEncoder().encode(JSON.stringify(manifests)).byteLength;
      expect(bytes).toBeLessThanOrEqual(4 * MIB);
      if (next !== null) expect(bytes).toBeGreaterThan(3.5 * MIB);
      for (const each of manifests) expect(each.annotations?.["filling"]?.length).toBe(100_000);
    }
    const thirds = pushed.filter((_, at) => at % 3 === 0).map((each) => each.descriptor.digest);
    const filtered = await pagesOf(repository, subject.digest, { artifactType: "application/vnd.example.third" });
    expect(filtered.flatMap(digests)).toEqual(thirds);
  });

  it("lists one with more annotations than go into a list without them, and warned of it", async () => {
    const repository = freshRepository();
    const subject = absent();
    await repository.pushBlob(emptyBlob.bytes);
    for (const [length, listed] of [
      [REFERRER_DESCRIPTOR_MAX_BYTES - 1000, true],
      [REFERRER_DESCRIPTOR_MAX_BYTES, false],
    ] as const) {
      const { bytes, descriptor: own } = referrer(subject, { annotations: { filling: "x".repeat(length) } });
      const response = await repository.putManifest(own.digest, bytes);
      expect([response.status, response.headers.get("Warning") === null]).toEqual([201, listed]);
      const found = (await pagesOf(repository, subject.digest))
        .flatMap(({ manifests }) => manifests)
        .find(({ digest }) => digest === own.digest);
      expect(found?.annotations?.["filling"]?.length).toBe(listed ? length : undefined);
    }
  });

  it("goes on after what was listed, though referrers come and go between two pages", async () => {
    const repository = freshRepository();
    const subject = absent();
    const pushed = await pushReferrers(repository, subject, 12, (at) => ({
      annotations: { number: String(at), filling: "x".repeat(500_000) },
    }));
    const first = await pageOf(await repository.listReferrers(subject.digest));
    const [seen, unseen] = [pushed.slice(0, first.manifests.length), pushed.slice(first.manifests.length)];
    await repository.deleteManifest(seen.at(-1)?.descriptor.digest ?? "");
    await repository.deleteManifest(unseen[0]?.descriptor.digest ?? "");
    const [late] = await pushReferrers(repository, subject, 1);
    const rest = await pageOf(await repository.registry.request("GET", first.next ?? ""));
    expect(digests(rest)).toEqual([...unseen.slice(1), late].map((each) => each?.descriptor.digest));
  });

  it.each(["x", "-1", "1.5"])("with after=%j, which no Link says, is refused", async (after) => {
    await expectError(await freshRepository().listReferrers(unknownDigest(), { after }), 400, "UNSUPPORTED");
  });
});
