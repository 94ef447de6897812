import { describe, expect, test } from "vitest";
import { digestOf, locationOf } from "../support/client.ts";
import { bodyOf, randomBytes } from "./content.ts";
import { freshRepository, registryUnderTest } from "./registry-under-test.ts";

/** «Mounting a blob from another repository»: 201, or 202 and the upload of the bytes. */

describe.each(["sha256", "sha512"] as const)("%s", (algorithm) => {
  test.each([
    ["with from", true],
    ["without from", false],
  ])("end-11 POST mount %s: 201 with a pullable Location, or 202 and an upload", async (_name, named) => {
    const [source, target] = [freshRepository(), freshRepository()];
    const bytes = randomBytes(700);
    const { digest } = await source.pushBlob(bytes, { algorithm });
    const mounted = await target.mountBlob(digest, named ? source.name : undefined);
    expect([201, 202]).toContain(mounted.status);
    const response = mounted.status === 201 ? mounted : await target.finishUpload(locationOf(mounted), digest, bytes);
    expect(response.status).toBe(201);
    expect(await bodyOf(await registryUnderTest().request("GET", locationOf(response)))).toEqual(bytes);
    expect(await bodyOf(await target.getBlob(digest))).toEqual(bytes);
  });

  test("end-11 POST mount: 202 where nobody has the blob, and the upload goes on", async () => {
    const [source, target] = [freshRepository(), freshRepository()];
    await source.pushBlob(randomBytes(10));
    const bytes = randomBytes(700);
    const digest = await digestOf(bytes, algorithm);
    const mounted = await target.mountBlob(digest, source.name);
    expect(mounted.status).toBe(202);
    const response = await target.finishUpload(locationOf(mounted), digest, bytes);
    expect(response.status).toBe(201);
    expect(await bodyOf(await target.getBlob(digest))).toEqual(bytes);
  });
});
