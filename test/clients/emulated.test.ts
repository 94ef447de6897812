import { describe, expect } from "vitest";
import { z } from "zod";
import { expectStatus, imageIndex, locationOf } from "../support/client.ts";
import { basic } from "../support/credentials.ts";
import { clientTest } from "./client-test.ts";
import { image, multiArchitecture } from "./image.ts";
import { pushGraph } from "./push.ts";
import { expectSameBytes } from "./stored.ts";
import { publicRepositories } from "./target.ts";

/*
 * Clients that no package registry offers, by the requests that their sources send.
 */

const test = clientTest()
  /** The test's repository for the member, by a token for what is given. */
  .extend("asMember", ({ accounts, repository }) => {
    return async (...actions: readonly string[]) => {
      const { registry, name } = repository;
      const { user, password } = accounts.member;
      const query = { service: new URL(registry.baseUrl).host, scope: `repository:${name}:${actions.join(",")}` };
      const given = await registry.as(basic(user, password)).request("GET", "/token", { query });
      const { token } = z.object({ token: z.string() }).parse(await (await expectStatus(given, 200)).json());
      return registry.as(`Bearer ${token}`).repository(name);
    };
  });

describe("Homebrew (emulated)", () => {
  /** What it sends to registries of public bottles, which take it for no credentials at all. */
  const Authorization = "Bearer QQ==";

  test("pull: an index, of which it knows no other type, and a blob", async ({ registry, repository }) => {
    const bottle = await multiArchitecture();
    const open = registry.repository(repository.name.replace(/^clients/, publicRepositories));
    await pushGraph(open, bottle, "1.0");
    const index = await open.getManifest("1.0", { Authorization, Accept: imageIndex });
    expectSameBytes(new Uint8Array(await (await expectStatus(index, 200)).arrayBuffer()), bottle.bytes);
    const [blob] = bottle.children[0]?.layers ?? [];
    const answer = await open.getBlob(blob?.descriptor.digest ?? "", { Authorization });
    expectSameBytes(
      new Uint8Array(await (await expectStatus(answer, 200)).arrayBuffer()),
      blob?.bytes ?? new Uint8Array(),
    );
  });

  test("refuse: a pull of what is not public", async ({ repository }) => {
    await pushGraph(repository, await multiArchitecture(), "1.0");
    await expectStatus(await repository.getManifest("1.0", { Authorization, Accept: imageIndex }), 401);
  });
});

describe("kaniko (emulated)", () => {
  test("push: checked beforehand by an upload that is cancelled", async ({ asMember }) => {
    const member = await asMember("push", "pull");
    const started = await expectStatus(await member.startUpload(), 202);
    await expectStatus(await member.cancelUpload(locationOf(started)), 204);
    await expectStatus(await member.uploadStatus(locationOf(started)), 404);
  });
});

describe("flux (emulated)", () => {
  test("pull: the digest of a tag at each interval", async ({ asMember, repository }) => {
    const pushed = await image({ layerBytes: [10] });
    await pushGraph(repository, pushed, "v1");
    for (let interval = 0; interval < 3; interval++) {
      const member = await asMember("pull");
      const { headers } = await expectStatus(await member.headManifest("v1"), 200);
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
