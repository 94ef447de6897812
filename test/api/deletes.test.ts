import { describe, expect, it } from "vitest";
import { blob, image, index, push, referrer } from "../fixtures/artifacts.ts";
import { bodyOf, randomBytes, unknownDigest } from "../fixtures/content.ts";
import { freshRepository } from "../fixtures/registry.ts";
import { count, listObjects, objectKeyOf, runPass } from "../fixtures/storage.ts";
import { expectError } from "../conformance/error-envelope.ts";

describe("end-9 DELETE manifest", () => {
  it("by tag takes the tag and leaves the manifest, and its other tags", async () => {
    const repository = freshRepository();
    const { descriptor } = await push(repository, image(), "a", "b");
    expect((await repository.deleteManifest("a")).status).toBe(202);
    expect((await repository.headManifest("a")).status).toBe(404);
    expect((await repository.headManifest("b")).status).toBe(200);
    expect((await repository.headManifest(descriptor.digest)).status).toBe(200);
    await expectError(await repository.deleteManifest("a"), 404, "MANIFEST_UNKNOWN");
  });

  it("by digest takes its tags with it, at once, and leaves its blobs", async () => {
    const repository = freshRepository();
    const other = await push(repository, image(), "other");
    const { descriptor, blobs } = await push(repository, image(), "a", "b");
    expect((await repository.deleteManifest(descriptor.digest)).status).toBe(202);
    for (const reference of ["a", "b", descriptor.digest])
      expect((await repository.headManifest(reference)).status).toBe(404);
    expect(await (await repository.listTags()).json()).toEqual({ name: repository.name, tags: ["other"] });
    for (const each of blobs) expect((await repository.headBlob(each.descriptor.digest)).status).toBe(200);
    expect((await repository.headManifest(other.descriptor.digest)).status).toBe(200);
    await expectError(await repository.deleteManifest(descriptor.digest), 404, "MANIFEST_UNKNOWN");
  });

  it("hits one repository only", async () => {
    const [one, other] = [freshRepository(), freshRepository()];
    const pushed = await push(one, image(), "v1");
    await push(other, pushed, "v1");
    await one.deleteManifest(pushed.descriptor.digest);
    expect((await other.headManifest("v1")).status).toBe(200);
    for (const each of pushed.blobs) expect((await other.headBlob(each.descriptor.digest)).status).toBe(200);
  });

  it("of an index's child is taken; the index stays and the child is a 404", async () => {
    const repository = freshRepository();
    const child = await push(repository, image());
    const parent = await push(repository, index([child.descriptor]), "list");
    expect((await repository.deleteManifest(child.descriptor.digest)).status).toBe(202);
    expect(await bodyOf(await repository.getManifest("list"))).toEqual(parent.bytes);
    await expectError(await repository.getManifest(child.descriptor.digest), 404, "MANIFEST_UNKNOWN");
  });

  it("of a subject keeps its referrers", async () => {
    const repository = freshRepository();
    const { descriptor: subject } = await push(repository, image());
    const note = await push(repository, referrer(subject), "note");
    await repository.deleteManifest(subject.digest);
    expect((await repository.headManifest("note")).status).toBe(200);
    expect(JSON.stringify(await (await repository.listReferrers(subject.digest)).json())).toContain(
      note.descriptor.digest,
    );
  });

  it("takes its edges with it, and its bytes where they are in R2", async () => {
    const repository = freshRepository();
    const large = image({ fields: { annotations: { filling: "x".repeat(100_000) } } });
    const objects = await listObjects();
    const { descriptor } = await push(repository, large);
    const edges =
      "SELECT count(*) AS count FROM manifest_references JOIN repositories ON repositories.id = repository_id WHERE name = ?1";
    expect(await count(edges, repository.name)).toBe(2);
    await repository.deleteManifest(descriptor.digest);
    expect(await count(edges, repository.name)).toBe(0);
    await runPass({ graceSeconds: 3600 });
    const left = (await listObjects()).filter((key) => !objects.includes(key));
    expect(left.filter((key) => key.startsWith("manifests/"))).toEqual([]);
  });

  it("and push again brings it back, tags aside", async () => {
    const repository = freshRepository();
    const pushed = await push(repository, image(), "v1");
    await repository.deleteManifest(pushed.descriptor.digest);
    expect((await repository.putManifest(pushed.descriptor.digest, pushed.bytes)).status).toBe(201);
    expect((await repository.headManifest("v1")).status).toBe(404);
  });

  it("of what is not there is a 404, of what can't be is a 400", async () => {
    const repository = freshRepository();
    await push(repository, image());
    for (const reference of ["nothing", unknownDigest(), ".bad"])
      await expectError(await repository.deleteManifest(reference), 404, "MANIFEST_UNKNOWN");
    await expectError(await repository.deleteManifest("sha256:abc"), 400, "DIGEST_INVALID");
    await expectError(await freshRepository().deleteManifest("v1"), 404, ["MANIFEST_UNKNOWN", "NAME_UNKNOWN"]);
  });
});

describe("end-10 DELETE blob", () => {
  it("takes it at once, from one repository only", async () => {
    const [one, other] = [freshRepository(), freshRepository()];
    const bytes = randomBytes(100);
    const { digest } = await one.pushBlob(bytes);
    await other.pushBlob(bytes);
    expect((await one.deleteBlob(digest)).status).toBe(202);
    await expectError(await one.getBlob(digest), 404, "BLOB_UNKNOWN");
    expect((await one.headBlob(digest)).status).toBe(404);
    await expectError(await one.deleteBlob(digest), 404, "BLOB_UNKNOWN");
    expect(await bodyOf(await other.getBlob(digest))).toEqual(bytes);
  });

  it("that a manifest still names is taken; the manifest stays, the blob is a 404, and may come again", async () => {
    const repository = freshRepository();
    const layer = blob(randomBytes(100));
    const { bytes, descriptor } = await push(repository, image({ layers: [layer] }), "v1");
    expect((await repository.deleteBlob(layer.descriptor.digest)).status).toBe(202);
    expect(await bodyOf(await repository.getManifest("v1"))).toEqual(bytes);
    expect((await repository.headBlob(layer.descriptor.digest)).status).toBe(404);
    await expectError(await repository.putManifest(descriptor.digest, bytes), 404, "MANIFEST_BLOB_UNKNOWN");
    await repository.pushBlob(layer.bytes);
    for (let pass = 0; pass < 2; pass++) await runPass();
    expect(await bodyOf(await repository.getBlob(layer.descriptor.digest))).toEqual(layer.bytes);
  });

  it("that no repository has any more leaves R2 with the next pass, whatever the grace", async () => {
    const repository = freshRepository();
    const { digest } = await repository.pushBlob(randomBytes(100));
    const key = await objectKeyOf(digest);
    await repository.deleteBlob(digest);
    await runPass({ graceSeconds: 86_400 });
    expect(await objectKeyOf(digest)).toBeNull();
    expect(await listObjects()).not.toContain(key);
  });

  it("of what is not there is a 404, of what can't be is a 400", async () => {
    const repository = freshRepository();
    await repository.pushBlob(randomBytes(10));
    await expectError(await repository.deleteBlob(unknownDigest()), 404, "BLOB_UNKNOWN");
    await expectError(await repository.deleteBlob("sha256:abc"), 400, "DIGEST_INVALID");
  });
});
