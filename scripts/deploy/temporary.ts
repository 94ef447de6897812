/** What is there for the time of a piece of work, and not a moment longer. */

/**
 * Also where the work fails, and where the process is ended by a signal; only one that can't be caught leaves it.
 * @param remove may be called more than once
 */
export async function removedAfter<T>(remove: () => void, work: () => Promise<T>): Promise<T> {
  process.on("exit", remove);
  for (const signal of signals) process.on(signal, stop);
  try {
    return await work();
  } finally {
    remove();
    process.off("exit", remove);
    for (const signal of signals) process.off(signal, stop);
  }
}

/** Without a handler they end the process on the spot, and nothing is removed; npm may send one twice. */
const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

function stop(): void {
  process.exit(1);
}
