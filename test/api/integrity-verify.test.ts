import { env } from "cloudflare:workers";
import { beforeEach, describe, expect, it } from "vitest";
import { type Verified, verifiedSchema } from "../../src/integrity/finding.ts";
import { VERIFY_SLICE_BYTES, VERIFY_SLICE_OBJECTS } from "../../src/limits.ts";
import { blob, image, push } from "../fixtures/artifacts.ts";
import { digest, MIB, randomBytes } from "../fixtures/content.ts";
import { keyOf, spoil } from "../fixtures/integrity.ts";
import { interceptOperations } from "../fixtures/intercepted-env.ts";
import { read, refused, send } from "../fixtures/management.ts";
import { freshRepository, registryWith } from "../fixtures/registry.ts";
import { emptyRegistry } from "../fixtures/storage.ts";
import { countOperations } from "../support/counted-env.ts";

beforeEach(emptyRegistry);

async function verifySlice(repository: string, cursor: string | null): Promise<Verified> {
  const request = { repository, ...(cursor === null ? {} : { cursor }) };
  return read(await send("POST", "integrity/verify", request), 200, verifiedSchema);
}

/** All slices, in their order. */
async function verifyAll(repository: string): Promise<Verified[]> {
  const slices = [await verifySlice(repository, null)];
  for (let next = slices[0]?.next ?? null; next !== null; next = slices.at(-1)?.next ?? null) {
    slices.push(await verifySlice(repository, next));
  }
  return slices;
}

const sumOf = (slices: readonly Verified[], of: "objects" | "bytes"): number =>
  slices.reduce((sum, slice) => sum + slice[of], 0);

describe("POST /api/v1/integrity/verify", () => {
  it("reads all of one repository and nothing of others, and says how much that is", async () => {
    const [repository, other] = [freshRepository(), freshRepository()];
    const layer = blob(randomBytes(1000));
    const { bytes, blobs } = await push(repository, image({ layers: [layer] }), "v1");
    await push(other, image());
    const slices = await verifyAll(repository.name);
    const size = bytes.byteLength + blobs.reduce((sum, each) => sum + each.bytes.byteLength, 0);
    expect(slices[0]?.total).toEqual({ objects: 3, bytes: size });
    expect([sumOf(slices, "objects"), sumOf(slices, "bytes")]).toEqual([3, size]);
    expect(slices.flatMap(({ findings }) => findings)).toEqual([]);
  });

  it("finds and quarantines what is bad, and tells of it again the next time, until it is healed", async () => {
    const repository = freshRepository();
    const layer = blob(randomBytes(1000));
    const { descriptor } = await push(repository, image({ layers: [layer] }), "v1");
    await spoil(layer.descriptor.digest, layer.bytes);
    await env.DB.prepare("UPDATE manifests SET body = body || ' ' WHERE digest = ?1").bind(descriptor.digest).run();
    for (let time = 0; time < 2; time++) {
      const findings = (await verifyAll(repository.name)).flatMap((slice) => slice.findings);
      expect(findings).toMatchObject([
        { kind: "blob", digest: layer.descriptor.digest, problem: "digest", foundBy: "admin" },
        { kind: "manifest", digest: descriptor.digest, problem: "size", repository: repository.name },
      ]);
    }
    expect((await repository.headBlob(layer.descriptor.digest)).status).toBe(404);
    expect((await repository.headManifest("v1")).status).toBe(404);
    await repository.pushBlob(layer.bytes);
    expect((await verifyAll(repository.name)).flatMap((slice) => slice.findings)).toMatchObject([{ kind: "manifest" }]);
  });

  it("comes in slices, a blob over several of them where it is larger, and judges each rightly", async () => {
    const repository = freshRepository();
    const size = VERIFY_SLICE_BYTES + 5 * MIB;
    const large = randomBytes(size);
    await repository.pushBlob(randomBytes(10));
    await repository.pushBlob(large);
    const slices = await verifyAll(repository.name);
    expect(slices.length).toBe(2);
    expect(slices[0]?.bytes).toBe(VERIFY_SLICE_BYTES);
    expect([sumOf(slices, "objects"), sumOf(slices, "bytes")]).toEqual([2, size + 10]);
    await spoil(digest(large), large);
    const again = await verifyAll(repository.name);
    expect(again.flatMap((slice) => slice.findings)).toMatchObject([{ digest: digest(large), problem: "digest" }]);
    // It was read twice before that was believed.
    expect(sumOf(again, "bytes")).toBe(2 * size + 10);
  });

  it("reads no more objects than a slice has", async () => {
    const repository = freshRepository();
    const { digest: named } = await repository.pushBlob(randomBytes(10));
    // Rows alone: what R2 has not is read too, and found.
    await env.DB.prepare(
      `WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)
       INSERT INTO blobs (digest, size, object_key, created_at)
       SELECT 'sha256:' || format('%064d', n), 1, 'blobs/none' || n, 0 FROM number`,
    )
      .bind(VERIFY_SLICE_OBJECTS)
      .run();
    await env.DB.prepare(
      `INSERT INTO repository_blobs (repository_id, blob_id, linked_at)
       SELECT repositories.id, blobs.id, 0 FROM repositories, blobs WHERE name = ?1 AND digest <> ?2`,
    )
      .bind(repository.name, named)
      .run();
    const slices = await verifyAll(repository.name);
    expect(slices.map(({ objects }) => objects)).toEqual([VERIFY_SLICE_OBJECTS, 1]);
    const found = new Set(slices.flatMap(({ findings }) => findings).map(({ id }) => id));
    expect(found.size).toBe(VERIFY_SLICE_OBJECTS);
  });

  it.each([
    ["before it has listed what there is", "DB"],
    ["while it reads", "BLOBS"],
  ] as const)("tells of what another run quarantines %s", async (_when, binding) => {
    const repository = freshRepository();
    const { digest: named } = await repository.pushBlob(randomBytes(10));
    await spoil(named, new Uint8Array(10));
    let isFirst = true;
    const disturbed = interceptOperations(env, {
      before: async (operation) => {
        if (operation.binding !== binding || !isFirst) return;
        isFirst = false;
        expect((await verifyAll(repository.name)).flatMap(({ findings }) => findings)).toHaveLength(1);
      },
    });
    const response = await registryWith(disturbed).request("POST", "/api/v1/integrity/verify", {
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ repository: repository.name }),
    });
    expect((await read(response, 200, verifiedSchema)).findings).toMatchObject([{ digest: named }]);
  });

  it("fails where R2 does, and finds nothing then", async () => {
    const repository = freshRepository();
    const { digest: named } = await repository.pushBlob(randomBytes(10));
    const failing = interceptOperations(env, {
      before: ({ binding, values }) => {
        if (binding === "BLOBS" && values[0] !== undefined) throw new Error("internal error (10001)");
      },
    });
    const response = await registryWith(failing).request("POST", "/api/v1/integrity/verify", {
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ repository: repository.name }),
    });
    expect(response.status).toBe(500);
    expect((await repository.headBlob(named)).status).toBe(200);
    expect(await keyOf(named)).not.toBeNull();
  });

  it("does what its comment says: 4 D1, and 1 R2 an object, for a small repository", async () => {
    const repository = freshRepository();
    await push(repository, image(), "v1");
    const counted = countOperations(env);
    const response = await registryWith(counted.env).request("POST", "/api/v1/integrity/verify", {
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ repository: repository.name }),
    });
    expect(response.status).toBe(200);
    // The sum, the blobs, the manifests, what is quarantined.
    expect(counted.counts).toEqual({ d1: 4, r2: 2, durableObjects: 0 });
  });

  it("knows what is no repository, no name, and no cursor", async () => {
    await refused(await send("POST", "integrity/verify", { repository: "none/such" }), 404, "NOT_FOUND");
    await refused(await send("POST", "integrity/verify", { repository: "No" }), 400, "NAME_INVALID");
    for (const cursor of ["", "x", "{}", '{"kind":"blob","id":"1","digest":"","progress":null}']) {
      await refused(await send("POST", "integrity/verify", { repository: "a", cursor }), 400, "INVALID_REQUEST");
    }
  });
});
