import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { link, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { describe, expect } from "vitest";
import { z } from "zod";
import type { RepositoryClient } from "../support/client.ts";
import { expectStatus, imageIndex, imageManifest, utf8 } from "../support/client.ts";
import { bodyLimitBytes, Front } from "../start/relay-front.ts";
import { Content, RunningRelay } from "../start/relay-test.ts";
import { clientTest } from "./client-test.ts";
import { startDockerDaemon } from "./docker-daemon.ts";
import { content, imageConfig, tarLayer } from "./image.ts";
import { mountNamespace, program, root } from "./requirement.ts";
import { readManifest } from "./stored.ts";

/** Fifteen times what one request may bring. */
const layerBytes = 1_500_000_000;

/** A layer that is a file, for no memory holds several of them. */
interface LayerFile {
  readonly path: string;
  readonly digest: string;
  readonly size: number;
}

const relayTest = clientTest(program("tar"))
  .extend("relayed", async ({ target }, { onCleanup }) => {
    const front = await Front.open(target.url);
    const relay = await RunningRelay.start(front.url);
    onCleanup(async () => {
      await relay.stop();
      await front.close();
    });
    return { front, relay };
  })
  .extend("layer", async ({ folder, run }): Promise<LayerFile> => {
    const file = new Content(layerBytes);
    await writeFile(join(folder, "file"), file.read());
    await run("tar", ["--create", "--file=layer.tar", "--remove-files", "file"]);
    const path = join(folder, "layer.tar");
    return { path, ...(await digestOfStream(createReadStream(path))) };
  });

/** Five cuts, all over the layer: within a chunk, and after one was taken. */
function cutFiveTimes(front: Front): void {
  const atMB = [1, null, 4, null, 7] as const;
  front.break(
    ...atMB.map((mb, index) => ({
      method: "PATCH",
      at: mb === null ? ("answer" as const) : mb * 1_000_000,
      after: (layerBytes / atMB.length) * (index + 0.5),
    })),
  );
}

/** That the front played its part, and nothing came over its limit. */
function expectCuts(front: Front): void {
  expect(front.broken).toBe(5);
  expect(front.left).toBe(0);
  expect(front.seen.filter(({ status }) => status === 413)).toEqual([]);
  expect(Math.max(...front.seen.map(({ bytes }) => bytes))).toBeLessThan(bodyLimitBytes);
}

describe("crane", () => {
  const test = relayTest.extend("requirements", { auto: true }, async ({ skip }) => {
    const lack = await program("crane")();
    if (lack !== null) skip(lack.reason);
  });

  test("push: a layer of 1.5 GB through the relay, its connection cut five times", async ({
    accounts,
    folder,
    layer,
    relayed: { front, relay },
    repository,
    run,
  }) => {
    const { user, password } = accounts.member;
    const login = ["auth", "login", relay.host, "--username", user, "--password-stdin"];
    await run("crane", login, { input: password });
    await writeLayout(join(folder, "layout"), layer);
    cutFiveTimes(front);
    await run("crane", ["push", "layout", `${relay.host}/${repository.name}:v1`]);
    expectCuts(front);
    const [pushed] = (await readManifest(repository, "v1")).layers;
    expect(pushed).toMatchObject({ digest: layer.digest, size: layer.size });
    expect(await digestOfStream(await blobStream(repository, layer.digest))).toEqual({
      digest: layer.digest,
      size: layer.size,
    });
    expect(relay.of("uploaded")).toContainEqual(expect.objectContaining({ digest: layer.digest, bytes: layer.size }));
  });
});

describe("docker", () => {
  const requirements = [program("docker"), program("dockerd"), program("containerd"), root, mountNamespace];
  const test = relayTest
    .extend("requirements", { auto: true }, async ({ skip }) => {
      for (const requirement of requirements) {
        const lack = await requirement();
        if (lack !== null) skip(lack.reason);
      }
    })
    .extend("docker", async ({ fileFolder, run }, { onCleanup }) => {
      const { daemon, host } = await startDockerDaemon(fileFolder);
      onCleanup(() => daemon.stop());
      return (args: readonly string[], input = "") => run("docker", ["--host", host, ...args], { input });
    });

  test("push: a layer of 1.5 GB through the relay, its connection cut five times", async ({
    accounts,
    docker,
    folder,
    layer,
    relayed: { front, relay },
    repository,
    run,
  }) => {
    const { user, password } = accounts.member;
    await docker(["login", "--username", user, "--password-stdin", relay.host], password);
    const reference = `${relay.host}/${repository.name}:v1`;
    await writeArchive(folder, layer, reference);
    await run("tar", ["--create", "--file=image.tar", "--remove-files", "manifest.json", "config.json", "layer.tar"]);
    await docker(["load", "--input", join(folder, "image.tar")]);
    cutFiveTimes(front);
    await docker(["push", reference]);
    expectCuts(front);
    // docker packs the layer itself: what it unpacks to is what was to come.
    const [pushed] = (await readManifest(repository, "v1")).layers;
    const packed = await blobStream(repository, pushed?.digest ?? "");
    const unpacked = createGunzip();
    const [read] = await Promise.all([digestOfStream(unpacked), pipeline(packed, unpacked)]);
    expect(read).toEqual({ digest: layer.digest, size: layer.size });
    expect(relay.of("uploaded").map(({ bytes }) => bytes)).toContain(pushed?.size);
  });
});

function configOf({ digest }: LayerFile): Uint8Array<ArrayBuffer> {
  const rootfs = { type: "layers", diff_ids: [digest] };
  return utf8(JSON.stringify({ architecture: "amd64", os: "linux", config: {}, rootfs }));
}

/** An image layout (image-spec v1.1.1 «OCI Image Layout Specification») around the layer. */
async function writeLayout(folder: string, layer: LayerFile): Promise<void> {
  const blobs = join(folder, "blobs/sha256");
  await mkdir(blobs, { recursive: true });
  const config = await content(configOf(layer), imageConfig);
  const layers = [{ mediaType: tarLayer, digest: layer.digest, size: layer.size }];
  const manifest = await content(
    utf8(JSON.stringify({ schemaVersion: 2, mediaType: imageManifest, config: config.descriptor, layers })),
    imageManifest,
  );
  for (const { bytes, descriptor } of [config, manifest]) await writeFile(join(blobs, hexOf(descriptor.digest)), bytes);
  await link(layer.path, join(blobs, hexOf(layer.digest)));
  await writeFile(join(folder, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  const index = { schemaVersion: 2, mediaType: imageIndex, manifests: [manifest.descriptor] };
  await writeFile(join(folder, "index.json"), JSON.stringify(index));
}

/** The files of what `docker load` reads, beside the layer. */
async function writeArchive(folder: string, layer: LayerFile, reference: string): Promise<void> {
  await writeFile(join(folder, "config.json"), configOf(layer));
  const manifest = [{ Config: "config.json", RepoTags: [reference], Layers: ["layer.tar"] }];
  await writeFile(join(folder, "manifest.json"), JSON.stringify(manifest));
}

async function blobStream(repository: RepositoryClient, digest: string): Promise<Readable> {
  const { body } = await expectStatus(await repository.getBlob(digest), 200);
  if (body === null) throw new Error("a blob has a body");
  return Readable.from(body);
}

async function digestOfStream(stream: Readable): Promise<{ readonly digest: string; readonly size: number }> {
  const hash = createHash("sha256");
  let size = 0;
  for await (const read of stream) {
    const piece = z.instanceof(Uint8Array).parse(read);
    hash.update(piece);
    size += piece.length;
  }
  return { digest: `sha256:${hash.digest("hex")}`, size };
}

function hexOf(digest: string): string {
  return digest.slice(digest.indexOf(":") + 1);
}
