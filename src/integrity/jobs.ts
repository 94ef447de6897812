import { EXPORT_MINUTE, SCRUB_QUARANTINED_MAX } from "../limits.ts";
import { exportStep, exportValue, isExportDue, parseExportState } from "./export.ts";
import { birthOf, hasPredecessor, predecessorReason, selectBirth } from "./predecessor.ts";
import { scrub, scrubValue } from "./scrub.ts";
import { countOf, findingsOf, selectFindingsAfter, selectQuarantinedCount } from "./store.ts";
import { selectValue, valueOf, writeValue } from "./values.ts";

const toldValue = "findings-told";

/** Findings that are told in one minute. */
const TOLD_MAX = 100;

/** A line of the log. */
export type Log = (line: Readonly<Record<string, unknown>>) => void;

/**
 * What is done for the integrity of the registry in one minute: findings that nobody told yet go to the log, be they the
 * scrub's or somebody's who verified; the scrub reads on; and once a day the index is copied, step by step.
 * D1: 1 where nothing is due; else as `scrub` and `exportStep` say, and 1 where there are findings. R2: 1 more where a copy
 * is due or none was made yet, once an hour.
 * @param minute of the hour, of the cron trigger
 */
export async function runIntegrityJobs(env: Env, nowMs: number, minute: number, log: Log): Promise<void> {
  const { DB: db } = env;
  const [scrubbing, exporting, born, untold, counted] = await db.batch([
    selectValue(db, scrubValue),
    selectValue(db, exportValue),
    selectBirth(db),
    selectFindingsAfter(db, toldValue, TOLD_MAX),
    selectQuarantinedCount(db, SCRUB_QUARANTINED_MAX),
  ]);
  const findings = findingsOf(untold);
  for (const finding of findings) log({ level: "error", message: "content is not what its digest says", finding });
  const last = findings.at(-1);
  // After the lines: one that is told twice is better than one that is told never.
  if (last !== undefined) await writeValue(db, toldValue, String(last.id)).run();

  try {
    const quarantined = countOf(counted);
    if (quarantined >= SCRUB_QUARANTINED_MAX && minute === EXPORT_MINUTE) {
      log({ level: "error", message: "the scrub has stopped: too much is quarantined", quarantined });
    }
    const scrubbed = await scrub(env, valueOf(scrubbing), quarantined, nowMs);
    for (const key of scrubbed?.unreadable ?? []) {
      log({
        level: "error",
        message: "R2 does not give an object; the scrub passes it over until its next round",
        key,
      });
    }
  } finally {
    const saved = valueOf(exporting);
    const birth = birthOf(born);
    const isDue = minute === EXPORT_MINUTE && isExportDue(parseExportState(saved), birth, nowMs);
    // From the first hour on: who has lost a database should not hear of it a day later.
    const isFirst = minute === EXPORT_MINUTE && saved === null;
    const isHalted = (isDue || isFirst) && (await hasPredecessor(env.BLOBS, birth));
    if (isHalted) {
      log({
        level: "error",
        message: `no copy of the index is made: ${predecessorReason}`,
        databaseMadeAt: new Date(birth.bornMs).toISOString(),
      });
    }
    await exportStep(env, saved, birth, isDue && !isHalted, nowMs);
  }
}
