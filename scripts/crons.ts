/** Fires the cron triggers of wrangler.toml: Miniflare keeps them, but never fires one. */
import { Cron } from "croner";

export interface Crons {
  /** Fires nothing more; a run that has begun goes on, and nobody is told what becomes of it. */
  stop(): void;
}

/** As Cloudflare reads a pattern: in UTC, the week's days numbered 1 (Sunday) to 7. */
const reading = { timezone: "UTC", alternativeWeekdays: true } as const;

/** Why a pattern would not be fired, or null if it would. */
export function cronRefusal(pattern: string): string | null {
  if (pattern.trim().split(/\s+/).length !== 5) return `"${pattern}" does not have five fields`;
  try {
    return new Cron(pattern, reading).nextRun() === null ? `"${pattern}" never comes` : null;
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/^CronPattern: /, "") : String(error);
    return `"${pattern}": ${reason}`;
  }
}

/**
 * @param patterns such as `cronRefusal` has nothing against
 * @param fire runs the Worker's `scheduled` handler; its failure is reported and the next run comes as usual
 */
export function startCrons(
  patterns: readonly string[],
  fire: (cron: string, scheduledTime: Date) => Promise<void>,
  report: (message: string) => void,
): Crons {
  let isStopped = false;
  const jobs = patterns.map(
    (cron) =>
      new Cron(
        cron,
        {
          ...reading,
          // A run that takes longer than the interval must not meet a second one of itself.
          protect: true,
          catch: (error) => {
            // Of a Worker that is being stopped it can't come to its end.
            if (!isStopped)
              report(`the cron "${cron}" failed: ${error instanceof Error ? error.message : String(error)}`);
          },
        },
        async (job: Cron) => fire(cron, job.currentRun() ?? new Date()),
      ),
  );
  return {
    stop() {
      isStopped = true;
      for (const job of jobs) {
        job.stop();
      }
    },
  };
}
