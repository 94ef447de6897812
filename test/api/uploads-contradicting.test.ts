import { expect, it } from "vitest";
import { expectError } from "../conformance/error-envelope.ts";
import { digest, randomBytes, streamOf } from "../fixtures/content.ts";
import { freshRepository, registry, serve, streamed } from "../fixtures/registry.ts";
import { objectsMadeBy } from "../fixtures/storage.ts";
import { begin } from "../fixtures/upload.ts";

it("end-6 PUT of a whole blob that is not as long as its Content-Range says leaves nothing", async () => {
  const repository = freshRepository();
  const bytes = randomBytes(150);
  const { location } = await begin(repository);
  const made = await objectsMadeBy(async () => {
    const path = `${location}?digest=${digest(bytes)}`;
    const response = await serve(streamed("PUT", path, streamOf(bytes), { "Content-Range": "0-99" }));
    await expectError(response, 400, "SIZE_INVALID");
  });
  expect(made).toEqual([]);
  expect((await repository.headBlob(digest(bytes))).status).toBe(404);
});

it("end-6 PUT to a cancelled upload leaves no repository behind", async () => {
  const repository = freshRepository();
  const bytes = randomBytes(10);
  const { location } = await begin(repository);
  expect((await repository.cancelUpload(location)).status).toBe(204);
  await expectError(await repository.finishUpload(location, digest(bytes), bytes), 404, "BLOB_UPLOAD_UNKNOWN");
  await expectError(await registry.request("GET", `/v2/${repository.name}/tags/list`), 404, "NAME_UNKNOWN");
});

it("a page of another site may read, and change nothing", async () => {
  const repository = freshRepository();
  const headers = { "Sec-Fetch-Site": "cross-site" };
  const path = `/v2/${repository.name}/blobs/uploads/`;
  await expectError(await registry.request("POST", path, { headers }), 403, "DENIED");
  expect((await registry.request("POST", path, { headers: { "Sec-Fetch-Site": "same-origin" } })).status).toBe(202);
  expect((await registry.request("GET", "/v2/", { headers })).status).toBe(200);
});
