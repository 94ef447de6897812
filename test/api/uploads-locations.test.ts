import { afterEach, describe, expect, it, vi } from "vitest";
import { digest, randomBytes } from "../fixtures/content.ts";
import { freshRepository, environmentWith, registryWith } from "../fixtures/registry.ts";
import { begin, beginWith } from "../fixtures/upload.ts";
import { expectError } from "../conformance/error-envelope.ts";
import type { RepositoryClient } from "../support/client.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

async function expectUnknownToAll(repository: RepositoryClient, location: string): Promise<void> {
  const chunk = randomBytes(10);
  await expectError(await repository.appendChunk(location, chunk), 404, "BLOB_UPLOAD_UNKNOWN");
  await expectError(await repository.finishUpload(location, digest(chunk), chunk), 404, "BLOB_UPLOAD_UNKNOWN");
  await expectError(await repository.finishUpload(location, digest(chunk)), 404, "BLOB_UPLOAD_UNKNOWN");
  await expectError(await repository.uploadStatus(location), 404, "BLOB_UPLOAD_UNKNOWN");
  await expectError(await repository.cancelUpload(location), 404, "BLOB_UPLOAD_UNKNOWN");
}

describe("an upload's location", () => {
  it("is relative, and of its repository", async () => {
    const repository = freshRepository();
    const { location, last } = await beginWith(repository, randomBytes(10));
    for (const each of [location, last])
      expect(each).toMatch(new RegExp(`^/v2/${repository.name}/blobs/uploads/[\\w.-]+$`));
  });

  it("is given in full by a POST that names no slash at its end too", async () => {
    const repository = freshRepository();
    const response = await repository.request("POST", "blobs/uploads");
    expect(response.status).toBe(202);
    expect((await repository.uploadStatus(response.headers.get("Location") ?? "")).status).toBe(204);
  });

  it.each(["before any chunk", "after one"])("%s is unknown under another repository's name", async (when) => {
    const [repository, other] = [freshRepository(), freshRepository()];
    const begun =
      when === "after one" ? (await beginWith(repository, randomBytes(10))).last : (await begin(repository)).location;
    await expectUnknownToAll(other, begun.replace(repository.name, other.name));
    expect((await repository.uploadStatus(begun)).status).toBe(204);
  });

  it("that was tampered with, or made up, is unknown", async () => {
    const repository = freshRepository();
    const { location } = await begin(repository);
    const reference = location.slice(location.lastIndexOf("/") + 1);
    const guesses = [
      crypto.randomUUID(),
      reference.slice(0, -1),
      `${reference}A`,
      reference.replace(".n0.", ".o0."),
      reference.replace(".n0.", ".n5."),
      `z${reference.slice(1)}`,
      reference.toUpperCase(),
      "a".repeat(3000),
    ];
    for (const guess of guesses) await expectUnknownToAll(repository, location.replace(reference, guess));
  });

  it.each(["before any chunk", "after one"])("%s is unknown when its time is over", async (when) => {
    const repository = freshRepository();
    const begun =
      when === "after one" ? (await beginWith(repository, randomBytes(10))).last : (await begin(repository)).location;
    const later = Date.now() + 86_400_000 + 1;
    vi.spyOn(Date, "now").mockReturnValue(later);
    await expectUnknownToAll(repository, begun);
  });

  it("lives as long as UPLOAD_TTL_SECONDS says", async () => {
    const { name } = freshRepository();
    const repository = registryWith(environmentWith({ UPLOAD_TTL_SECONDS: "60" })).repository(name);
    const { location } = await begin(repository);
    const now = Date.now();
    const clock = vi.spyOn(Date, "now").mockReturnValue(now + 59_000);
    expect((await repository.uploadStatus(location)).status).toBe(204);
    clock.mockReturnValue(now + 60_000);
    await expectUnknownToAll(repository, location);
  });
});
