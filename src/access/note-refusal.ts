import { insertAudit } from "../audit/store.ts";
import { REFUSAL_NOTED_SECONDS, REFUSALS_KEPT_MAX, REFUSALS_NOTED_MAX } from "../limits.ts";
import type { RepositoryName } from "../oci/repository.ts";
import { Kept } from "./kept.ts";
import type { Right } from "./policy.ts";
import type { Requester } from "../requester.ts";
import { Tally } from "./tally.ts";

/** What this isolate has noted lately. */
const noted = new Kept<true>(REFUSALS_KEPT_MAX);

/** How many notes of a principal. */
const notes = new Tally(REFUSALS_KEPT_MAX, REFUSAL_NOTED_SECONDS);

/**
 * Notes that a principal asked for what it may not do: once in a while for the same thing, and no more than so many
 * things, or a program that asks again and again would fill the database. The last note says that there may be more.
 * D1: 1 or 0.
 */
export async function noteRefusal(
  db: D1Database,
  by: Requester,
  right: Right,
  repository: RepositoryName | null,
): Promise<void> {
  const nowMs = Date.now();
  const key = JSON.stringify([by.principal.name, by.principal.tokenId, right, repository]);
  if (noted.get(key, nowMs) === true) return;
  if (notes.count(by.principal.name, nowMs) >= REFUSALS_NOTED_MAX) return;
  const isLast = notes.add(by.principal.name, nowMs) === REFUSALS_NOTED_MAX;
  noted.set(key, true, nowMs + REFUSAL_NOTED_SECONDS * 1000);
  const where = repository === null ? {} : { repository };
  const detail = { right, ...(isLast ? { more: "is not noted within this minute" } : {}) };
  await insertAudit(db, by, { action: "access", ...where, outcome: "refused", detail }, nowMs).run();
}
