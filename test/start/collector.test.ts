import { readdir } from "node:fs/promises";
import path from "node:path";
import { expect } from "vitest";
import { openMiniflare } from "../../scripts/miniflare.ts";
import { readProject } from "../../scripts/project.ts";
import { expectStatus, utf8 } from "../support/client.ts";
import { projectRoot } from "../support/registry.ts";
import { repositoryOf, startTest } from "./start-test.ts";
import { testSecrets } from "../support/credentials.ts";

// Real time: the cron of wrangler.toml is due each minute, and a blob goes in the second pass after its last use.
startTest(
  "the collector, fired by npm start, gives back the space of what was deleted",
  async ({ start, stateDir }) => {
    const registry = await start({ vars: { GC_GRACE_SECONDS: "0" } });
    const repository = repositoryOf(registry);
    const blob = await repository.pushBlob(utf8("deleted itself"));
    const layer = await repository.pushBlob(utf8("a layer of what is deleted"));
    const manifest = await repository.pushManifest({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: layer,
      layers: [layer],
      // Too large for a row of D1, so that R2 holds the manifest too.
      annotations: { "com.example.padding": "x".repeat(200_000) },
    });
    await expectStatus(await repository.deleteBlob(blob.digest), 202);
    await expectStatus(await repository.deleteManifest(manifest.digest), 202);
    expect(await objectFiles(stateDir)).not.toEqual([]);

    await expect.poll(() => objectFiles(stateDir), { timeout: 220_000, interval: 500 }).toEqual([]);
    await registry.stop();
    expect(await listBucket(stateDir)).toEqual([]);
  },
);

/** The simulator keeps each object's bytes in a file; while it runs, its state may not be opened by a second one. */
async function objectFiles(stateDir: string): Promise<string[]> {
  return readdir(path.join(stateDir, "v3/r2/moorage-blobs/blobs"));
}

async function listBucket(stateDir: string): Promise<string[]> {
  const project = readProject(path.join(projectRoot, "wrangler.toml"), {});
  const place = { persistPath: path.join(stateDir, "v3"), host: "127.0.0.1", port: 0 };
  const inert = {
    type: "ESModule" as const,
    path: path.join(stateDir, "inert.js"),
    contents: "export default {}; export class UploadSession {}",
  };
  const miniflare = openMiniflare(project, { root: stateDir, modules: [inert] }, place, testSecrets);
  try {
    const bucket = await miniflare.getR2Bucket("BLOBS");
    return (await bucket.list()).objects.map((object) => object.key);
  } finally {
    await miniflare.dispose();
  }
}
