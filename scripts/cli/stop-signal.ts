/** A terminal sends its signal to launch.js too, as to npm, and each passes on what it gets. */
const SAME_SIGNAL_MS = 1000;

/**
 * Calls `stop` once this process is told to end. What comes within a second is the same signal, heard once more; a later
 * one ends the process as it does by itself.
 * @returns what takes the signals off again
 */
export function onStopSignal(signals: readonly NodeJS.Signals[], stop: () => void): () => void {
  let isStopping = false;
  const forget = (): void => {
    for (const signal of signals) process.off(signal, listener);
  };
  const listener = (): void => {
    if (isStopping) return;
    isStopping = true;
    setTimeout(forget, SAME_SIGNAL_MS).unref();
    stop();
  };
  for (const signal of signals) process.on(signal, listener);
  return forget;
}
