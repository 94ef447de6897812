import { configOf } from "../config.ts";
import { runIntegrityJobs } from "../integrity/jobs.ts";
import { COUNT_HOUR } from "../limits.ts";
import { countRegistry } from "../metrics/size.ts";
import { printError } from "../trace/log.ts";
import { collect } from "./collect.ts";

/**
 * Every cron trigger of wrangler.toml runs this: a pass of the collector, once an hour with a sweep of R2, once a day with a count of what there is; then what is
 * done for the integrity of what is kept. One that fails does not keep the other from its turn.
 */
export async function runSchedule(controller: ScheduledController, env: Env): Promise<void> {
  const { AUDIT_RETENTION_DAYS, GC_GRACE_SECONDS, UPLOAD_TTL_SECONDS } = configOf(env);
  const at = new Date(controller.scheduledTime);
  const minute = at.getUTCMinutes();
  try {
    await collect(env, {
      graceSeconds: GC_GRACE_SECONDS,
      uploadTtlSeconds: UPLOAD_TTL_SECONDS,
      auditRetentionSeconds: AUDIT_RETENTION_DAYS * 86_400,
      nowMs: Date.now(),
      sweep: minute === 0,
    });
    if (minute === 0 && at.getUTCHours() === COUNT_HOUR) await countRegistry(env.DB, Date.now());
  } finally {
    await runIntegrityJobs(env, Date.now(), minute, printError);
  }
}
