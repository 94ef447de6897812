import type { Requester } from "../requester.ts";
import { beginning, checkContent, type Progress } from "./check.ts";
import type { Content, Finding } from "./finding.ts";
import { quarantine } from "./quarantine.ts";

/** What one run may read. */
export interface Budget {
  readonly bytes: number;
  readonly objects: number;
  /** ms since 1970, from when on nothing new is begun */
  readonly untilMs: number;
  /** that may be made; left out: any number */
  readonly findings?: number;
}

/** What came of a run. */
export interface Slice {
  /** read to their end */
  readonly objects: number;
  readonly bytes: number;
  readonly findings: readonly Finding[];
  /** the last that was read to its end, or that could not be read */
  readonly last: Content | null;
  /** of the one after it, where it was begun */
  readonly progress: Progress | null;
  /** whether all that was given was read */
  readonly ended: boolean;
  /** what R2 threw: it is where the run stopped */
  readonly failure: unknown;
}

/**
 * Reads content in its order, as far as the budget goes, and quarantines what is bad. A blob that would fit a whole
 * budget is not begun in the rest of one: it is read in one go then, by the platform's own hash.
 * R2: 1 an object; D1: none but for what is bad, 2 for each.
 * @param progress of the first, where a run before began it
 */
export async function checkSlice(
  env: Pick<Env, "DB" | "BLOBS">,
  contents: readonly Content[],
  progress: Progress | null,
  budget: Budget,
  by: Requester,
): Promise<Slice> {
  const findings: Finding[] = [];
  let [objects, bytes] = [0, 0];
  let last: Content | null = null;
  const { findings: mayFind = Number.POSITIVE_INFINITY } = budget;
  const stopped = (at: Progress | null, failure: unknown = null): Slice => ({
    objects,
    bytes,
    findings,
    last,
    progress: at,
    ended: false,
    failure,
  });
  for (const content of contents) {
    let at = progress?.id === content.id ? progress : beginning(content.id);
    for (;;) {
      const leftBytes = budget.bytes - bytes;
      const unread = content.size - at.offset;
      const waits = bytes > 0 && unread > leftBytes && unread <= budget.bytes;
      const isOver =
        leftBytes <= 0 || objects >= budget.objects || Date.now() >= budget.untilMs || findings.length >= mayFind;
      if (waits || isOver) return stopped(at.offset > 0 || at.doubted ? at : null);
      let checked;
      try {
        checked = await checkContent(env.BLOBS, content, at, leftBytes);
      } catch (error) {
        return stopped({ ...at, failures: at.failures + 1 }, error ?? "failed");
      }
      bytes += checked.bytes;
      const { outcome } = checked;
      if (outcome.kind === "unfinished") {
        at = outcome.progress;
        continue;
      }
      if (outcome.kind === "bad") {
        const finding = await quarantine(env.DB, content, outcome, by);
        if (finding !== null) findings.push(finding);
      }
      break;
    }
    objects += 1;
    last = content;
  }
  return { objects, bytes, findings, last, progress: null, ended: true, failure: null };
}
