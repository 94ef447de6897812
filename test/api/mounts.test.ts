import { describe, expect, it } from "vitest";
import { bodyOf, digest, randomBytes, unknownDigest } from "../fixtures/content.ts";
import { freshRepository } from "../fixtures/registry.ts";
import { count, objectsMadeBy, runPass } from "../fixtures/storage.ts";
import { append } from "../fixtures/upload.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { locationOf } from "../support/client.ts";

describe("end-11 POST with mount", () => {
  it.each(["with from", "without from"])("%s links the blob: 201, and nothing is moved", async (which) => {
    for (const algorithm of ["sha256", "sha512"] as const) {
      const [source, into] = [freshRepository(), freshRepository()];
      const bytes = randomBytes(100);
      const { digest: named } = await source.pushBlob(bytes, { algorithm });
      const made = await objectsMadeBy(async () => {
        const response = await into.mountBlob(named, which === "with from" ? source.name : undefined);
        expect(response.status).toBe(201);
        expect(response.headers.get("Location")).toBe(`/v2/${into.name}/blobs/${named}`);
        expect(response.headers.get("Docker-Content-Digest")).toBe(named);
      });
      expect(made).toEqual([]);
      expect(await bodyOf(await into.getBlob(named))).toEqual(bytes);
    }
  });

  it("with from takes it from there alone: where that has not the blob, the bytes are asked for", async () => {
    const [source, empty, into] = [freshRepository(), freshRepository(), freshRepository()];
    const bytes = randomBytes(100);
    const named = digest(bytes);
    await source.pushBlob(bytes);
    const response = await into.mountBlob(named, empty.name);
    expect(response.status).toBe(202);
    expect((await into.headBlob(named)).status).toBe(404);
    const last = await append(into, locationOf(response), bytes);
    expect((await into.finishUpload(last, named)).status).toBe(201);
  });

  it.each(["with from", "without from"])("%s of what nobody has is a new session: 202", async (which) => {
    const [source, into] = [freshRepository(), freshRepository()];
    await source.pushBlob(randomBytes(10));
    const response = await into.mountBlob(unknownDigest(), which === "with from" ? source.name : undefined);
    expect([response.status, response.headers.get("Range")]).toEqual([202, "0-0"]);
    expect((await into.uploadStatus(locationOf(response))).status).toBe(204);
    expect(await count("SELECT count(*) AS count FROM repositories WHERE name = ?1", into.name)).toBe(0);
  });

  it("into the repository that has it, and twice, is 201", async () => {
    const repository = freshRepository();
    const { digest: named } = await repository.pushBlob(randomBytes(10));
    for (const from of [repository.name, undefined]) expect((await repository.mountBlob(named, from)).status).toBe(201);
    expect((await repository.headBlob(named)).status).toBe(200);
  });

  it("is independent of its source: a deletion there leaves it here", async () => {
    const [source, into] = [freshRepository(), freshRepository()];
    const bytes = randomBytes(100);
    const { digest: named } = await source.pushBlob(bytes);
    await into.mountBlob(named, source.name);
    expect((await source.deleteBlob(named)).status).toBe(202);
    await runPass({ graceSeconds: 3600 });
    expect((await source.headBlob(named)).status).toBe(404);
    expect(await bodyOf(await into.getBlob(named))).toEqual(bytes);
  });

  it("of a malformed digest, or from a malformed name, is refused", async () => {
    const repository = freshRepository();
    await expectError(await repository.mountBlob("sha256:abc"), 400, "DIGEST_INVALID");
    await expectError(await repository.mountBlob(""), 400, "DIGEST_INVALID");
    await expectError(await repository.mountBlob(unknownDigest(), "NOT/a//name"), 400, "NAME_INVALID");
  });
});
