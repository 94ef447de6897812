import { describe, expect, inject, test } from "vitest";
import { z } from "zod";
import {
  type Descriptor,
  digestOf,
  imageIndex,
  imageManifest,
  locationOf,
  octetStream,
  utf8,
} from "../../support/client.ts";
import {
  bodyOf,
  bytesOf,
  emptyJson,
  imageConfig,
  imageIn,
  imageLayer,
  indexOf,
  publicRepositories,
  randomBytes,
  unknownDigest,
} from "../content.ts";
import { expectError } from "../error-envelope.ts";
import { rawRequest, targetOf } from "../raw-http.ts";
import { freshRepository, registryUnderTest } from "../registry-under-test.ts";

/** What each real client does that another one does not; the clients themselves run in test/clients. */

const referrerDigests = z.object({
  manifests: z.array(z.looseObject({ digest: z.string(), artifactType: z.string().optional() })),
});

describe("moby", () => {
  test("POST, one PATCH with neither length nor range, an empty PUT, and a HEAD right after it", async () => {
    const repository = freshRepository();
    const url = inject("registryUrl");
    const bytes = randomBytes(70_000);
    const digest = await digestOf(bytes);
    const started = await repository.startUpload();
    expect(started.headers.get("Docker-Upload-UUID")).toMatch(/./);
    const patched = await rawRequest(url, {
      method: "PATCH",
      target: targetOf(url, locationOf(started)),
      body: bytes,
      framing: "chunked",
    });
    expect(patched.status).toBe(202);
    expect(patched.header("Docker-Upload-UUID")).toBe(started.headers.get("Docker-Upload-UUID"));
    const [start, end] =
      /^(\d+)-(\d+)$/
        .exec(patched.header("Range") ?? "")
        ?.slice(1)
        .map(Number) ?? [];
    expect(end).toBeGreaterThanOrEqual(start ?? Number.POSITIVE_INFINITY);
    expect((await repository.finishUpload(patched.header("Location") ?? "", digest)).status).toBe(201);
    const head = await repository.headBlob(digest);
    expect(head.status).toBe(200);
    expect(head.headers.get("Content-Length")).toBe("70000");
  });

  test("a HEAD right after a 201 to a mount", async () => {
    const [source, target] = [freshRepository(), freshRepository()];
    const { digest } = await source.pushBlob(randomBytes(10));
    expect((await target.mountBlob(digest, source.name)).status).toBe(201);
    expect((await target.headBlob(digest)).status).toBe(200);
  });

  test("a pull that goes on from an offset begins there and reaches the end", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(1000);
    const { digest } = await repository.pushBlob(bytes);
    const response = await repository.getBlob(digest, { Range: "bytes=400-" });
    expect(response.status).toBe(206);
    expect(response.headers.get("Content-Range")).toBe("bytes 400-999/1000");
    expect(await bodyOf(response)).toEqual(bytes.slice(400));
  });
});

describe("containerd and buildkit", () => {
  test("HEAD, POST, and one PUT whose digest is added to the location's query", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(100);
    const digest = await digestOf(bytes);
    expect((await repository.headBlob(digest)).status).toBe(404);
    const location = new URL(locationOf(await repository.startUpload()), inject("registryUrl"));
    location.searchParams.append("digest", digest);
    expect((await repository.registry.request("PUT", location.href, { body: bytes })).status).toBe(201);
  });

  test("HEAD manifest with many types in Accept, and ns", async () => {
    const repository = freshRepository();
    const { digest } = await repository.pushManifest(await imageIn(repository), { reference: "v1" });
    const response = await repository.request("HEAD", "manifests/v1", {
      query: { ns: "registry.example.com" },
      headers: { Accept: `application/vnd.docker.distribution.manifest.v2+json, ${imageManifest}, ${imageIndex}, */*` },
    });
    expect(response.headers.get("Docker-Content-Digest")).toBe(digest);
    expect(response.headers.get("Content-Type")).toBe(imageManifest);
  });

  test("a config asked for as a blob, a manifest asked for as one is 404", async () => {
    const repository = freshRepository();
    const image = await imageIn(repository);
    const { digest } = await repository.pushManifest(image);
    expect((await repository.getBlob(image.config.digest)).status).toBe(200);
    expect((await repository.getBlob(digest)).status).toBe(404);
    expect((await repository.getManifest(image.config.digest)).status).toBe(404);
  });

  test("four ranges of one blob at once", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(400_000);
    const { digest } = await repository.pushBlob(bytes);
    const parts = await Promise.all(
      [0, 1, 2, 3].map(async (part) => {
        const response = await repository.getBlob(digest, {
          Range: `bytes=${part * 100_000}-${part * 100_000 + 99_999}`,
        });
        expect(response.status).toBe(206);
        return bodyOf(response);
      }),
    );
    expect(Buffer.concat(parts).equals(bytes)).toBe(true);
  });

  test("attestations: children of platform unknown/unknown, pushed by digest, the index last", async () => {
    const repository = freshRepository();
    const image = await repository.pushManifest(await imageIn(repository));
    const attestation = await repository.pushManifest(await imageIn(repository));
    const index = indexOf(
      [image, attestation].map((child, at) => ({
        ...child,
        platform: at === 0 ? { os: "linux", architecture: "amd64" } : { os: "unknown", architecture: "unknown" },
      })),
    );
    expect((await repository.putManifest("latest", bytesOf(index), imageIndex)).status).toBe(201);
  });

  test("a cache as an image manifest with a config of its own", async () => {
    const repository = freshRepository();
    const config = {
      ...(await repository.pushBlob(utf8('{"layers":[]}'))),
      mediaType: "application/vnd.buildkit.cacheconfig.v0",
    };
    await repository.pushManifest(await imageIn(repository, { config }), { reference: "cache" });
    expect((await repository.headManifest("cache")).status).toBe(200);
  });
});

describe("podman, skopeo and buildah", () => {
  test("after a 202 to a mount, a DELETE of that session: 204", async () => {
    const repository = freshRepository();
    const response = await repository.mountBlob(await unknownDigest(), freshRepository().name);
    expect(response.status).toBe(202);
    expect((await repository.cancelUpload(locationOf(response))).status).toBe(204);
  });
});

describe("crane and what is built on it", () => {
  test("a mount with from and origin", async () => {
    const [source, target] = [freshRepository(), freshRepository()];
    const { digest } = await source.pushBlob(randomBytes(10));
    const response = await target.startUpload({ mount: digest, from: source.name, origin: "registry.example.com" });
    expect(response.status).toBe(201);
  });

  test("kaniko's check: many POSTs that are cancelled at once", async () => {
    const repository = freshRepository();
    const answers = await Promise.all(
      Array.from(
        { length: 20 },
        async () => (await repository.cancelUpload(locationOf(await repository.startUpload()))).status,
      ),
    );
    expect(new Set(answers)).toEqual(new Set([204]));
  });

  test.each([
    ["sig", "application/vnd.dev.cosign.simplesigning.v1+json"],
    ["att", "application/vnd.dsse.envelope.v1+json"],
    ["sbom", "text/spdx+json"],
  ])("cosign 2: the .%s tag is written anew with each layer of type %s", async (suffix, mediaType) => {
    const repository = freshRepository();
    const image = await repository.pushManifest(await imageIn(repository));
    const tag = `${image.digest.replace(":", "-")}.${suffix}`;
    const layers: Descriptor[] = [];
    for (let pushes = 1; pushes <= 2; pushes++) {
      layers.push({ ...(await repository.pushBlob(randomBytes(40))), mediaType });
      const attached = await repository.pushManifest(await imageIn(repository, { layers }), { reference: tag });
      expect((await repository.headManifest(tag)).headers.get("Docker-Content-Digest")).toBe(attached.digest);
      expect(await (await repository.getManifest(tag)).json()).toMatchObject({ layers });
    }
    expect(await (await repository.listTags()).json()).toMatchObject({ tags: [tag] });
  });

  test("the tag of the referrers tag schema is a tag like any other", async () => {
    const repository = freshRepository();
    const image = await repository.pushManifest(await imageIn(repository));
    await repository.pushManifest(indexOf([image]), { reference: image.digest.replace(":", "-") });
    expect((await repository.headManifest(image.digest.replace(":", "-"))).status).toBe(200);
  });

  test("cosign 3: a bundle as a referrer, its predicate's type among the annotations", async () => {
    const repository = freshRepository();
    const subject = await repository.pushManifest(await imageIn(repository));
    const artifactType = "application/vnd.dev.sigstore.bundle.v0.3+json";
    const annotations = { "dev.sigstore.bundle.predicateType": "https://slsa.dev/provenance/v1" };
    const config = { ...(await repository.pushBlob(utf8("{}"))), mediaType: emptyJson };
    await repository.pushManifest(await imageIn(repository, { subject, artifactType, annotations, config }));
    const listed = await (await repository.listReferrers(subject.digest)).json();
    expect(listed).toMatchObject({ manifests: [{ artifactType, annotations }] });
  });
});

describe("oras, helm and notation", () => {
  test("a push of one artifact: monolithic blobs, each 201, and a subject that OCI-Subject confirms", async () => {
    const repository = freshRepository();
    const subject = await repository.pushManifest(await imageIn(repository), { reference: "v1" });
    const config = { ...(await repository.pushBlob(utf8("{}"))), mediaType: emptyJson };
    const artifact = await imageIn(repository, {
      config,
      subject,
      artifactType: "application/vnd.cncf.notary.signature",
    });
    const response = await repository.putManifest(await digestOf(bytesOf(artifact)), bytesOf(artifact));
    expect(response.status).toBe(201);
    expect(response.headers.get("OCI-Subject")).toBe(subject.digest);
    const filtered = await repository.listReferrers(subject.digest, {
      artifactType: "application/vnd.cncf.notary.signature",
    });
    expect(filtered.headers.get("OCI-Filters-Applied")).toBe("artifactType");
    expect(referrerDigests.parse(await filtered.json()).manifests).toHaveLength(1);
  });

  test("the digest is on the answer to a mount", async () => {
    const [source, target] = [freshRepository(), freshRepository()];
    const { digest } = await source.pushBlob(randomBytes(10));
    expect((await target.mountBlob(digest, source.name)).headers.get("Docker-Content-Digest")).toBe(digest);
  });

  test("helm: a chart with its provenance, under a tag where + has become _", async () => {
    const repository = freshRepository();
    const config = {
      ...(await repository.pushBlob(utf8('{"name":"chart","version":"1.0.0+build"}'))),
      mediaType: "application/vnd.cncf.helm.config.v1+json",
    };
    const layers = [
      {
        ...(await repository.pushBlob(randomBytes(50))),
        mediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
      },
      {
        ...(await repository.pushBlob(randomBytes(50))),
        mediaType: "application/vnd.cncf.helm.chart.provenance.v1.prov",
      },
    ];
    await repository.pushManifest(await imageIn(repository, { config, layers }), { reference: "1.0.0_build" });
    expect(await (await repository.listTags()).json()).toMatchObject({ tags: ["1.0.0_build"] });
  });
});

describe("regctl", () => {
  test("goes on from the Location and Range of a 416", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(3000);
    const location = locationOf(
      await repository.appendChunk(locationOf(await repository.startUpload()), bytes.slice(0, 1000), 0),
    );
    const refused = await repository.appendChunk(location, bytes.slice(500, 1500), 500);
    expect(refused.status).toBe(416);
    const next = Number(/^0-(\d+)$/.exec(refused.headers.get("Range") ?? "")?.[1]) + 1;
    const appended = await repository.appendChunk(locationOf(refused), bytes.slice(next), next);
    expect(appended.status).toBe(202);
    expect((await repository.finishUpload(locationOf(appended), await digestOf(bytes))).status).toBe(201);
  });

  test("deletes a tag directly, and reads OCI-Tag", async () => {
    const repository = freshRepository();
    const bytes = bytesOf(await imageIn(repository));
    const response = await repository.putManifest(await digestOf(bytes), bytes, imageManifest, ["a", "b"]);
    expect(response.headers.get("OCI-Tag")).toMatch(/^a, *b$|^b, *a$/);
    expect((await repository.deleteManifest("a")).status).toBe(202);
    expect((await repository.headManifest("b")).status).toBe(200);
  });
});

describe("others", () => {
  test.each(["Bearer QQ==", "Bearer ", "Basic !!!", "Nonsense"])(
    "Homebrew: `Authorization: %s` on content that anybody may pull",
    async (authorization) => {
      const repository = freshRepository(publicRepositories);
      const bytes = randomBytes(10);
      const { digest } = await repository.pushBlob(bytes);
      expect(await bodyOf(await repository.getBlob(digest, { Authorization: authorization }))).toEqual(bytes);
    },
  );

  test("flux: HEAD by tag at intervals, and a list of all tags", async () => {
    const repository = freshRepository();
    const { digest } = await repository.pushManifest(await imageIn(repository), { reference: "1.0.0" });
    for (let times = 0; times < 3; times++) {
      expect((await repository.headManifest("1.0.0")).headers.get("Docker-Content-Digest")).toBe(digest);
    }
    expect(await (await repository.listTags()).json()).toMatchObject({ tags: ["1.0.0"] });
  });

  test("wkg: a Wasm component as an artifact of one layer", async () => {
    const repository = freshRepository();
    const config = {
      ...(await repository.pushBlob(utf8('{"architecture":"wasm","os":"wasip2"}'))),
      mediaType: "application/vnd.wasm.config.v0+json",
    };
    const layer = { ...(await repository.pushBlob(randomBytes(50))), mediaType: "application/wasm" };
    await repository.pushManifest(await imageIn(repository, { config, layers: [layer] }), { reference: "0.1.0" });
    expect(await bodyOf(await repository.getBlob(layer.digest))).toHaveLength(50);
    // Where a host has no metadata of its own the client goes by its defaults.
    const metadata = await repository.registry.request("GET", "/.well-known/wasm-pkg/registry.json");
    await expectError(metadata, 404, "UNSUPPORTED");
  });

  test("containers/image: the same config in two images, and an image twice under two tags", async () => {
    const repository = freshRepository();
    const image = await imageIn(repository);
    const other = { ...image, layers: [{ ...(await repository.pushBlob(randomBytes(9))), mediaType: imageLayer }] };
    expect(image.config.mediaType).toBe(imageConfig);
    for (const [tag, manifest] of [
      ["a", image],
      ["b", other],
      ["c", image],
    ] as const)
      await repository.pushManifest(manifest, { reference: tag });
    expect(await (await repository.listTags()).json()).toMatchObject({ tags: ["a", "b", "c"] });
  });

  test.each([
    ["application/octet-stream", { "Content-Type": octetStream }],
    ["none", {}],
  ])("a client that says Content-Type with its chunks, and with its last one: %s", async (_type, headers) => {
    const repository = freshRepository();
    const url = inject("registryUrl");
    const bytes = randomBytes(30);
    const digest = await digestOf(bytes);
    let location = locationOf(await repository.startUpload());
    for (const start of [0, 10]) {
      const answer = await rawRequest(url, {
        method: "PATCH",
        target: targetOf(url, location),
        headers: { ...headers, "Content-Range": `${start}-${start + 9}` },
        body: bytes.slice(start, start + 10),
      });
      expect(answer.status).toBe(202);
      expect(answer.header("Range")).toBe(`0-${start + 9}`);
      location = answer.header("Location") ?? "";
    }
    const target = targetOf(url, location, { digest });
    expect((await rawRequest(url, { method: "PUT", target, headers, body: bytes.slice(20) })).status).toBe(201);
    expect(await bodyOf(await repository.getBlob(digest))).toEqual(bytes);
  });

  test("a client that percent-encodes what it need not", async () => {
    const repository = freshRepository();
    const bytes = randomBytes(20);
    const { digest } = await repository.pushBlob(bytes);
    const escaped = `/v2/${repository.name.replaceAll("/", "%2F")}/blobs/${digest.replace(":", "%3A")}`;
    expect(await bodyOf(await registryUnderTest().request("GET", escaped))).toEqual(bytes);
  });
});
