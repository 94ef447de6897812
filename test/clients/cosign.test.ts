import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { accessPromises } from "./carrier.ts";
import type { Carrier } from "./carrier.ts";
import { clientTest } from "./client-test.ts";
import type { Login } from "./client-test.ts";
import { image } from "./image.ts";
import { pushGraph } from "./push.ts";
import { program } from "./requirement.ts";
import { hasManifest, readManifest, readReferrers, readTags } from "./stored.ts";

const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json";
/** By a key alone: no certificate authority, no transparency log, no list of services from the network. */
const byKey = ["--key", "cosign.key", "--use-signing-config=false", "--tlog-upload=false", "--yes"];
const withKey = ["--key", "cosign.pub", "--insecure-ignore-tlog"];
/** How version 2 stores by default: as images under tags made of the subject's digest. */
const underTags = "--new-bundle-format=false";

const test = clientTest(program("cosign"))
  .extend("cosign", ({ run }) => {
    return async (...args: string[]) => (await run("cosign", args, { env: { COSIGN_PASSWORD: "" } })).stdout;
  })
  .extend("login", ({ run }): Login => {
    return async (host, { user, password }) => {
      await run("cosign", ["login", host, "--username", user, "--password-stdin"], { input: password });
    };
  })
  .extend("keys", { auto: true }, async ({ cosign }) => {
    await cosign("generate-key-pair");
  })
  .extend("subject", async ({ repository }) => {
    const subject = await image();
    await pushGraph(repository, subject, "v1");
    return subject;
  })
  .extend("imageName", ({ subject, reference }) => reference(subject.descriptor.digest))
  .extend("tagFor", ({ subject }) => {
    return (suffix: string) => `${subject.descriptor.digest.replace(":", "-")}.${suffix}`;
  })
  .extend("carrier", ({ cosign, run }): Carrier => {
    const put = image();
    const digest = async () => (await put).descriptor.digest;
    return {
      async put(repository) {
        await pushGraph(repository, await put, "v1");
        await pushGraph(repository, await image(), `${(await digest()).replace(":", "-")}.sig`);
      },
      async push(host, name) {
        await cosign("sign", ...byKey, `${host}/${name}@${await digest()}`);
        return async (repository) => {
          expect(await readReferrers(repository, await digest(), bundleType)).not.toEqual([]);
        };
      },
      async pull(host, name) {
        await cosign("tree", `${host}/${name}:v1`);
      },
      async remove(host, name) {
        const { stderr } = await run("cosign", ["clean", "--type=signature", "--force", `${host}/${name}:v1`]);
        // It says why, and ends as if it had deleted.
        if (stderr.includes("could not delete")) throw new Error(stderr);
      },
    };
  });

accessPromises(test, {
  name: "cosign",
  loginAsks: false,
  takesIdentityTokens: true,
  tokensBy: "GET",
  renewsTokenAt: { method: "POST", path: /uploads/ },
});

describe("cosign", () => {
  test("sign: as a bundle that refers to the image", async ({ cosign, imageName, repository, subject }) => {
    await cosign("sign", ...byKey, imageName);
    const referrers = await readReferrers(repository, subject.descriptor.digest, bundleType);
    expect(referrers).toMatchObject([
      { annotations: { "dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1" } },
    ]);
    const bundle = await readManifest(repository, referrers[0]?.digest ?? "");
    expect(bundle.subject?.digest).toBe(subject.descriptor.digest);
    expect(await readTags(repository)).toEqual(["v1"]);
  });

  test("sign: under a tag, which the next signature rewrites", async ({ cosign, imageName, repository, tagFor }) => {
    await cosign("sign", ...byKey, underTags, imageName);
    expect((await readManifest(repository, tagFor("sig"))).layers).toHaveLength(1);
    await cosign("sign", ...byKey, underTags, "-a", "second=yes", imageName);
    expect((await readManifest(repository, tagFor("sig"))).layers).toHaveLength(2);
    await cosign("verify", ...withKey, underTags, "-a", "second=yes", imageName);
  });

  test("verify: a bundle", async ({ cosign, imageName, reference, subject }) => {
    await cosign("sign", ...byKey, imageName);
    expect(await cosign("verify", ...withKey, imageName)).toContain(subject.descriptor.digest);
    expect(await cosign("verify", ...withKey, reference("v1"))).toContain(subject.descriptor.digest);
  });

  test("verify: a signature under a tag", async ({ cosign, imageName, subject }) => {
    await cosign("sign", ...byKey, underTags, imageName);
    expect(await cosign("verify", ...withKey, underTags, imageName)).toContain(subject.descriptor.digest);
  });

  test("verify: an image that nobody signed is refused", async ({ cosign, imageName }) => {
    await expect(cosign("verify", ...withKey, imageName)).rejects.toThrow(/no signatures found/);
  });

  test("verify: a signature by another key does not count", async ({ cosign, imageName, run }) => {
    await cosign("sign", ...byKey, imageName);
    await run("cosign", ["generate-key-pair", "--output-key-prefix", "other"], { env: { COSIGN_PASSWORD: "" } });
    await expect(cosign("verify", "--key", "other.pub", "--insecure-ignore-tlog", imageName)).rejects.toThrow(
      /no matching signatures|failed to verify|invalid signature/,
    );
  });

  test("attach: an SBOM under a tag, given back", async ({ cosign, folder, imageName, repository, tagFor }) => {
    const sbom = '{"spdxVersion":"SPDX-2.3"}';
    await writeFile(join(folder, "sbom.json"), sbom);
    await cosign("attach", "sbom", "--sbom", "sbom.json", imageName);
    expect((await readManifest(repository, tagFor("sbom"))).layers).toHaveLength(1);
    expect((await cosign("download", "sbom", imageName)).trim()).toBe(sbom);
  });

  for (const [how, format] of Object.entries({ "as a bundle": [], "under a tag": [underTags] })) {
    test(`attach: an attestation ${how}, verified`, async ({ cosign, folder, imageName }) => {
      await writeFile(join(folder, "predicate.json"), '{"builder":"moorage"}');
      await cosign("attest", ...byKey, ...format, "--type=custom", "--predicate=predicate.json", imageName);
      const verified = await cosign("verify-attestation", ...withKey, ...format, "--type=custom", imageName);
      expect(verified).toContain("payload");
    });
  }

  test("discover: signature and attestation as a tree", async ({ cosign, folder, imageName, repository, tagFor }) => {
    await writeFile(join(folder, "predicate.json"), "{}");
    await cosign("sign", ...byKey, imageName);
    await cosign("attest", ...byKey, underTags, "--predicate=predicate.json", imageName);
    const tree = await cosign("tree", imageName);
    expect(tree).toContain("https://sigstore.dev/cosign/sign/v1");
    expect(tree).toContain(tagFor("att"));
    expect(await readTags(repository)).toContain(tagFor("att"));
  });

  test("copy: a signed image saved and loaded elsewhere", async ({
    cosign,
    imageName,
    reference,
    repository,
    registry,
  }) => {
    await cosign("sign", ...byKey, underTags, imageName);
    await cosign("save", "--dir=saved", imageName);
    const copy = registry.repository(`${repository.name}-copy`);
    await cosign("load", "--dir=saved", reference("v1", { name: copy.name }));
    await cosign("verify", ...withKey, underTags, reference("v1", { name: copy.name }));
  });

  test("delete: signatures under a tag", async ({ cosign, imageName, repository, tagFor }) => {
    await cosign("sign", ...byKey, underTags, imageName);
    await cosign("clean", "--type=signature", "--force", imageName);
    expect(await hasManifest(repository, tagFor("sig"))).toBe(false);
    expect(await readTags(repository)).toEqual(["v1"]);
  });

  test("delete: bundles that refer to the image", async ({ cosign, imageName, repository, subject }) => {
    await cosign("sign", ...byKey, imageName);
    await cosign("clean", "--type=referrer", "--force", imageName);
    expect(await readReferrers(repository, subject.descriptor.digest)).toEqual([]);
  });
});
