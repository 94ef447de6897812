import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect } from "vitest";
import { z } from "zod";
import { imageManifest, utf8 } from "../support/client.ts";
import type { RepositoryClient } from "../support/client.ts";
import { accessPromises } from "./carrier.ts";
import type { Carrier } from "./carrier.ts";
import { clientTest } from "./client-test.ts";
import type { Login } from "./client-test.ts";
import { image, MiB } from "./image.ts";
import { pushGraph, pushManyTags } from "./push.ts";
import { program } from "./requirement.ts";
import { expectSameBytes, readBlob, readManifest, readReferrers, readTags } from "./stored.ts";
import { requests } from "./wire.ts";

const script = fileURLToPath(new URL("oras_python.py", import.meta.url));

/** Stores an artifact of one file without the client. */
async function putFile(repository: RepositoryClient, file: Uint8Array, tag: string): Promise<void> {
  const config = await repository.pushBlob(utf8("{}"), { mediaType: "application/vnd.oci.empty.v1+json" });
  const layer = await repository.pushBlob(new Uint8Array(file));
  const layers = [{ ...layer, annotations: { "org.opencontainers.image.title": "file" } }];
  const manifest = {
    schemaVersion: 2,
    mediaType: imageManifest,
    artifactType: "application/vnd.example",
    config,
    layers,
  };
  await repository.pushManifest(manifest, { reference: tag });
}

const test = clientTest(program("oras-python"))
  .extend("oras", ({ run }) => {
    return async (command: string, args: object): Promise<unknown> => {
      const { stdout } = await run("oras-python", [script, command, JSON.stringify(args)]);
      return JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "");
    };
  })
  .extend("login", ({ oras }): Login => {
    return async (host, { user, password }) => {
      await oras("login", { host, user, password });
    };
  })
  .extend("data", { auto: true }, async ({ folder }) => {
    const bytes = Buffer.alloc(5 * MiB, "moorage");
    await writeFile(join(folder, "data.bin"), bytes);
    return bytes;
  })
  .extend("carrier", ({ data, folder, oras }): Carrier => {
    const file = Buffer.from(randomUUID());
    return {
      async put(repository) {
        await putFile(repository, file, "v1");
      },
      async push(host, name) {
        await oras("push", { reference: `${host}/${name}:v2`, files: ["data.bin"] });
        return async (repository) => {
          const [layer] = (await readManifest(repository, "v2")).layers;
          expectSameBytes(await readBlob(repository, layer?.digest ?? ""), data);
        };
      },
      async pull(host, name) {
        await oras("pull", { reference: `${host}/${name}:v1`, folder: "pulled" });
        expectSameBytes(await readFile(join(folder, "pulled", "file")), file);
      },
    };
  });

accessPromises(test, {
  name: "oras (Python)",
  loginAsks: false,
  takesIdentityTokens: false,
  tokensBy: null,
  renewsTokenAt: null,
});

describe("oras (Python)", () => {
  test("push: files with annotations", async ({ oras, data, reference, repository }) => {
    const annotations = { author: "moorage" };
    const files = ["data.bin:application/vnd.example.data"];
    expect(await oras("push", { reference: reference("v1"), files, annotations })).toBe(201);
    const stored = await readManifest(repository, "v1");
    expect(stored.annotations).toEqual(annotations);
    expect(stored.layers.map(({ mediaType }) => mediaType)).toEqual(["application/vnd.example.data"]);
    expectSameBytes(await readBlob(repository, stored.layers[0]?.digest ?? ""), data);
  });

  test("chunks: a file in chunks of 1 MiB", async ({ oras, data, reference, repository, wire }) => {
    const name = reference("v1", { host: wire.host });
    await oras("push", { reference: name, files: ["data.bin"], chunk_size: MiB });
    // It says who it is only when it is asked.
    const taken = requests(wire, "PATCH", /uploads/).filter(({ status }) => status !== 401);
    expect(taken.map(({ status }) => status)).toEqual(Array(5).fill(202));
    const { layers } = await readManifest(repository, "v1");
    expectSameBytes(await readBlob(repository, layers[0]?.digest ?? ""), data);
  });

  test("pull: the files come back", async ({ oras, data, folder, reference }) => {
    await oras("push", { reference: reference("v1"), files: ["data.bin"] });
    const pulled = z.array(z.string()).parse(await oras("pull", { reference: reference("v1"), folder: "pulled" }));
    expect(pulled).toHaveLength(1);
    expectSameBytes(await readFile(join(folder, "pulled", "data.bin")), data);
  });

  test("pull: a manifest", async ({ oras, reference, repository }) => {
    const pushed = await image();
    await pushGraph(repository, pushed, "v1");
    const manifest = await oras("manifest", { reference: reference("v1") });
    expect(manifest).toEqual(JSON.parse(new TextDecoder().decode(pushed.bytes)));
  });

  test("list: all tags, and as many as were asked for", async ({ oras, repository, target }) => {
    const tags = await pushManyTags(repository, await image({ layerBytes: [10] }), 70);
    const name = `${target.host}/${repository.name}`;
    expect(await oras("tags", { repository: name })).toEqual(tags);
    expect(await oras("tags", { repository: name, count: 7 })).toEqual(tags.slice(0, 7));
  });

  test("attach: an artifact to an image", async ({ oras, reference, repository }) => {
    const subject = await image();
    await pushGraph(repository, subject, "v1");
    await oras("push", { reference: reference("attached"), files: ["data.bin"], subject: subject.descriptor });
    const { digest, subject: stored } = await readManifest(repository, "attached");
    expect(stored).toEqual(subject.descriptor);
    expect(await readReferrers(repository, subject.descriptor.digest)).toMatchObject([{ digest }]);
  });

  test("delete: by tag", async ({ oras, repository, target }) => {
    await pushGraph(repository, await image(), "v1");
    const name = `${target.host}/${repository.name}`;
    expect(await oras("delete", { repository: name, tag: "v1" })).toEqual(["v1"]);
    expect(await readTags(repository)).toEqual([]);
  });
});
