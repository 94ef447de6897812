import { configOf } from "../config.ts";
import { PULLS_BATCH_MAX, PULLS_BATCH_SECONDS } from "../limits.ts";
import type { RepositoryName } from "../oci/repository.ts";
import { matchesAnyPattern } from "../oci/repository-pattern.ts";
import type { Requester } from "../requester.ts";
import { insertPulls, type PullRow } from "./store.ts";

/** What was pulled: a manifest, or a blob of which a request asked for bytes. */
export interface Pull {
  readonly kind: "manifest" | "blob";
  readonly repository: RepositoryName;
  /** the tag, where it was named by one */
  readonly reference: string | null;
  readonly digest: string;
  /** bytes of the whole content */
  readonly size: number;
  readonly userAgent: string;
}

/** Pulls of this isolate that no batch has taken yet. */
let waiting: PullRow[] = [];

/**
 * Tells Analytics Engine of a pull, which costs no query and keeps nobody waiting; and the audit, for manifests of the
 * repositories that AUDIT_PULLS names: some at a time, a few seconds later.
 * D1: 0; 1 for the request with which a batch begins, after its answer.
 */
export function notePull(env: Env, context: Pick<ExecutionContext, "waitUntil">, by: Requester, pull: Pull): void {
  env.PULLS.writeDataPoint({
    // At most 96 bytes; what is sampled is sampled by it.
    indexes: [pull.repository.slice(0, 96)],
    blobs: [
      pull.kind,
      pull.repository,
      pull.reference,
      pull.digest,
      by.principal.name,
      by.principal.tokenId,
      by.address,
      pull.userAgent.slice(0, 256),
    ],
    doubles: [pull.size],
  });
  if (pull.kind === "blob" || !matchesAnyPattern(pull.repository, configOf(env).AUDIT_PULLS)) return;
  waiting.push({ ...pull, by, nowMs: Date.now() });
  if (waiting.length >= PULLS_BATCH_MAX) context.waitUntil(flush(env.DB));
  else if (waiting.length === 1)
    context.waitUntil(scheduler.wait(PULLS_BATCH_SECONDS * 1000).then(() => flush(env.DB)));
}

async function flush(db: D1Database): Promise<void> {
  const batch = waiting;
  waiting = [];
  if (batch.length > 0) await insertPulls(db, batch).run();
}
