import { expect, test } from "vitest";
import { imageManifest } from "../support/client.ts";
import { bodyOf, imageIn, randomBytes } from "./content.ts";
import { freshRepository } from "./registry-under-test.ts";

/** «Registry Proxying» (main): `ns` may be on any pull; whoever does not proxy may ignore it. */

test("end-3 GET and HEAD manifest with ns", async () => {
  const repository = freshRepository();
  const { digest } = await repository.pushManifest(await imageIn(repository), { reference: "v1" });
  for (const reference of ["v1", digest]) {
    for (const method of ["GET", "HEAD"]) {
      const response = await repository.request(method, `manifests/${reference}`, {
        query: { ns: "docker.io" },
        headers: { Accept: imageManifest },
      });
      expect(response.status).toBe(200);
      expect(response.headers.get("Docker-Content-Digest")).toBe(digest);
    }
  }
});

test("end-2 GET and HEAD blob with ns", async () => {
  const repository = freshRepository();
  const bytes = randomBytes(50);
  const { digest } = await repository.pushBlob(bytes);
  const query = { ns: "docker.io" };
  expect(await bodyOf(await repository.request("GET", `blobs/${digest}`, { query }))).toEqual(bytes);
  expect((await repository.request("HEAD", `blobs/${digest}`, { query })).status).toBe(200);
});

test("end-8 GET tags and end-12 GET referrers with ns", async () => {
  const repository = freshRepository();
  const { digest } = await repository.pushManifest(await imageIn(repository), { reference: "v1" });
  expect((await repository.listTags({ ns: "docker.io" })).status).toBe(200);
  expect((await repository.listReferrers(digest, { ns: "docker.io" })).status).toBe(200);
});
