import { describe, expect, test } from "vitest";
import { z } from "zod";
import { type Descriptor, imageIndex, imageManifest, type RepositoryClient, utf8 } from "../support/client.ts";
import { bytesOf, emptyJson, imageConfig, imageIn, indexOf, unknownDigest } from "./content.ts";
import { expectSpecError } from "./error-envelope.ts";
import { freshRepository } from "./registry-under-test.ts";

const descriptor = z.object({
  mediaType: z.string(),
  digest: z.string(),
  size: z.number(),
  artifactType: z.string().optional(),
  annotations: z.record(z.string(), z.string()).optional(),
});
const referrersIndex = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.literal(imageIndex),
  manifests: z.array(descriptor),
});

/** All pages. */
async function list(repository: RepositoryClient, digest: string): Promise<readonly Descriptor[]> {
  const found: Descriptor[] = [];
  let target: string | null = `/v2/${repository.name}/referrers/${digest}`;
  while (target !== null) {
    const response = await repository.registry.request("GET", target);
    expect(response.status).toBe(200);
    expect(response.headers.get("Content-Type")).toBe(imageIndex);
    for (const each of referrersIndex.parse(await response.json()).manifests) {
      found.push({
        mediaType: each.mediaType,
        digest: each.digest,
        size: each.size,
        ...(each.artifactType === undefined ? {} : { artifactType: each.artifactType }),
        ...(each.annotations === undefined ? {} : { annotations: each.annotations }),
      });
    }
    target = /<([^>]+)>/.exec(response.headers.get("Link") ?? "")?.[1] ?? null;
  }
  return found.toSorted((a, b) => (a.digest < b.digest ? -1 : 1));
}

/** An artifact about `subject`. */
async function attach(
  repository: RepositoryClient,
  subject: Descriptor,
  artifactType: string,
  annotations: Record<string, string>,
): Promise<Descriptor> {
  const config = await repository.pushBlob(utf8("{}"), { mediaType: emptyJson });
  const manifest = await imageIn(repository, { config, artifactType, annotations, subject });
  const bytes = bytesOf(manifest);
  const pushed = await repository.pushManifest(bytes, { mediaType: imageManifest });
  return { ...pushed, artifactType, annotations };
}

const sbom = "application/vnd.example.sbom.v1";
const signature = "application/vnd.example.signature.v1";

test.each(["sha256", "sha512"] as const)(
  "end-7a PUT manifest with a subject (%s): answers OCI-Subject",
  async (algorithm) => {
    const repository = freshRepository();
    const subject = await repository.pushManifest(await imageIn(repository), { algorithm });
    const response = await repository.putManifest("v1", bytesOf(await imageIn(repository, { subject })));
    expect(response.status).toBe(201);
    expect(response.headers.get("OCI-Subject")).toBe(subject.digest);
  },
);

test("end-7a PUT manifest without a subject: no OCI-Subject", async () => {
  const repository = freshRepository();
  const response = await repository.putManifest("v1", bytesOf(await imageIn(repository)));
  expect(response.headers.get("OCI-Subject")).toBeNull();
});

test.each(["sha256", "sha512"] as const)(
  "end-12a GET referrers (%s): each with its type, artifactType and annotations",
  async (algorithm) => {
    const repository = freshRepository();
    const subject = await repository.pushManifest(await imageIn(repository), { algorithm });
    const expected = [
      await attach(repository, subject, sbom, { "org.example.format": "json" }),
      await attach(repository, subject, signature, { "org.example.key": "abcd" }),
    ].toSorted((a, b) => (a.digest < b.digest ? -1 : 1));
    expect(await list(repository, subject.digest)).toEqual(expected);
  },
);

test("end-12a GET referrers: without an artifactType an image shows its config's type, an index shows none", async () => {
  const repository = freshRepository();
  const subject = await repository.pushManifest(await imageIn(repository));
  const image = await repository.pushManifest(await imageIn(repository, { subject }));
  const index = await repository.pushManifest(indexOf([], { subject, annotations: { a: "b" } }));
  const typed = await repository.pushManifest(indexOf([], { subject, artifactType: sbom }));
  const listed = await list(repository, subject.digest);
  expect(listed).toHaveLength(3);
  expect(listed).toContainEqual({ ...image, artifactType: imageConfig });
  expect(listed).toContainEqual({ ...index, annotations: { a: "b" } });
  expect(listed).toContainEqual({ ...typed, artifactType: sbom });
});

describe("end-12a GET referrers: an empty list", () => {
  test.each([
    [
      "for a manifest without referrers",
      async (repository: RepositoryClient) => (await repository.pushManifest(await imageIn(repository))).digest,
    ],
    [
      "for an unknown digest",
      async (repository: RepositoryClient) => {
        await repository.pushManifest(await imageIn(repository));
        return unknownDigest();
      },
    ],
    [
      "for an unknown sha512 digest",
      async (repository: RepositoryClient) => {
        await repository.pushManifest(await imageIn(repository));
        return unknownDigest("sha512");
      },
    ],
  ])("end-12a GET referrers: empty %s", async (_name, prepare) => {
    const repository = freshRepository();
    expect(await list(repository, await prepare(repository))).toEqual([]);
  });
});

test("end-12a GET referrers: a subject may come after its referrers, or never", async () => {
  const repository = freshRepository();
  const image = await imageIn(repository);
  const subject = { mediaType: imageManifest, digest: await unknownDigest(), size: 123 };
  const response = await repository.putManifest("v1", bytesOf({ ...image, subject }));
  expect(response.status).toBe(201);
  expect(response.headers.get("OCI-Subject")).toBe(subject.digest);
  expect(await list(repository, subject.digest)).toHaveLength(1);
});

test("end-12a GET referrers: a digest of invalid syntax is 400", async () => {
  const repository = freshRepository();
  await repository.pushManifest(await imageIn(repository));
  await expectSpecError(await repository.listReferrers("sha256:zzz"), [400], ["DIGEST_INVALID"]);
});

test("end-12b GET referrers by artifactType: only those, and OCI-Filters-Applied says so", async (context) => {
  const repository = freshRepository();
  const subject = await repository.pushManifest(await imageIn(repository));
  const wanted = await attach(repository, subject, sbom, {});
  await attach(repository, subject, signature, {});
  const response = await repository.listReferrers(subject.digest, { artifactType: sbom });
  expect(response.status).toBe(200);
  context.skip(
    response.headers.get("OCI-Filters-Applied") === null,
    "this registry does not filter, as the spec lets it",
  );
  expect(response.headers.get("OCI-Filters-Applied")).toBe("artifactType");
  expect(referrersIndex.parse(await response.json()).manifests.map((each) => each.digest)).toEqual([wanted.digest]);
});

test("end-12b GET referrers by artifactType: an empty list where none matches", async () => {
  const repository = freshRepository();
  const subject = await repository.pushManifest(await imageIn(repository));
  const response = await repository.listReferrers(subject.digest, { artifactType: sbom });
  expect(response.status).toBe(200);
  expect(referrersIndex.parse(await response.json()).manifests).toEqual([]);
});

test("end-9 DELETE manifest: a deleted referrer is listed no more", async () => {
  const repository = freshRepository();
  const subject = await repository.pushManifest(await imageIn(repository));
  const referrer = await attach(repository, subject, sbom, {});
  expect((await repository.deleteManifest(referrer.digest)).status).toBe(202);
  expect(await list(repository, subject.digest)).toEqual([]);
});
