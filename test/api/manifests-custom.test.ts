import { expect, it } from "vitest";
import { expectError } from "../conformance/error-envelope.ts";
import { randomBytes, unknownDigest } from "../fixtures/content.ts";
import { freshRepository } from "../fixtures/registry.ts";
import { runPass } from "../fixtures/storage.ts";
import { imageManifest } from "../support/client.ts";

const customType = "application/vnd.example.thing.v1+json";

it("end-7 PUT of a type that nobody knows: every entry that reads as a descriptor is kept from the collector", async () => {
  const repository = freshRepository();
  const blob = await repository.pushBlob(randomBytes(100));
  const manifest = JSON.stringify({ layers: [{ digest: blob.digest, size: 1 }, blob, "another thing"] });
  expect((await repository.putManifest("thing", manifest, customType)).status).toBe(201);
  for (let pass = 0; pass < 3; pass++) await runPass({ graceSeconds: 0 });
  expect((await repository.headBlob(blob.digest)).status).toBe(200);
});

it("end-7 PUT of a type that nobody knows: an entry that reads as a descriptor must be there", async () => {
  const repository = freshRepository();
  const digest = unknownDigest();
  const layer = { mediaType: "application/octet-stream", digest, size: 3 };
  const response = await repository.putManifest("thing", JSON.stringify({ layers: [{}, layer] }), customType);
  const [error] = await expectError(response, 404, "MANIFEST_BLOB_UNKNOWN");
  expect(error?.detail).toMatchObject({ missing: [digest] });
});

it("end-7 PUT takes an optional field that is null for one that is not there", async () => {
  const repository = freshRepository();
  const config = { ...(await repository.pushBlob(randomBytes(10))), annotations: null, artifactType: null, data: null };
  const optional = { artifactType: null, annotations: null, subject: null, layers: null };
  const manifest = { schemaVersion: 2, mediaType: imageManifest, config, ...optional };
  expect((await repository.putManifest("x", JSON.stringify(manifest), imageManifest)).status).toBe(201);
});

it("end-7 PUT of 4 MiB of nothing but objects is refused", async () => {
  const bytes = JSON.stringify({ any: Array.from({ length: 300_000 }, () => ({})) });
  const response = await freshRepository().putManifest("x", bytes, customType);
  await expectError(response, 400, "MANIFEST_INVALID");
});
