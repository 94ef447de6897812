import { describe, expect } from "vitest";
import { expectStatus, imageIndex, locationOf } from "../support/client.ts";
import { clientTest } from "./client-test.ts";
import { image, multiArchitecture } from "./image.ts";
import { pushGraph } from "./push.ts";
import { expectSameBytes } from "./stored.ts";

/*
 * Clients that no package registry offers, by the requests that their sources send.
 */

const test = clientTest();

describe("Homebrew (emulated)", () => {
  /** What it sends to public registries, which take it for no credentials at all. */
  const Authorization = "Bearer QQ==";

  test("pull: an index, of which it knows no other type, and a blob", async ({ repository }) => {
    const bottle = await multiArchitecture();
    await pushGraph(repository, bottle, "1.0");
    const index = await repository.getManifest("1.0", { Authorization, Accept: imageIndex });
    expectSameBytes(new Uint8Array(await (await expectStatus(index, 200)).arrayBuffer()), bottle.bytes);
    const [blob] = bottle.children[0]?.layers ?? [];
    const answer = await repository.getBlob(blob?.descriptor.digest ?? "", { Authorization });
    expectSameBytes(
      new Uint8Array(await (await expectStatus(answer, 200)).arrayBuffer()),
      blob?.bytes ?? new Uint8Array(),
    );
  });
});

describe("kaniko (emulated)", () => {
  test("push: checked beforehand by an upload that is cancelled", async ({ repository }) => {
    const started = await expectStatus(await repository.startUpload(), 202);
    await expectStatus(await repository.cancelUpload(locationOf(started)), 204);
    await expectStatus(await repository.uploadStatus(locationOf(started)), 404);
  });
});

describe("flux (emulated)", () => {
  test("pull: the digest of a tag at each interval", async ({ repository }) => {
    const pushed = await image({ layerBytes: [10] });
    await pushGraph(repository, pushed, "v1");
    for (let interval = 0; interval < 3; interval++) {
      const { headers } = await expectStatus(await repository.headManifest("v1"), 200);
      expect(headers.get("Docker-Content-Digest")).toBe(pushed.descriptor.digest);
      expect(headers.get("Content-Length")).toBe(String(pushed.bytes.length));
    }
  });
});

describe("containerd mirror (emulated)", () => {
  test("pull: with the name of the registry that is mirrored", async ({ repository }) => {
    const pushed = await image({ layerBytes: [10] });
    await pushGraph(repository, pushed, "v1");
    const query = { ns: "docker.io" };
    await expectStatus(await repository.request("HEAD", "manifests/v1", { query }), 200);
    await expectStatus(await repository.request("GET", `manifests/${pushed.descriptor.digest}`, { query }), 200);
    await expectStatus(await repository.request("GET", `blobs/${pushed.config.descriptor.digest}`, { query }), 200);
  });

  test("pull: blobs as stored, whatever encoding it would take", async ({ repository }) => {
    const pushed = await image({ layerBytes: [10] });
    await pushGraph(repository, pushed, "v1");
    const { digest } = pushed.config.descriptor;
    const answer = await repository.getBlob(digest, { "Accept-Encoding": "zstd, gzip, deflate" });
    expect([null, "identity"]).toContain(answer.headers.get("Content-Encoding"));
    expect(answer.headers.get("Content-Length")).toBe(String(pushed.config.bytes.length));
    expectSameBytes(new Uint8Array(await answer.arrayBuffer()), pushed.config.bytes);
  });
});

describe("wkg (emulated)", () => {
  test("pull: no settings of its own on the host, said as plain JSON", async ({ registry }) => {
    const answer = await registry.request("GET", "/.well-known/wasm-pkg/registry.json");
    expect(answer.status).toBe(404);
    expect(answer.headers.get("Content-Type")).toMatch(/^application\/json/);
  });
});
