import { z } from "zod";
import type { RegistrySize } from "./metrics.ts";

const NAME = "registry-size";

const schema = z.object({
  repositories: z.number(),
  manifests: z.number(),
  tags: z.number(),
  blobs: z.number(),
  blobBytes: z.number(),
  countedAtMs: z.number(),
});

/** Counts what there is, for whoever asks later: a row read for each thing, so once a day. D1: 1. */
export async function countRegistry(db: D1Database, nowMs: number): Promise<void> {
  await db
    .prepare(
      `INSERT INTO registry_values (name, value)
       SELECT ?1, json_object(
         'repositories', (SELECT count(*) FROM repositories),
         'manifests', (SELECT count(*) FROM manifests),
         'tags', (SELECT count(*) FROM tags),
         'blobs', (SELECT count(*) FROM blobs),
         'blobBytes', (SELECT coalesce(sum(size), 0) FROM blobs),
         'countedAtMs', ?2)
       WHERE true
       ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
    )
    .bind(NAME, nowMs)
    .run();
}

/** null: it was never counted. D1: 1. */
export async function registrySize(db: D1Database): Promise<RegistrySize | null> {
  const value = await db.prepare("SELECT value FROM registry_values WHERE name = ?1").bind(NAME).first<string>("value");
  return value === null ? null : schema.parse(JSON.parse(value));
}
