import { z } from "zod";

/** Where a rebuild of the index stands, or how the last one ended. */
export const rebuildValue = "rebuild";

/** A text that the registry keeps for itself: where a job stands that takes many runs. */
export function selectValue(db: D1Database, name: string): D1PreparedStatement {
  return db.prepare("SELECT value FROM registry_values WHERE name = ?1").bind(name);
}

const valueSchema = z.tuple([z.object({ value: z.string() })], z.unknown());

/** @returns null where `selectValue` found none */
export function valueOf(result: D1Result | undefined): string | null {
  const rows = valueSchema.safeParse(result?.results);
  return rows.success ? rows.data[0].value : null;
}

/** Whatever it was before. */
export function writeValue(db: D1Database, name: string, value: string): D1PreparedStatement {
  return db
    .prepare(
      "INSERT INTO registry_values (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind(name, value);
}

/**
 * Writes a value where it is still the one that was read, so that of two who read the same one goes on.
 * @param before null: there was none
 */
export function replaceValue(db: D1Database, name: string, before: string | null, after: string): D1PreparedStatement {
  return before === null
    ? db
        .prepare("INSERT INTO registry_values (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING")
        .bind(name, after)
    : db.prepare("UPDATE registry_values SET value = ?3 WHERE name = ?1 AND value = ?2").bind(name, before, after);
}
