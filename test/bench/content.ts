import { createHash, randomBytes } from "node:crypto";
import { Client } from "./client.ts";
import {
  configOf,
  type Descriptor,
  digestOf,
  imageManifest,
  imageManifestOf,
  layerOf,
  pushBlob,
  putManifest,
  randomText,
} from "./oci.ts";

/** What stands in a registry before anything is measured. */
export interface Content {
  readonly repository: string;
  /** of manifests of 2 KB, each with a config and a layer of its own */
  readonly tags: readonly string[];
  readonly manifests: readonly Descriptor[];
  /** of 2 KB, one a manifest */
  readonly blobs: readonly Descriptor[];
  /** what ranges are read from */
  readonly large: Descriptor;
  /** of a manifest with 60 layers */
  readonly layers: readonly Descriptor[];
  readonly config: Descriptor;
  /** of 300 referrers */
  readonly subject: Descriptor;
}

const MANIFESTS = 64;
const SMALL_BYTES = 2048;
const LARGE_BYTES = 16 * 1024 * 1024;
const LAYERS = 60;
export const REFERRERS = 300;

/** Pushes it all, through the API, under a name of its own. */
export async function seed(url: string): Promise<Content> {
  const client = new Client(url);
  try {
    return await seedWith(client, `bench/${randomText()}`);
  } finally {
    client.close();
  }
}

async function seedWith(client: Client, repository: string): Promise<Content> {
  const push = async (bytes: Uint8Array): Promise<Descriptor> => {
    await pushBlob(client, repository, bytes);
    return layerOf(bytes);
  };
  const configBytes = new TextEncoder().encode(`{"architecture":"amd64","os":"linux","nonce":"${randomText()}"}`);
  await pushBlob(client, repository, configBytes);
  const config = configOf(configBytes);

  const tags: string[] = [];
  const manifests: Descriptor[] = [];
  const blobs: Descriptor[] = [];
  for (let index = 0; index < MANIFESTS; index++) {
    const layer = await push(randomBytes(SMALL_BYTES));
    const manifest = imageManifestOf({ config, layers: [layer] }, SMALL_BYTES);
    const tag = `v1.0.${String(index)}`;
    await putManifest(client, repository, tag, manifest);
    tags.push(tag);
    blobs.push(layer);
    manifests.push(manifestDescriptor(manifest));
  }
  const [subject] = manifests;
  if (subject === undefined) throw new Error("nothing was pushed");
  for (let index = 0; index < REFERRERS; index++) {
    const manifest = imageManifestOf({
      config,
      layers: [],
      subject,
      artifactType: "application/spdx+json",
      annotations: described(index),
    });
    await putManifest(client, repository, digestOf(manifest), manifest);
  }
  const layers: Descriptor[] = [];
  for (let index = 0; index < LAYERS; index++) layers.push(await push(randomBytes(128)));
  return { repository, tags, manifests, blobs, large: await push(randomBytes(LARGE_BYTES)), layers, config, subject };
}

/** As tools write them: a referrers entry of some 400 bytes. */
function described(index: number): Record<string, string> {
  return {
    "org.opencontainers.image.created": new Date(1_700_000_000_000 + index).toISOString(),
    "org.opencontainers.image.description": `bill of materials ${String(index)} ${randomText()}`,
  };
}

function manifestDescriptor(bytes: Uint8Array): Descriptor {
  return { mediaType: imageManifest, digest: digestOf(bytes), size: bytes.byteLength };
}

const BLOCK_BYTES = 1024 * 1024;
const block = randomBytes(BLOCK_BYTES);

/** Bytes that no other layer has, made while they are sent: nobody holds them. */
export class Layer {
  readonly bytes: number;
  readonly #first: Uint8Array;

  constructor(bytes: number) {
    this.bytes = bytes;
    this.#first = Uint8Array.from(block);
    this.#first.set(randomBytes(16));
  }

  *stream(from = 0, to = this.bytes): Generator<Uint8Array> {
    for (let at = from; at < to;) {
      const within = at % BLOCK_BYTES;
      const length = Math.min(BLOCK_BYTES - within, to - at);
      yield (at < BLOCK_BYTES ? this.#first : block).subarray(within, within + length);
      at += length;
    }
  }

  digest(): string {
    const hash = createHash("sha256");
    for (const piece of this.stream()) hash.update(piece);
    return `sha256:${hash.digest("hex")}`;
  }
}
