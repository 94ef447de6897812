import { expect, inject, test } from "vitest";
import { z } from "zod";
import { imageIndex, type RepositoryClient } from "../../support/client.ts";
import { imageIn, indexOf, unknownDigest } from "../content.ts";
import { rawRequest } from "../raw-http.ts";
import { freshRepository } from "../registry-under-test.ts";

const page = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.literal(imageIndex),
  manifests: z.array(z.looseObject({ digest: z.string() })),
});
const PAGE_MAX_BYTES = 4 * 1024 * 1024;
const LONG_MS = 120_000;

interface Pages {
  readonly sizes: number[];
  readonly digests: string[];
  readonly filters: (string | null)[];
}

async function pages(repository: RepositoryClient, digest: string, query = ""): Promise<Pages> {
  const found: Pages = { sizes: [], digests: [], filters: [] };
  let target: string | undefined = `/v2/${repository.name}/referrers/${digest}${query}`;
  while (target !== undefined) {
    const response: Response = await repository.registry.request("GET", target);
    expect(response.status).toBe(200);
    expect(response.headers.get("Content-Type")).toBe(imageIndex);
    const text = await response.text();
    found.sizes.push(text.length);
    found.filters.push(response.headers.get("OCI-Filters-Applied"));
    found.digests.push(...page.parse(JSON.parse(text)).manifests.map((each) => each.digest));
    const link = response.headers.get("Link");
    if (link !== null) expect(link).toMatch(/^<\/v2\/[^>]+>; rel="next"$/);
    target = /^<([^>]+)>/.exec(link ?? "")?.[1];
  }
  return found;
}

test.each([
  ["a repository that does not exist", async () => ({ repository: freshRepository(), digest: await unknownDigest() })],
  [
    "the digest of zeros, with which clients probe",
    async () => ({ repository: freshRepository(), digest: `sha256:${"0".repeat(64)}` }),
  ],
  [
    "a sha512 digest that nobody knows",
    async () => ({ repository: freshRepository(), digest: await unknownDigest("sha512") }),
  ],
])("end-12a GET referrers: 200 and an empty index for %s", async (_name, subject) => {
  const { repository, digest } = await subject();
  const response = await repository.listReferrers(digest);
  expect(response.status).toBe(200);
  expect(response.headers.get("Content-Type")).toBe(imageIndex);
  expect(await response.json()).toMatchObject({ schemaVersion: 2, mediaType: imageIndex, manifests: [] });
});

test("end-12 GET referrers: the type has no parameter, also where gzip is accepted", async () => {
  const repository = freshRepository();
  const target = `/v2/${repository.name}/referrers/${await unknownDigest()}`;
  const response = await rawRequest(inject("registryUrl"), {
    method: "GET",
    target,
    headers: { "Accept-Encoding": "gzip" },
  });
  expect(response.header("Content-Type")).toBe(imageIndex);
});

test("end-12a GET referrers: 300 are one page", { timeout: LONG_MS }, async () => {
  const repository = freshRepository();
  const subject = await repository.pushManifest(await imageIn(repository));
  const pushed: string[] = [];
  for (let at = 0; at < 300; at += 10) {
    const ten = Array.from({ length: 10 }, (_, index) =>
      repository.pushManifest(indexOf([], { subject, annotations: { number: String(at + index) } })),
    );
    pushed.push(...(await Promise.all(ten)).map((descriptor) => descriptor.digest));
  }
  const found = await pages(repository, subject.digest);
  expect(found.sizes).toHaveLength(1);
  expect(found.digests.toSorted()).toEqual(pushed.toSorted());
});

test(
  "end-12a and end-12b GET referrers: more than 4 MiB come in pages that Link joins",
  { timeout: LONG_MS },
  async () => {
    const repository = freshRepository();
    const subject = await repository.pushManifest(await imageIn(repository));
    const filler = "a".repeat(250_000);
    const artifactType = "application/vnd.example.large";
    const pushed: string[] = [];
    for (let index = 0; index < 30; index++) {
      pushed.push(
        (
          await repository.pushManifest(
            indexOf([], { subject, artifactType, annotations: { index: String(index), filler } }),
          )
        ).digest,
      );
    }
    for (const query of ["", `?artifactType=${encodeURIComponent(artifactType)}`]) {
      const found = await pages(repository, subject.digest, query);
      expect(found.sizes.length).toBeGreaterThan(1);
      expect(found.sizes.length).toBeLessThanOrEqual(4);
      for (const size of found.sizes) expect(size).toBeLessThanOrEqual(PAGE_MAX_BYTES);
      expect(found.digests.toSorted()).toEqual(pushed.toSorted());
      expect(new Set(found.digests).size).toBe(pushed.length);
      for (const filters of found.filters) expect(filters).toBe(query === "" ? null : "artifactType");
    }
  },
);

test("end-9 DELETE of a subject: its referrers stay, and are listed under its digest", async () => {
  const repository = freshRepository();
  const subject = await repository.pushManifest(await imageIn(repository), { reference: "v1" });
  const referrer = await repository.pushManifest(indexOf([], { subject }));
  expect((await repository.deleteManifest(subject.digest)).status).toBe(202);
  expect((await pages(repository, subject.digest)).digests).toEqual([referrer.digest]);
  expect((await repository.headManifest(referrer.digest)).status).toBe(200);
});

test("end-12a GET referrers: the same referrer pushed twice, and under a tag, is listed once", async () => {
  const repository = freshRepository();
  const subject = await repository.pushManifest(await imageIn(repository));
  const index = indexOf([], { subject });
  const referrer = await repository.pushManifest(index);
  await repository.pushManifest(index);
  await repository.pushManifest(index, { reference: "tagged" });
  expect((await pages(repository, subject.digest)).digests).toEqual([referrer.digest]);
});

test("end-12a GET referrers: those of another repository are not listed", async () => {
  const [repository, other] = [freshRepository(), freshRepository()];
  const subject = await repository.pushManifest(await imageIn(repository));
  await other.pushManifest(indexOf([], { subject }));
  expect((await pages(repository, subject.digest)).digests).toEqual([]);
});
