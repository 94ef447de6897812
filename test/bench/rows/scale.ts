import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { z } from "zod";
import { projectRoot } from "../../../scripts/options.ts";
import { readProject } from "../../../scripts/project.ts";
import {
  defaultCounts,
  manyReferrers,
  manyTags,
  rareType,
  type ScaleCounts,
  smallCounts,
} from "../../../scripts/scale/content.ts";
import { databaseFile, loadScale } from "../../../scripts/scale/load.ts";
import { Client } from "../client.ts";
import { atLeast, compare, type Comparison } from "../figures.ts";
import type { Operation } from "../load.ts";
import { type Contestant, interleave, measureRate } from "../rounds.ts";
import { type Server, startRegistry } from "../servers.ts";
import type { Row, Stage } from "../stage.ts";

export const scaleRow: Row = { id: "scale", title: "lists and pulls of a registry with a million manifests" };

/** Names in a page: as many as both registries have on either side of their middle. */
const TAGS_PAGE = 200;
const CATALOG_PAGE = 40;

/** What is asked of a registry, by the rows that it has. */
interface Places {
  /** of all repositories, taken at random */
  readonly tagged: readonly { readonly repository: string; readonly tag: string }[];
  readonly middleTag: string;
  readonly middleRepository: string;
  readonly subject: string;
  /** id, as a Link of the list has it */
  readonly middleReferrer: number;
}

interface Kind {
  readonly title: string;
  readonly connections: number;
  readonly path: (places: Places, index: number) => string;
  /** the other registry's page that it is compared with, where its own middle has no full one */
  readonly smallPath?: (places: Places, index: number) => string;
}

const referrers = ({ subject }: Places, query = ""): string => `/v2/${manyReferrers}/referrers/${subject}${query}`;

const kinds: readonly Kind[] = [
  {
    title: "manifest by tag, GET",
    connections: 16,
    path: ({ tagged }, index) => {
      const { repository, tag } = tagged[index % tagged.length] ?? { repository: "", tag: "" };
      return `/v2/${repository}/manifests/${tag}`;
    },
  },
  {
    title: "tags, first page",
    connections: 8,
    path: () => `/v2/${manyTags}/tags/list?n=${String(TAGS_PAGE)}`,
  },
  {
    title: "tags, middle page",
    connections: 8,
    path: ({ middleTag }) => `/v2/${manyTags}/tags/list?n=${String(TAGS_PAGE)}&last=${middleTag}`,
  },
  {
    title: "catalogue, first page",
    connections: 8,
    path: () => `/v2/_catalog?n=${String(CATALOG_PAGE)}`,
  },
  {
    title: "catalogue, middle page",
    connections: 8,
    path: ({ middleRepository }) =>
      `/v2/_catalog?n=${String(CATALOG_PAGE)}&last=${encodeURIComponent(middleRepository)}`,
  },
  {
    title: "referrers, first page",
    connections: 2,
    path: (places) => referrers(places),
  },
  {
    title: "referrers, middle page",
    connections: 2,
    path: (places) => referrers(places, `?after=${String(places.middleReferrer)}`),
    smallPath: (places) => referrers(places),
  },
  {
    title: "referrers of a rare type",
    connections: 8,
    path: (places) => referrers(places, `?artifactType=${encodeURIComponent(rareType)}`),
  },
];

/** A large registry beside a small one: what a page costs must not grow with all that is not on it. */
export async function runScale(stage: Stage): Promise<Comparison[]> {
  const { only, scale, quick } = stage.options;
  if (!only.includes(scaleRow.id) && scale === null) {
    console.error("  is left out: it loads a million manifests first, for --only scale, or takes those of --scale DIR");
    return [];
  }
  const folder = await mkdtemp(path.join(tmpdir(), "moorage-bench-scale-"));
  try {
    const small = await loaded(path.join(folder, "small"), smallCounts);
    const large = scale ?? (await loaded(path.join(folder, "large"), quick ? tenth(defaultCounts) : defaultCounts));
    return await measure(stage, { large, small });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function loaded(stateDir: string, counts: ScaleCounts): Promise<string> {
  await loadScale(readProject(path.join(projectRoot, "wrangler.toml"), {}), stateDir, counts, (message) =>
    console.error(`  ${message}`),
  );
  return stateDir;
}

/** Of everything, but for what is large in itself. */
function tenth({ manifests, repositories, tags, ...large }: ScaleCounts): ScaleCounts {
  return { ...large, manifests: manifests / 10, repositories: repositories / 10, tags: tags / 10 };
}

async function measure(
  stage: Stage,
  states: { readonly large: string; readonly small: string },
): Promise<Comparison[]> {
  const places = { large: placesIn(states.large), small: placesIn(states.small) };
  const large = await startRegistry(states.large);
  try {
    const small = await startRegistry(states.small);
    try {
      const comparisons: Comparison[] = [];
      for (const kind of kinds) comparisons.push(await measureKind(stage, kind, { large, small }, places));
      return comparisons;
    } finally {
      await small.stop();
    }
  } finally {
    await large.stop();
  }
}

async function measureKind(
  stage: Stage,
  { title, connections, path: largePath, smallPath = largePath }: Kind,
  servers: { readonly large: Server; readonly small: Server },
  places: { readonly large: Places; readonly small: Places },
): Promise<Comparison> {
  const paths = {
    large: (index: number) => largePath(places.large, index),
    small: (index: number) => smallPath(places.small, index),
  };
  const sizes = {
    large: entriesOf(await bodyOf(servers.large, paths.large(0))),
    small: entriesOf(await bodyOf(servers.small, paths.small(0))),
  };
  // Pages of other sizes take other times.
  if (sizes.large !== sizes.small) {
    throw new Error(`${title}: pages of ${String(sizes.large)} and of ${String(sizes.small)} entries`);
  }
  const contestants = (["large", "small"] as const).map((name): Contestant => ({
    name,
    pid: servers[name].pid,
    measure: async () => measureRate(servers[name].url, get(paths[name]), connections, stage.options.seconds),
  }));
  await interleave(contestants, 1);
  const figures = await interleave(contestants, stage.options.rounds);
  return compare({
    row: scaleRow.id,
    title: `${title}, ${String(sizes.large)} in it`,
    unit: "/s",
    registry: figures.get("large"),
    reference: figures.get("small"),
    referenceName: `${String(smallCounts.manifests)} manifests`,
    bar: atLeast(0.5),
  });
}

const pageSchema = z.object({
  tags: z.array(z.unknown()).optional(),
  repositories: z.array(z.unknown()).optional(),
  manifests: z.array(z.unknown()).optional(),
});

/** How many a page lists; a manifest is one. */
function entriesOf(body: string): number {
  const { tags, repositories, manifests } = pageSchema.parse(JSON.parse(body));
  return (tags ?? repositories ?? manifests ?? [body]).length;
}

function get(pathOf: (index: number) => string): Operation {
  return async (client, index) => {
    await client.request({ method: "GET", path: pathOf(index), headers: { accept: "*/*" }, expect: [200] });
  };
}

async function bodyOf({ url }: Server, target: string): Promise<string> {
  const client = new Client(url);
  try {
    const sent = { method: "GET", path: target, headers: { accept: "*/*" }, expect: [200], keepBody: true };
    return (await client.request(sent)).body.toString("utf8");
  } finally {
    client.close();
  }
}

/** Pulls of the large registry go to that many of its manifests, wherever they lie. */
const TAGGED = 20_000;
const TAGS_OF_EACH = 10;

function placesIn(stateDir: string): Places {
  const database = new DatabaseSync(databaseFile(path.join(stateDir, "v3")), { readOnly: true });
  const one = <T>(schema: z.ZodType<T>, sql: string, ...values: readonly string[]): T =>
    z.object({ value: schema }).parse(database.prepare(sql).get(...values)).value;
  const idOf = `(SELECT id FROM repositories WHERE name = ?1)`;
  try {
    const repositories = one(z.number(), "SELECT max(id) AS value FROM repositories");
    const sample = database.prepare(
      `SELECT name AS repository, (SELECT name FROM tags WHERE repository_id = repositories.id ORDER BY name LIMIT 1 OFFSET ?2) AS tag
       FROM repositories WHERE id = ?1`,
    );
    // Each of some tags of each repository but the first two, which are not like the others.
    const tagged = Array.from({ length: TAGGED }, (_, index) =>
      sample.get(3 + (index % (repositories - 2)), Math.floor(index / (repositories - 2)) % TAGS_OF_EACH),
    );
    return {
      tagged: z.array(z.object({ repository: z.string(), tag: z.string() })).parse(tagged),
      middleTag: one(
        z.string(),
        `SELECT name AS value FROM tags WHERE repository_id = ${idOf} ORDER BY name
         LIMIT 1 OFFSET (SELECT count(*) / 2 FROM tags WHERE repository_id = ${idOf})`,
        manyTags,
      ),
      middleRepository: one(
        z.string(),
        "SELECT name AS value FROM repositories ORDER BY name LIMIT 1 OFFSET (SELECT count(*) / 2 FROM repositories)",
      ),
      subject: one(
        z.string(),
        `SELECT digest AS value FROM manifests WHERE repository_id = ${idOf} AND subject IS NULL`,
        manyReferrers,
      ),
      middleReferrer: one(
        z.number(),
        `SELECT id AS value FROM manifests WHERE repository_id = ${idOf} AND subject IS NOT NULL ORDER BY id
         LIMIT 1 OFFSET (SELECT count(*) / 2 FROM manifests WHERE repository_id = ${idOf})`,
        manyReferrers,
      ),
    };
  } finally {
    database.close();
  }
}
