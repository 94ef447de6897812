/** A terminal sends its signal to launch.js too, as to npm, and each passes on what it gets. */
const SAME_SIGNAL_MS = 1000;

/**
 * Calls `stop` once this process is told to end. What comes within a second is the same signal, heard once more; a later
 * one ends the process as it does by itself.
 */
export function onStopSignal(signals: readonly NodeJS.Signals[], stop: () => void): void {
  let isStopping = false;
  const listener = (): void => {
    if (isStopping) return;
    isStopping = true;
    setTimeout(() => {
      for (const signal of signals) process.off(signal, listener);
    }, SAME_SIGNAL_MS).unref();
    // A Node that has nothing left to do closes its listeners before it ends, and what is heard in between kills it: it
    // would end with 130 after a stop in order. process.exit leaves them open.
    process.once("beforeExit", () => process.exit());
    stop();
  };
  for (const signal of signals) process.on(signal, listener);
}
