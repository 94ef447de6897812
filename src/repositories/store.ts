import { z } from "zod";
import { REPOSITORIES_PAGE_MAX } from "../limits.ts";
import type { RepositoryName } from "../oci/repository.ts";

/** Which repositories a list is of. */
export interface ListedRepositories {
  /** what their names may begin with, sorted, none the beginning of another: so little else as may be is read */
  readonly prefixes: readonly string[];
  readonly includes: (repository: RepositoryName) => boolean;
}

/**
 * Names after `last` of the repositories that hold a manifest and that the list includes, in byte order. A page is full
 * unless there are no more: what it left out would else show in where it ends.
 * D1: 1, and 1 more for every REPOSITORIES_PAGE_MAX names with those prefixes that the list does not include.
 */
export async function listRepositories(
  db: D1Database,
  last: string,
  limit: number,
  listed: ListedRepositories,
): Promise<readonly RepositoryName[]> {
  const names: RepositoryName[] = [];
  let after = last;
  let sliceNames = limit;
  while (names.length < limit) {
    const slice = await readSlice(db, after, sliceNames, listed.prefixes);
    names.push(...slice.filter(listed.includes));
    const end = slice.at(-1);
    if (end === undefined || slice.length < sliceNames) break;
    after = end;
    sliceNames = REPOSITORIES_PAGE_MAX;
  }
  return names.slice(0, limit);
}

/** As one JSON array, one value: thousands of rows of one column would cost more to hand out than to find. */
async function readSlice(
  db: D1Database,
  after: string,
  limit: number,
  prefixes: readonly string[],
): Promise<readonly RepositoryName[]> {
  // Every letter of a name comes before ~. CROSS JOIN takes the prefixes as they come, and each one's names come in the
  // order of their index: as the prefixes are sorted and apart, so is the whole. ORDER BY would sort all that there are
  // for each page, and look at every manifest of theirs.
  const row = await db
    .prepare(
      `SELECT json_group_array(name) AS names FROM (
         SELECT name FROM json_each(?3) AS prefix CROSS JOIN repositories
         WHERE name >= max(prefix.value, ?1) AND name < prefix.value || '~' AND name <> ?1
           AND EXISTS (SELECT 1 FROM manifests WHERE manifests.repository_id = repositories.id)
         LIMIT ?2)`,
    )
    .bind(after, limit, JSON.stringify(prefixes))
    .first<{ names: string }>();
  return namesSchema.parse(JSON.parse(row?.names ?? "[]"));
}

const namesSchema = z.array(z.custom<RepositoryName>((name) => typeof name === "string"));
