/** Fires the cron triggers of wrangler.toml: Miniflare keeps them, but never fires one. */
import { Cron } from "croner";

export interface Crons {
  /** Fires nothing more; a run that has begun goes on. */
  stop(): void;
}

/**
 * @param patterns as Cloudflare takes them: five fields in UTC, the week's days numbered 1 (Sunday) to 7
 * @param fire runs the Worker's `scheduled` handler; its failure is reported and the next run comes as usual
 */
export function startCrons(
  patterns: readonly string[],
  fire: (cron: string, scheduledTime: Date) => Promise<void>,
  report: (message: string) => void,
): Crons {
  const jobs = patterns.map(
    (cron) =>
      new Cron(
        cron,
        {
          timezone: "UTC",
          alternativeWeekdays: true,
          // A run that takes longer than the interval must not meet a second one of itself.
          protect: true,
          catch: (error) => {
            report(`the cron "${cron}" failed: ${error instanceof Error ? error.message : String(error)}`);
          },
        },
        async (job: Cron) => fire(cron, job.currentRun() ?? new Date()),
      ),
  );
  return {
    stop() {
      for (const job of jobs) {
        job.stop();
      }
    },
  };
}
