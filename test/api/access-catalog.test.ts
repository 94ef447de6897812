import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { fc } from "@fast-check/vitest";
import { z } from "zod";
import { expectError } from "../conformance/error-envelope.ts";
import { image, push } from "../fixtures/artifacts.ts";
import { bearerFor, makeRobot, makeUser, makeAccessToken, setGrants } from "../fixtures/principals.ts";
import { environmentWith, registryWith } from "../fixtures/registry.ts";
import { matchesAnyPattern } from "../../src/oci/repository-pattern.ts";
import { parseRepositoryName } from "../../src/oci/repository.ts";
import { emptyRegistry } from "../fixtures/storage.ts";
import { type RegistryClient } from "../support/client.ts";
import { asAdmin } from "../support/credentials.ts";

/** The catalogue of those who may not pull everything: full pages of what they may, and no sign of the rest. */

const names = [
  "a",
  "a/b",
  "a/b/c",
  "a/bc",
  "aa/x",
  ...Array.from({ length: 12 }, (_, index) => `between/secret-${String(index).padStart(2, "0")}`),
  "between/shared",
  "between/tail",
  "m/cache",
  "m/n/cache",
  "open/one",
  "open/two",
  "z/cache",
].toSorted();

beforeAll(async () => {
  await emptyRegistry();
  for (const name of names) await push(registryWith(env).repository(name), image({ layers: [] }));
});

interface Listed {
  readonly pages: readonly (readonly string[])[];
  readonly links: readonly string[];
}

/** Follows Link to the end, as ggcr and oras do. */
async function list(as: RegistryClient, n?: number): Promise<Listed> {
  const pages: string[][] = [];
  const links: string[] = [];
  for (let next: string | undefined = `/v2/_catalog${n === undefined ? "" : `?n=${String(n)}`}`; next !== undefined;) {
    const response = await as.request("GET", next);
    expect(response.status).toBe(200);
    pages.push(z.strictObject({ repositories: z.array(z.string()) }).parse(await response.json()).repositories);
    const link = response.headers.get("Link");
    if (link !== null) links.push(link);
    next = /^<([^>]+)>; rel="next"$/.exec(link ?? "")?.[1];
  }
  return { pages, links };
}

/** Every page but the last is full, the last is not empty unless it is the only one, and no private name is anywhere. */
function expectPages({ pages, links }: Listed, expected: readonly string[], n: number): void {
  expect(pages.flat()).toEqual(expected);
  expect(pages.map(({ length }) => length)).toEqual(
    expected.length === 0
      ? [0]
      : Array.from({ length: Math.ceil(expected.length / n) }, (_, page) => Math.min(n, expected.length - page * n)),
  );
  const told = links.map((link) => new URL(/<([^>]+)>/.exec(link)?.[1] ?? "", "http://x").searchParams.get("last"));
  for (const last of told) expect(expected).toContain(last);
}

const matching = (patterns: readonly string[]): readonly string[] =>
  names.filter((name) => matchesAnyPattern(parseRepositoryName(name), patterns));

const patternLists = [
  ["a"],
  ["a/*"],
  ["a/**"],
  ["a/b", "a/b/**"],
  ["a*", "a/**", "a/b"],
  ["a/b*", "a/**", "aa/*"],
  ["between/shared", "a"],
  ["between/shared", "between/tail"],
  ["*"],
  ["**"],
  ["**/cache"],
  ["*/cache", "between/shared"],
  ["**/cache", "a/**", "nothing/**"],
  ["z/*", "m/**", "a"],
  ["nothing/*"],
];

describe.each(patternLists)("somebody who may pull %s, %s, %s", (...given) => {
  const patterns = given.filter((pattern) => typeof pattern === "string");
  const expected = matching(patterns);

  it("lists that, in full pages, by access token and by bearer", async () => {
    const { token } = await makeRobot(patterns.map((pattern) => `${pattern}:pull`));
    const basic = registryWith(env).as(token.authorization);
    const bearer = basic.as(await bearerFor(basic, token.authorization, "registry:catalog:*"));
    for (const client of [basic, bearer]) {
      for (const n of [1, 2, 3, 100]) expectPages(await list(client, n), expected, n);
      expectPages(await list(client), expected, 7000);
    }
  });
});

const toGrants = (patterns: readonly string[]): string[] => patterns.map((each) => `${each}:pull`);

describe("the catalogue", () => {
  it("is what both the user and the access token are granted to pull", async () => {
    const user = await makeUser(["a/**:pull", "between/*:pull", "z/**:push"]);
    const token = await makeAccessToken(user, { grants: ["**/b:pull", "between/s*:pull", "z/**:pull", "m/**:pull"] });
    const as = registryWith(env).as(token.authorization);
    const expected = ["a/b", ...names.filter((name) => name.startsWith("between/s"))];
    for (const n of [1, 4, 100]) expectPages(await list(as, n), expected, n);
    const bearer = as.as(await bearerFor(as, token.authorization, "registry:catalog:*"));
    for (const n of [1, 4, 100]) expectPages(await list(bearer, n), expected, n);
  });

  it("has what is public beside it; nobody is asked who they are first, and gets it by an anonymous token", async () => {
    const environment = environmentWith({ ANONYMOUS_PULL: "open/*" });
    const registry = registryWith(environment);
    const { token } = await makeRobot(["a:pull", "m/**:push"]);
    const expected = ["a", "open/one", "open/two"];
    expectPages(await list(registry.as(token.authorization), 2), expected, 2);
    for (const authorization of [null, "Bearer QQ=="]) {
      const response = await registry.as(authorization).listRepositories();
      await expectError(response, 401, "UNAUTHORIZED");
    }
    const nobody = registry.as(await bearerFor(registry, null, "registry:catalog:*"));
    expectPages(await list(nobody, 1), ["open/one", "open/two"], 1);
    expectPages(await list(registry, 5), names, 5);
  });

  it("can be asked where to go on from a private name, and tells nothing of it", async () => {
    const { token } = await makeRobot(["a:pull", "between/shared:pull", "between/tail:pull"]);
    const as = registryWith(env).as(token.authorization);
    for (const last of ["between/secret-03", "between/secret-zz", "between"]) {
      const response = await as.listRepositories({ last, n: 1 });
      expect(await response.json()).toEqual({ repositories: ["between/shared"] });
      expect(response.headers.get("Link")).toBe('</v2/_catalog?last=between%2Fshared&n=1>; rel="next"');
    }
    expect((await as.listRepositories({ last: "between/shared", n: 1 })).headers.get("Link")).toBeNull();
  });

  it("of a bearer is what was granted when it was given", async () => {
    const { user, token } = await makeRobot(["a:pull"]);
    const registry = registryWith(env);
    const bearer = await bearerFor(registry, token.authorization, "registry:catalog:*");
    await setGrants(user, ["**:pull"]);
    expectPages(await list(registry.as(bearer), 3), ["a"], 3);
    expectPages(await list(registry.as(await bearerFor(registry, asAdmin, "registry:catalog:*")), 7), names, 7);
  });

  it("is refused to who may pull nothing: 403, and so it is to a token that asked", async () => {
    const { token } = await makeRobot(["a:push,delete"]);
    const registry = registryWith(env);
    expect((await registry.as(token.authorization).listRepositories()).status).toBe(403);
    const bearer = await bearerFor(registry, token.authorization, "registry:catalog:*");
    expect((await registry.as(bearer).listRepositories()).status).toBe(403);
  });

  it("of any grants, in pages of any size, is the sorted list of what they let pull", async () => {
    const piece = fc.constantFrom("a", "b", "c", "*", "**", "between", "s*", "*-0*", "m", "n", "cache", "x");
    const pattern = fc.array(piece, { minLength: 1, maxLength: 3 }).map((pieces) => pieces.join("/"));
    const user = await makeUser([]);
    const registry = registryWith(env);
    await fc.assert(
      fc.asyncProperty(
        fc.array(pattern, { maxLength: 4 }),
        fc.option(fc.array(pattern, { maxLength: 4 })),
        fc.integer({ min: 1, max: 9 }),
        async (own, narrowed, n) => {
          await setGrants(user, toGrants(own));
          const token = await makeAccessToken(user, narrowed === null ? {} : { grants: toGrants(narrowed) });
          const expected = matching(own).filter((name) => narrowed === null || matching(narrowed).includes(name));
          const as = registry.as(token.authorization);
          if (own.length === 0 || narrowed?.length === 0) expect((await as.listRepositories()).status).toBe(403);
          else expectPages(await list(as, n), expected, n);
        },
      ),
      { numRuns: 40 },
    );
  });
});
