import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect } from "vitest";
import type { Bundle, WorkerModule } from "../../scripts/bundle.ts";
import { applyMigrations } from "../../scripts/migrations.ts";
import { openMiniflare } from "../../scripts/miniflare.ts";
import { readProject } from "../../scripts/project.ts";
import { utf8 } from "../support/client.ts";
import { projectRoot } from "../support/registry.ts";
import { repositoryOf, runWrangler, startTest } from "./start-test.ts";
import { testSecrets } from "../support/credentials.ts";

describe("the bundle of wrangler deploy", () => {
  // `npm start` bundles without wrangler's own steps (polyfills, defines, rules for modules): this is what is deployed.
  startTest("serves a push and a pull", async ({ folder, stateDir }) => {
    const outdir = path.join(folder, "bundle");
    const built = await runWrangler("deploy", "--dry-run", `--outdir=${outdir}`);
    expect(built.code, built.output).toBe(0);

    const project = readProject(path.join(projectRoot, "wrangler.toml"), {});
    const persistPath = path.join(stateDir, "v3");
    await applyMigrations(project, persistPath);
    const miniflare = openMiniflare(
      project,
      await readBundle(outdir),
      { persistPath, host: "127.0.0.1", port: 0 },
      testSecrets,
    );
    try {
      const repository = repositoryOf({ url: (await miniflare.ready).origin });
      const config = await repository.pushBlob(utf8("{}"), { mediaType: "application/vnd.oci.empty.v1+json" });
      const layer = await repository.pushBlob(utf8("text"), { mediaType: "text/plain" });
      const manifest = await repository.pushManifest(
        {
          schemaVersion: 2,
          mediaType: "application/vnd.oci.image.manifest.v1+json",
          artifactType: "text/plain",
          config,
          layers: [layer],
        },
        { reference: "v1" },
      );
      expect((await repository.getManifest("v1")).headers.get("Docker-Content-Digest")).toBe(manifest.digest);
      expect(await (await repository.getBlob(layer.digest)).text()).toBe("text");
    } finally {
      await miniflare.dispose();
    }
  });
});

async function readBundle(root: string): Promise<Bundle> {
  const names = (await readdir(root)).filter((name) => /\.(js|wasm)$/.test(name));
  // Miniflare takes the first module for the entry.
  const ordered = ["index.js", ...names.filter((name) => name !== "index.js")];
  const modules = ordered.map(async (name): Promise<WorkerModule> => {
    const file = path.join(root, name);
    return name.endsWith(".wasm")
      ? { type: "CompiledWasm", path: file, contents: new Uint8Array(await readFile(file)) }
      : { type: "ESModule", path: file, contents: await readFile(file, "utf8") };
  });
  return { root, modules: await Promise.all(modules) };
}
