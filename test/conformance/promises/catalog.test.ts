import { expect, test } from "vitest";
import { z } from "zod";
import { imageIn } from "../content.ts";
import { freshRepository, registryUnderTest } from "../registry-under-test.ts";

const catalog = z.object({ repositories: z.array(z.string()) });

async function pushedTo(names: readonly string[]): Promise<void> {
  for (const name of names) {
    const repository = registryUnderTest().repository(name);
    await repository.pushManifest(await imageIn(repository), { reference: "v1" });
  }
}

test("GET /v2/_catalog: lists repositories in order, by pages that Link joins", async () => {
  const prefix = freshRepository().name;
  const names = ["c", "a", "b/d", "b"].map((end) => `${prefix}/${end}`);
  await pushedTo(names);
  const seen: string[] = [];
  let target: string | undefined = `/v2/_catalog?n=3&last=${encodeURIComponent(prefix)}`;
  for (let pages = 0; target !== undefined && pages < 3; pages++) {
    const response: Response = await registryUnderTest().request("GET", target);
    expect(response.status).toBe(200);
    seen.push(...catalog.parse(await response.json()).repositories);
    const link = response.headers.get("Link");
    if (link !== null) expect(link).toMatch(/^<\/v2\/_catalog\?[^>]+>; rel="next"$/);
    target = /^<([^>]+)>/.exec(link ?? "")?.[1];
  }
  expect(seen.filter((name) => name.startsWith(`${prefix}/`))).toEqual(names.toSorted());
});

test("GET /v2/_catalog: n=0 is an empty list without Link", async () => {
  await pushedTo([freshRepository().name]);
  const response = await registryUnderTest().listRepositories({ n: 0 });
  expect(response.headers.get("Link")).toBeNull();
  expect(await response.json()).toEqual({ repositories: [] });
});

test("GET /v2/_catalog: a repository is there once something was pushed, not before", async () => {
  const repository = freshRepository();
  await repository.startUpload();
  const find = async (): Promise<boolean> => {
    const response = await registryUnderTest().listRepositories({ n: 1, last: repository.name.slice(0, -1) });
    return catalog.parse(await response.json()).repositories.includes(repository.name);
  };
  expect(await find()).toBe(false);
  await repository.pushManifest(await imageIn(repository));
  expect(await find()).toBe(true);
});
