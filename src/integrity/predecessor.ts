import { z } from "zod";
import { exportListsPrefix, newExportName } from "../blobs/keys.ts";
import { rebuildValue, writeValue } from "./values.ts";

/**
 * The index of before this database: copies of it lie in R2 and are older than the database itself. It was lost, or the
 * bucket was in use before; until somebody says which, those copies may be all that is left of it.
 */

/** Why no copy is made, and what whoever is told of it can do. */
export const predecessorReason =
  "R2 has copies that are older than this database. If that index was lost: moorage rebuild. If this one begins anew: moorage export create --force, after which they go in their turn";

const abandonedValue = "predecessor-abandoned";

export interface Birth {
  /** ms since 1970, when this database was made */
  readonly bornMs: number;
  /** A rebuild has ended in this database, or somebody has said that it begins anew. */
  readonly isSettled: boolean;
}

export function selectBirth(db: D1Database): D1PreparedStatement {
  return db
    .prepare(
      `SELECT coalesce((SELECT CAST(value AS INTEGER) FROM registry_values WHERE name = 'created-at'), 0) AS bornMs,
         EXISTS (SELECT 1 FROM registry_values WHERE name = ?1 AND value->>'endedMs' IS NOT NULL)
           OR EXISTS (SELECT 1 FROM registry_values WHERE name = ?2) AS isSettled`,
    )
    .bind(rebuildValue, abandonedValue);
}

const birthSchema = z.tuple([z.object({ bornMs: z.number(), isSettled: z.number() })]);

/** Of what `selectBirth` found. */
export function birthOf(result: D1Result | undefined): Birth {
  const [{ bornMs, isSettled }] = birthSchema.parse(result?.results);
  return { bornMs, isSettled: isSettled === 1 };
}

/** Whether a copy was begun before this database was made. */
export function isOlder(name: string, { bornMs }: Birth): boolean {
  return name < newExportName(bornMs);
}

/** Whether nobody has yet said what becomes of copies that are older. R2: 1; none where it is settled. */
export async function hasPredecessor(bucket: R2Bucket, birth: Birth): Promise<boolean> {
  if (birth.isSettled) return false;
  const { objects } = await bucket.list({ prefix: exportListsPrefix, limit: 1 });
  return objects.some(({ key }) => isOlder(key.slice(exportListsPrefix.length), birth));
}

/** Its copies are as any others from now on: they go when there are newer ones. */
export function abandonPredecessor(db: D1Database, nowMs: number): D1PreparedStatement {
  return writeValue(db, abandonedValue, String(nowMs));
}
