import { describe, expect, it } from "vitest";
import { expectError } from "../conformance/error-envelope.ts";
import { image, push } from "../fixtures/artifacts.ts";
import { randomBytes } from "../fixtures/content.ts";
import { bearerFor, makeRobot } from "../fixtures/principals.ts";
import { environmentWith, registryWith } from "../fixtures/registry.ts";
import { begin } from "../fixtures/upload.ts";
import { type RegistryClient } from "../support/client.ts";
import { asAdmin } from "../support/credentials.ts";

/** What one right, on one repository, opens: that, and nothing beside it. */

const registry = registryWith(environmentWith({}));
const fresh = (): string => `scoped-${crypto.randomUUID()}`;

/** A right by both ways in which a client can say that it has it. */
const proofs = [
  {
    proof: "a bearer",
    status: 401,
    code: "UNAUTHORIZED",
    as: async (name: string, rights: string): Promise<RegistryClient> =>
      registry.as(await bearerFor(registry, asAdmin, `repository:${name}:${rights}`)),
  },
  {
    proof: "an access token",
    status: 403,
    code: "DENIED",
    as: async (name: string, rights: string): Promise<RegistryClient> =>
      registry.as((await makeRobot([`${name}:${rights}`])).token.authorization),
  },
] as const;

describe.each(proofs)("with $proof", ({ proof, status, code, as }) => {
  it("pull pulls; it can't push, mount, delete, cancel, look after an upload", async () => {
    const name = fresh();
    const owner = registry.repository(name);
    const pushed = await push(owner, image(), "v1");
    const [blob] = pushed.blobs;
    if (blob === undefined) throw new Error("an image without blobs");
    const { location } = await begin(owner);
    const reader = (await as(name, "pull")).repository(name);
    expect((await reader.getManifest("v1")).status).toBe(200);
    expect((await reader.getBlob(blob.descriptor.digest)).status).toBe(200);
    expect((await reader.listTags()).status).toBe(200);
    expect((await reader.listReferrers(pushed.descriptor.digest)).status).toBe(200);
    for (const refused of [
      await reader.startUpload(),
      await reader.startUpload({ digest: blob.descriptor.digest }, blob.bytes),
      await reader.mountBlob(blob.descriptor.digest, name),
      await reader.putManifest("v2", pushed.bytes),
      await reader.deleteManifest("v1"),
      await reader.deleteManifest(pushed.descriptor.digest),
      await reader.deleteBlob(blob.descriptor.digest),
      await reader.appendChunk(location, randomBytes(1)),
      await reader.finishUpload(location, blob.descriptor.digest, blob.bytes),
      await reader.uploadStatus(location),
      await reader.cancelUpload(location),
    ]) {
      await expectError(refused, status, code);
    }
    expect((await owner.uploadStatus(location)).status).toBe(204);
    expect(await (await owner.listTags()).json()).toEqual({ name, tags: ["v1"] });
    expect((await owner.getBlob(blob.descriptor.digest)).status).toBe(200);
  });

  it("pull of a bearer lists no catalogue; that of an access token lists what it may pull", async () => {
    const [name, other] = [fresh(), fresh()];
    for (const each of [name, other]) await push(registry.repository(each), image({ layers: [] }));
    const response = await (await as(name, "pull")).listRepositories();
    if (proof === "a bearer") await expectError(response, 401, "UNAUTHORIZED");
    else expect(await response.json()).toEqual({ repositories: [name] });
  });

  it("push pushes what it knows; it can't pull it back, nor delete it", async () => {
    const name = fresh();
    const writer = (await as(name, "push")).repository(name);
    const pushed = await push(writer, image(), "v1");
    for (const refused of [
      await writer.getManifest("v1"),
      await writer.listTags(),
      await writer.getBlob(pushed.blobs[0]?.descriptor.digest ?? ""),
      await writer.deleteManifest("v1"),
    ]) {
      await expectError(refused, status, code);
    }
    expect((await registry.repository(name).getManifest("v1")).status).toBe(200);
  });

  it("delete deletes tags, manifests and blobs; it can't pull nor push", async () => {
    const name = fresh();
    const pushed = await push(registry.repository(name), image(), "v1", "v2");
    const remover = (await as(name, "delete")).repository(name);
    await expectError(await remover.getManifest("v1"), status, code);
    await expectError(await remover.startUpload(), status, code);
    expect((await remover.deleteManifest("v1")).status).toBe(202);
    expect((await remover.deleteManifest(pushed.descriptor.digest)).status).toBe(202);
    expect((await remover.deleteBlob(pushed.blobs[0]?.descriptor.digest ?? "")).status).toBe(202);
    await expectError(await registry.repository(name).getManifest("v2"), 404, "MANIFEST_UNKNOWN");
  });

  it("push does not overwrite through another repository: of two, each needs its own", async () => {
    const [one, other] = [fresh(), fresh()];
    const client = await as(one, "pull,push");
    await push(registry.repository(other), image({ layers: [] }), "v1");
    await expectError(await client.repository(other).putManifest("v1", image({ layers: [] }).bytes), status, code);
    await push(client.repository(one), image({ layers: [] }), "v1");
  });
});

describe("rights on a/b", () => {
  it.each(proofs)("by $proof open neither what is below, nor beside, nor above it", async ({ status, code, as }) => {
    const top = fresh();
    const client = await as(`${top}/b`, "pull,push,delete");
    const others = [
      `${top}/b/c`,
      `${top}/bc`,
      `${top}/b-c`,
      `${top}/b.c`,
      `${top}/b_c`,
      top,
      `${top}/a`,
      `x/${top}/b`,
      "b",
    ];
    for (const name of others) {
      for (const response of [
        await client.repository(name).listTags(),
        await client.repository(name).startUpload(),
        await client.repository(name).deleteManifest("v1"),
      ]) {
        await expectError(response, status, code);
      }
    }
    expect((await client.repository(`${top}/b`).startUpload()).status).toBe(202);
  });

  it.each(proofs)("by $proof are not those on A/B, which is no name", async ({ as }) => {
    const top = fresh();
    const client = await as(`${top}/b`, "pull,push,delete");
    for (const name of [`${top}/B`, `${top.toUpperCase()}/b`, `${top}/ｂ`, `${top}/b%00`, `${top}/b;x`]) {
      await expectError(await client.repository(name).listTags(), 400, "NAME_INVALID");
      await expectError(await client.repository(name).startUpload(), 400, "NAME_INVALID");
    }
  });

  it("are matched literally: a dot in a grant is a dot, a name is no pattern", async () => {
    const top = fresh();
    const as = registry.as((await makeRobot([`${top}/a.b:pull`])).token.authorization);
    await expectError(await as.repository(`${top}/axb`).listTags(), 403, "DENIED");
    await expectError(await as.repository(`${top}/a-b`).listTags(), 403, "DENIED");
    await expectError(await as.repository(`${top}/a.b`).listTags(), 404, "NAME_UNKNOWN");
  });
});
