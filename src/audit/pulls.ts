import { configOf } from "../config.ts";
import { PULLS_BATCH_MAX, PULLS_BATCH_SECONDS } from "../limits.ts";
import type { CacheResult } from "../trace/trace.ts";
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
  /** where it was answered from */
  readonly cache: CacheResult;
}

/** Tells Analytics Engine of a push: of a manifest, or of a blob that was committed. No operation. */
export function notePush(
  env: Env,
  by: Requester,
  push: Pick<Pull, "repository" | "reference" | "digest" | "size"> & { readonly kind: "manifest.push" | "blob.push" },
): void {
  writePoint(env, by, { ...push, userAgent: "", cache: "bypass" });
}

function writePoint(env: Env, by: Requester, point: Omit<Pull, "kind"> & { readonly kind: string }): void {
  env.PULLS.writeDataPoint({
    // At most 96 bytes; what is sampled is sampled by it.
    indexes: [point.repository.slice(0, 96)],
    blobs: [
      point.kind,
      point.repository,
      point.reference,
      point.digest,
      by.principal.name,
      by.principal.tokenId,
      by.address,
      point.userAgent.slice(0, 256),
      point.cache,
    ],
    doubles: [point.size, point.cache === "memory" || point.cache === "cache" ? 1 : 0],
  });
}

/** Pulls of this isolate that no batch has taken yet. */
let waiting: PullRow[] = [];

/**
 * Tells Analytics Engine of a pull, which costs no query and keeps nobody waiting; and the audit, for manifests of the
 * repositories that AUDIT_PULLS names: some at a time, a few seconds later.
 * D1: 0; 1 for the request with which a batch begins, after its answer.
 */
export function notePull(env: Env, context: Pick<ExecutionContext, "waitUntil">, by: Requester, pull: Pull): void {
  writePoint(env, by, pull);
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
