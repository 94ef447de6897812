/**
 * From where a query of a pull reads. `primary`: what was written before is seen. `nearest`: any replica, which may be
 * behind. `bounded`: any replica that has all that was written until some seconds ago.
 */
export interface ReadPlan {
  readonly from: "primary" | "nearest" | "bounded";
  /** What is not found is looked for once more, in the primary: it may have been written a moment ago. */
  readonly askAgain: boolean;
}

export interface Reading {
  /**
   * `digest`: what is found there never changes. `name`: a tag or a list, of which a replica may have an older state
   * that nobody can tell from the newest.
   */
  readonly by: "digest" | "name";
  /** Only the primary will do: the caller may push to the repository, and docker asks with HEAD right after its PUT. */
  readonly isPrimary: boolean;
  /** TAG_STALENESS_SECONDS */
  readonly tagStalenessSeconds: number;
}

/** Which copy of the database a pull asks; developers.cloudflare.com/d1/best-practices/read-replication. */
export function readPlan({ by, isPrimary, tagStalenessSeconds }: Reading): ReadPlan {
  if (isPrimary) return primary;
  if (by === "digest") return { from: "nearest", askAgain: true };
  return tagStalenessSeconds === 0 ? primary : { from: "bounded", askAgain: true };
}

const primary: ReadPlan = { from: "primary", askAgain: false };
