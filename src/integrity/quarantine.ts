import { insertAudit } from "../audit/store.ts";
import { insertGarbage } from "../blobs/garbage.ts";
import { newKey } from "../blobs/keys.ts";
import { QUARANTINE_EVENTS_MAX } from "../limits.ts";
import type { Requester } from "../requester.ts";
import type { Content, Finding, Problem } from "./finding.ts";
import {
  discardObject,
  findFinding,
  findingOf,
  insertFinding,
  insertQuarantineEvents,
  isHeldBy,
  type NewFinding,
  quarantineBlob,
  releaseFinding,
  selectFinding,
  stillStands,
} from "./store.ts";

/** What is wrong with content. */
export interface Defect {
  readonly problem: Problem;
  readonly found: string | null;
}

/**
 * Bad content answers 404 from now on, so that clients push it again; its object stays as it is. With it go its finding,
 * its events and its audit record: one D1 batch, and a query for what it came to.
 * @returns null where the content does not stand any more: it was pushed again, or deleted, while it was read
 */
export async function quarantine(
  db: D1Database,
  content: Content,
  { problem, found }: Defect,
  by: Requester,
): Promise<Finding | null> {
  const nowMs = Date.now();
  const finding: NewFinding = { content, problem, found, foundBy: by.principal.name };
  const { digest, objectKey, repository, kind, size } = content;
  const entry = {
    action: "content.quarantine",
    ...(repository === null ? {} : { repository }),
    digest,
    outcome: "ok",
    detail: { kind, problem, size, ...(found === null ? {} : { found }), objectKey },
  } as const;
  const results = await db.batch([
    insertQuarantineEvents(db, finding, QUARANTINE_EVENTS_MAX, nowMs),
    insertAudit(db, by, entry, nowMs, stillStands(content)),
    insertFinding(db, finding, nowMs),
    ...(kind === "blob" && objectKey !== null ? [quarantineBlob(db, content.id, objectKey, nowMs)] : []),
  ]);
  const row = results[2]?.results[0];
  if (typeof row !== "object" || row === null || !("id" in row) || typeof row.id !== "number") return null;
  return findFinding(db, row.id);
}

/**
 * Serves content again as it is: it was mended in R2, or somebody wants it so. What reads it next and finds it bad
 * quarantines it again. D1: 2; R2: 1 where it has an object.
 * @returns the finding as it is now; `absent` where it has no object that could be served; `over` where nothing is
 * quarantined for it any more; null where there is none
 */
export async function releaseContent(
  env: Pick<Env, "DB" | "BLOBS">,
  id: number,
  by: Requester,
): Promise<Finding | "absent" | "over" | null> {
  const finding = await findFinding(env.DB, id);
  if (finding === null) return null;
  const { digest, objectKey, repository, kind, state, discardedAt } = finding;
  if (state !== "quarantined") return "over";
  const isThere = objectKey === null || (discardedAt === null && (await env.BLOBS.head(objectKey)) !== null);
  if (!isThere) return "absent";
  const nowMs = Date.now();
  const where = repository === null ? {} : { repository };
  const entry = { action: "content.release", ...where, digest, outcome: "ok", detail: { kind, finding: id } } as const;
  const results = await env.DB.batch([
    insertAudit(env.DB, by, entry, nowMs, isHeldBy(id)),
    ...releaseFinding(env.DB, id, nowMs),
    selectFinding(env.DB, id),
  ]);
  return findingOf(results.at(-1));
}

/**
 * Gives the bad object of a finding to the collector. What is quarantined stays so until it is pushed again. D1: 2.
 * @returns the finding as it is now; `none` where it has no object, or has it no more; null where there is none
 */
export async function discardContent(db: D1Database, id: number, by: Requester): Promise<Finding | "none" | null> {
  const finding = await findFinding(db, id);
  if (finding === null) return null;
  const { digest, objectKey, repository, kind, state, discardedAt } = finding;
  // The object of a manifest is its row's until that is deleted or pushed again.
  const isNamed = kind === "manifest" && state === "quarantined";
  if (objectKey === null || discardedAt !== null || state === "released" || isNamed) return "none";
  const nowMs = Date.now();
  const where = repository === null ? {} : { repository };
  const detail = { kind, finding: id, objectKey };
  const entry = { action: "content.discard", ...where, digest, outcome: "ok", detail } as const;
  const results = await db.batch([
    insertAudit(db, by, entry, nowMs),
    ...discardObject(db, id, newKey("blobs/", nowMs), nowMs),
    insertGarbage(db, [objectKey], nowMs),
    selectFinding(db, id),
  ]);
  return findingOf(results.at(-1));
}
