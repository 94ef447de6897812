import { configOf } from "./config.ts";
import type { RepositoryName } from "./oci/repository.ts";
import { type Reading, type ReadPlan, readPlan } from "./read-plan.ts";

/** What a query is asked of: the database itself, or a session of it. */
export type Queryable = Pick<D1Database, "prepare">;

/**
 * The database that has the rows of a repository: the one place where it is chosen. There is one for all today;
 * migrations/README.md says how several would share the repositories.
 */
export function databaseFor(env: Pick<Env, "DB">, _repository: RepositoryName): D1Database {
  return env.DB;
}

/** A moment until which a session that begins with the bookmark sees all that was written. */
interface Moment {
  readonly bookmark: string;
  /** ms since 1970 */
  readonly atMs: number;
}

const moments = new WeakMap<D1Database, Moment>();

/**
 * Asks for what a pull needs, through the Sessions API where a replica may answer; without it a query goes to the primary.
 * D1: 1; 2 where a replica finds nothing, and the primary is asked.
 * @param reading by what it is asked for, and whether only the primary will do
 */
export async function read<T>(
  env: Env,
  repository: RepositoryName,
  reading: Pick<Reading, "by" | "isPrimary">,
  ask: (queryable: Queryable) => Promise<T | null>,
): Promise<T | null> {
  const db = databaseFor(env, repository);
  const { TAG_STALENESS_SECONDS: tagStalenessSeconds } = configOf(env);
  const plan = readPlan({ ...reading, tagStalenessSeconds });
  const found = await readBy(plan, db, tagStalenessSeconds, ask);
  return found === null && plan.askAgain ? ask(db) : found;
}

async function readBy<T>(
  plan: ReadPlan,
  db: D1Database,
  staleSeconds: number,
  ask: (queryable: Queryable) => Promise<T | null>,
): Promise<T | null> {
  switch (plan.from) {
    case "primary":
      return ask(db);
    case "nearest":
      return ask(db.withSession("first-unconstrained"));
    case "bounded":
      return readBounded(db, staleSeconds, ask);
    default:
      return plan.from satisfies never;
  }
}

/** D1 knows no bound in seconds; a bookmark of so many seconds ago is one. */
async function readBounded<T>(
  db: D1Database,
  staleSeconds: number,
  ask: (queryable: Queryable) => Promise<T | null>,
): Promise<T | null> {
  const nowMs = Date.now();
  const moment = moments.get(db);
  if (moment !== undefined && nowMs - moment.atMs < staleSeconds * 1000) return ask(db.withSession(moment.bookmark));
  const session = db.withSession("first-primary");
  const found = await ask(session);
  const bookmark = session.getBookmark();
  if (bookmark !== null) moments.set(db, { bookmark, atMs: nowMs });
  return found;
}
