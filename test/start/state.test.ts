import { describe, expect } from "vitest";
import { asAdmin } from "../support/credentials.ts";
import { utf8 } from "../support/client.ts";
import { freePort } from "../support/free-port.ts";
import { repositoryOf, runWrangler, startTest } from "./start-test.ts";

const layer = utf8("a layer that outlives the process");

describe("the state folder", () => {
  startTest("keeps what was pushed from one start to the next", async ({ start }) => {
    const first = await start();
    const blob = await repositoryOf(first).pushBlob(layer);
    const manifest = await repositoryOf(first).pushManifest(manifestOf(blob), { reference: "v1" });
    await first.stop();

    const second = repositoryOf(await start());
    expect(await (await second.getBlob(blob.digest)).text()).toBe("a layer that outlives the process");
    expect((await second.headManifest("v1")).headers.get("Docker-Content-Digest")).toBe(manifest.digest);
  });

  startTest("is shared with npm run dev, in both directions", async ({ start }) => {
    const served = await start();
    const blob = await repositoryOf(served).pushBlob(layer);
    await served.stop();

    const developed = await start({ command: "dev" });
    await repositoryOf(developed).pushManifest(manifestOf(blob), { reference: "v1" });
    await developed.stop();

    const again = repositoryOf(await start());
    expect((await again.headManifest("v1")).status).toBe(200);
  });

  startTest("has its migrations before anything is answered", async ({ start, stateDir }) => {
    const port = await freePort();
    const [first] = await Promise.all([firstAnswer(`http://127.0.0.1:${port}/v2/_catalog`), start({ port })]);
    expect(first.status).toBe(200);
    expect(await first.json()).toEqual({ repositories: [] });

    const listed = await runWrangler("d1", "migrations", "list", "DB", "--local", `--persist-to=${stateDir}`);
    expect(listed.output).toContain("No migrations to apply");
  });
});

function manifestOf(layerDescriptor: object) {
  return {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    artifactType: "application/vnd.example.test",
    config: layerDescriptor,
    layers: [layerDescriptor],
  };
}

/** Asks again and again from before the port is open: the first answer of all is what counts. */
async function firstAnswer(url: string): Promise<Response> {
  for (;;) {
    try {
      return await fetch(url, { headers: { Authorization: asAdmin } });
    } catch {
      // Nobody tells when a port of another process opens.
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}
