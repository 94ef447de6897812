import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { insertGarbage } from "../../../src/blobs/garbage.ts";
import { newKey } from "../../../src/blobs/keys.ts";
import { insertBlob } from "../../../src/blobs/store.ts";
import { parseDigest } from "../../../src/oci/digest.ts";
import { parseRepositoryName } from "../../../src/oci/repository.ts";
import { unknownDigest } from "../../fixtures/content.ts";
import { freshRepository } from "../../fixtures/registry.ts";
import { count, objectKeyOf, runPass } from "../../fixtures/storage.ts";

function newBlob() {
  return {
    repository: parseRepositoryName(freshRepository().name),
    digest: parseDigest(unknownDigest()),
    size: 1,
    objectKey: newKey("blobs/", Date.now()),
  };
}

const isGarbage = async (key: string): Promise<boolean> =>
  (await count("SELECT count(*) AS count FROM garbage WHERE object_key = ?1", key)) === 1;

describe("a key that is garbage", () => {
  it.each(["before the collector took it", "after"])("is never named by a row, %s", async (when) => {
    const blob = newBlob();
    await insertGarbage(env.DB, [blob.objectKey], Date.now()).run();
    if (when === "after") await runPass({ graceSeconds: 3600 });
    const results = await env.DB.batch(insertBlob(env.DB, blob, null, Date.now()));
    expect(results.at(-1)?.results).toEqual([]);
    expect(await objectKeyOf(blob.digest)).toBeNull();
  });

  it("is one that no row names: a blob's key can't be put down", async () => {
    const blob = newBlob();
    await env.DB.batch(insertBlob(env.DB, blob, null, Date.now()));
    await insertGarbage(env.DB, [blob.objectKey], Date.now()).run();
    expect(await isGarbage(blob.objectKey)).toBe(false);
    expect(await objectKeyOf(blob.digest)).toBe(blob.objectKey);
  });

  it("is the second object of content that is there already", async () => {
    const blob = newBlob();
    const again = { ...blob, objectKey: newKey("blobs/", Date.now()) };
    for (const each of [blob, again]) await env.DB.batch(insertBlob(env.DB, each, null, Date.now()));
    expect([await objectKeyOf(blob.digest), await isGarbage(again.objectKey), await isGarbage(blob.objectKey)]).toEqual(
      [blob.objectKey, true, false],
    );
  });
});
