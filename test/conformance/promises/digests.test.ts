import { expect, test } from "vitest";
import { digestOf, imageManifest } from "../../support/client.ts";
import { bodyOf, bytesOf, imageIn, indexOf, randomBytes } from "../content.ts";
import { freshRepository } from "../registry-under-test.ts";

/** Content is answered under the digest that it was stored under, and under no other. */

const pairs = [
  ["sha256", "sha512"],
  ["sha512", "sha256"],
] as const;

test.each(pairs)("end-2 blob stored under %s is not answered under %s", async (stored, other) => {
  const repository = freshRepository();
  const bytes = randomBytes(123);
  const { digest } = await repository.pushBlob(bytes, { algorithm: stored });
  const absent = await digestOf(bytes, other);
  expect((await repository.getBlob(digest)).headers.get("Docker-Content-Digest")).toBe(digest);
  expect((await repository.getBlob(absent)).status).toBe(404);
  expect((await repository.headBlob(absent)).status).toBe(404);
  expect((await repository.deleteBlob(absent)).status).toBe(404);
  expect((await freshRepository().mountBlob(absent, repository.name)).status).toBe(202);
  await repository.pushBlob(bytes, { algorithm: other });
  expect((await repository.deleteBlob(digest)).status).toBe(202);
  expect(await bodyOf(await repository.getBlob(absent))).toEqual(bytes);
});

test.each(pairs)("end-3 manifest stored under %s is not answered under %s", async (stored, other) => {
  const repository = freshRepository();
  const bytes = bytesOf(await imageIn(repository));
  const { digest } = await repository.pushManifest(bytes, { algorithm: stored });
  const absent = await digestOf(bytes, other);
  expect((await repository.getManifest(digest)).headers.get("Docker-Content-Digest")).toBe(digest);
  expect((await repository.headManifest(digest)).headers.get("Docker-Content-Digest")).toBe(digest);
  expect((await repository.getManifest(absent)).status).toBe(404);
  expect((await repository.deleteManifest(absent)).status).toBe(404);
});

test("end-7b a tag of a sha512 manifest answers its sha512 digest; end-7a by tag answers sha256", async () => {
  const repository = freshRepository();
  const bytes = bytesOf(await imageIn(repository, {}, "sha512"));
  const long = await digestOf(bytes, "sha512");
  expect((await repository.putManifest(long, bytes, imageManifest, ["long"])).status).toBe(201);
  expect((await repository.headManifest("long")).headers.get("Docker-Content-Digest")).toBe(long);
  expect((await repository.putManifest("short", bytes)).status).toBe(201);
  expect((await repository.headManifest("short")).headers.get("Docker-Content-Digest")).toBe(await digestOf(bytes));
});

test("end-7a an index of sha512 children, with a sha512 subject, and its referrers", async () => {
  const repository = freshRepository();
  const subject = await repository.pushManifest(await imageIn(repository, {}, "sha512"), { algorithm: "sha512" });
  const child = await repository.pushManifest(await imageIn(repository, {}, "sha512"), { algorithm: "sha512" });
  const index = await repository.pushManifest(indexOf([child], { subject }), { algorithm: "sha512" });
  const listed = await (await repository.listReferrers(subject.digest)).json();
  expect(listed).toMatchObject({ manifests: [{ digest: index.digest }] });
});
