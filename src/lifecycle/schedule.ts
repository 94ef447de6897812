import { configOf } from "../config.ts";
import { collect } from "./collect.ts";

/** Every cron trigger of wrangler.toml runs this: a pass of the collector, once an hour with a sweep of R2. */
export async function runSchedule(controller: ScheduledController, env: Env): Promise<void> {
  const { AUDIT_RETENTION_DAYS, GC_GRACE_SECONDS, UPLOAD_TTL_SECONDS } = configOf(env);
  await collect(env, {
    graceSeconds: GC_GRACE_SECONDS,
    uploadTtlSeconds: UPLOAD_TTL_SECONDS,
    auditRetentionSeconds: AUDIT_RETENTION_DAYS * 86_400,
    nowMs: Date.now(),
    sweep: new Date(controller.scheduledTime).getUTCMinutes() === 0,
  });
}
