import { describe, expect } from "vitest";
import { z } from "zod";
import { accessPromises } from "./carrier.ts";
import type { Carrier } from "./carrier.ts";
import { clientTest } from "./client-test.ts";
import type { Login, Logout } from "./client-test.ts";
import { image } from "./image.ts";
import { pushGraph, pushReferrer } from "./push.ts";
import { libraries, librariesProgram } from "./requirement.ts";
import { descriptor, readManifest, readReferrers } from "./stored.ts";

const signatureType = "application/vnd.cncf.notary.signature";
const test = clientTest(libraries)
  .extend("notation", ({ run }) => {
    return async (...args: string[]) => (await run(librariesProgram, ["notation", ...args])).stdout;
  })
  // It leaves logins to oras-go.
  .extend("login", ({ run }): Login => {
    return async (host, { user, password }) => {
      await run(librariesProgram, ["oras", "login", "-username", user, host], { input: password });
    };
  })
  .extend("logout", ({ run }): Logout => {
    return async (host) => {
      await run(librariesProgram, ["oras", "logout", host]);
    };
  })
  .extend("carrier", ({ notation }): Carrier => {
    const put = image();
    return {
      async put(repository) {
        await pushGraph(repository, await put, "v1");
      },
      async push(host, name) {
        await notation("key", "carried");
        const { digest } = (await put).descriptor;
        await notation("sign", "-key", "carried", `${host}/${name}@${digest}`);
        return async (repository) => {
          expect(await readReferrers(repository, digest, signatureType)).not.toEqual([]);
        };
      },
      async pull(host, name) {
        await notation("list", `${host}/${name}:v1`);
      },
    };
  });

accessPromises(test, {
  name: "notation-go",
  loginAsks: true,
  takesIdentityTokens: true,
  tokensBy: "GET",
  renewsTokenAt: { method: "PUT", path: /manifests/ },
});

describe("notation-go", () => {
  test("sign: the signature is a referrer of the image", async ({ notation, reference, repository }) => {
    const subject = await image();
    await pushGraph(repository, subject, "v1");
    await notation("key", "keys");
    await notation("sign", "-key", "keys", reference(subject.descriptor.digest));
    const [signature, ...others] = await readReferrers(repository, subject.descriptor.digest, signatureType);
    expect(others).toEqual([]);
    const stored = await readManifest(repository, signature?.digest ?? "");
    expect(stored.subject).toEqual(subject.descriptor);
    expect(stored.artifactType ?? stored.config?.mediaType).toBe(signatureType);
  });

  for (const mediaType of ["application/jose+json", "application/cose"]) {
    test(`verify: a signature in ${mediaType}`, async ({ notation, reference, repository }) => {
      const subject = await image();
      await pushGraph(repository, subject, "v1");
      const name = reference(subject.descriptor.digest);
      await notation("key", "keys");
      await notation("sign", "-key", "keys", "-media-type", mediaType, name);
      const verified = descriptor.parse(JSON.parse(await notation("verify", "-key", "keys", name)));
      expect(verified.digest).toBe(subject.descriptor.digest);
    });
  }

  test("verify: a signature by another key does not count", async ({ notation, reference, repository }) => {
    const subject = await image();
    await pushGraph(repository, subject, "v1");
    const name = reference(subject.descriptor.digest);
    await notation("key", "keys");
    await notation("key", "others");
    await notation("sign", "-key", "others", name);
    await expect(notation("verify", "-key", "keys", name)).rejects.toThrow(/verification failed/);
  });

  test("verify: an image without a signature is refused", async ({ notation, reference, repository }) => {
    const subject = await image();
    await pushGraph(repository, subject, "v1");
    await pushReferrer(repository, subject, "application/spdx+json");
    await notation("key", "keys");
    const verify = notation("verify", "-key", "keys", reference(subject.descriptor.digest));
    await expect(verify).rejects.toThrow(/no signature/);
  });

  test("discover: two signatures among other referrers", async ({ notation, reference, repository }) => {
    const subject = await image();
    await pushGraph(repository, subject, "v1");
    await pushReferrer(repository, subject, "application/spdx+json");
    await notation("key", "keys");
    for (let signed = 0; signed < 2; signed++) {
      await notation("sign", "-key", "keys", reference(subject.descriptor.digest));
    }
    const listed = z.array(descriptor).parse(JSON.parse(await notation("list", reference("v1"))));
    expect(listed.map(({ artifactType }) => artifactType)).toEqual([signatureType, signatureType]);
  });
});
