import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { REFERRERS_AT_ONCE_MAX } from "../../src/limits.ts";
import { image, push } from "../fixtures/artifacts.ts";
import { unknownDigest } from "../fixtures/content.ts";
import { freshAddress, makeRobot } from "../fixtures/principals.ts";
import { registryWith } from "../fixtures/registry.ts";
import { billOperations } from "../support/billed-env.ts";
import type { RegistryClient } from "../support/client.ts";
import { asAdmin } from "../support/credentials.ts";

/**
 * How many rows D1 reads for a pull, and for a page of a list: what it bills, and what takes its time. It depends on what
 * is asked for, not on what else there is. The rows that stand around are written as they are, by SQL.
 */

const run = crypto.randomUUID();
const billing = billOperations(env);
const { env: environment, billed } = billing;
const registry = (authorization: string = asAdmin): RegistryClient =>
  registryWith(environment, freshAddress()).as(authorization);

const catalogue = z.object({ repositories: z.array(z.string()) });
const listed = z.object({ manifests: z.array(z.unknown()) });

const MANY = 3000;
const PAGE = 10;

/** A number for each row that is written. */
const numbers = `WITH RECURSIVE numbers (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM numbers WHERE i < ${String(MANY)})`;

async function rowsOf(answer: Promise<Response>): Promise<number> {
  const response = await answer;
  await response.arrayBuffer();
  expect(response.status).toBe(200);
  return billed.d1RowsRead;
}

/** The rows of one request, by somebody whose credential is known by then. */
async function rowsRead(send: () => Promise<Response>): Promise<number> {
  await rowsOf(send());
  billing.reset();
  return rowsOf(send());
}

/** Two beginnings of names, each with half of the repositories. */
const prefixes = [`rows-${run}/a`, `rows-${run}/b`] as const;
const large = `rows-${run}/large`;
const subject = unknownDigest();

const askForAll = async (): Promise<Response> => registry().repository(large).listReferrers(subject);
const askForType = async (): Promise<Response> =>
  registry().repository(large).listReferrers(subject, { artifactType: "c/d" });

beforeAll(async () => {
  await push(registry().repository(large), image(), "v1");
  const repositories = "INSERT INTO repositories (name, created_at) SELECT iif(i % 2, ?1, ?2) || '/' || (i + 10000), 0";
  const manifests = `INSERT INTO manifests
    (repository_id, digest, media_type, size, subject, artifact_type, put_request, created_at, descriptor, body)`;
  const about = "'application/vnd.oci.image.manifest.v1+json', 2";
  await env.DB.batch([
    env.DB.prepare(`${numbers} ${repositories} FROM numbers`).bind(...prefixes),
    env.DB.prepare(
      `${manifests} SELECT id, 'sha256:' || id, ${about}, NULL, NULL, '', 0, NULL, '{}' FROM repositories
       WHERE name >= ?1 AND name < ?2 || '~'`,
    ).bind(...prefixes),
    env.DB.prepare(
      `${numbers} INSERT INTO tags (repository_id, name, manifest_id, updated_at)
       SELECT repository_id, 't' || (i + 10000), manifests.id, 0 FROM numbers JOIN manifests
       ON repository_id = (SELECT id FROM repositories WHERE name = ?1)`,
    ).bind(large),
    // Each of 10 KB in the list, a few of another type.
    env.DB.prepare(
      `${numbers} ${manifests}
       SELECT (SELECT id FROM repositories WHERE name = ?1), 'sha256:r' || i, ${about}, ?2, iif(i % 1000, 'a/b', 'c/d'), '',
              0, json_object('digest', i, 'filling', hex(zeroblob(5000))), '{}' FROM numbers`,
    ).bind(large, subject),
  ]);
});

describe("a pull", () => {
  it("reads a row of each table that leads to it", async () => {
    const repository = registry().repository(large);
    expect(await rowsRead(async () => repository.getManifest("v1"))).toBeLessThanOrEqual(3);
  });
});

describe("a page", () => {
  it.each([
    ["of tags, the first", { n: PAGE }],
    ["of tags, in the middle", { n: PAGE, last: `t${String(10_000 + MANY / 2)}` }],
  ])("%s, reads a row for each name, and one to see whether there are more", async (_, query) => {
    expect(await rowsRead(async () => registry().repository(large).listTags(query))).toBeLessThanOrEqual(PAGE + 2);
  });

  it.each([
    // Before them there may be those of other files.
    ["the first", prefixes[0]],
    ["one in the middle of those of the first grant", `${prefixes[0]}/${String(10_000 + MANY / 2)}`],
    ["one in the middle of those of the second", `${prefixes[1]}/${String(10_000 + MANY / 2)}`],
  ])("of the catalogue, %s, reads two for each repository, whoever asks", async (_, last) => {
    const { token } = await makeRobot(prefixes.map((prefix) => `${prefix}/*:pull`));
    const answer = await registry(token.authorization).listRepositories({ n: PAGE, last });
    expect(catalogue.parse(await answer.json()).repositories).toHaveLength(PAGE);
    for (const authorization of [asAdmin, token.authorization]) {
      const rows = await rowsRead(async () => registry(authorization).listRepositories({ n: PAGE, last }));
      // And one of each grant's beginning.
      expect(rows).toBeLessThanOrEqual(2 * (PAGE + 1) + prefixes.length + 1);
    }
  });

  it("of referrers of one type reads those of that type", async () => {
    expect(listed.parse(await (await askForType()).json()).manifests).toHaveLength(MANY / 1000);
    // Each is measured, then listed: a row of the index, and one of the table.
    expect(await rowsRead(askForType)).toBeLessThanOrEqual((2 * 2 * MANY) / 1000 + 4);
  });

  it("of referrers that are many reads what is on it, not all that there are", async () => {
    const { manifests } = listed.parse(await (await askForAll()).json());
    expect(manifests.length).toBeLessThan(MANY / 5);
    // Those that are measured first, a row of the index and of the table each; then the page, which is put together too.
    const most = 2 * REFERRERS_AT_ONCE_MAX + 5 * manifests.length;
    expect(await rowsRead(askForAll)).toBeLessThanOrEqual(most);
  });
});
