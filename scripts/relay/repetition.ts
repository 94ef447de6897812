/** Requests that ask for nothing that twice is more than once. */
import { Broken, Silent } from "./upstream.ts";

/** How often one is made that has no answer. */
const TRIES = 3;
const WAIT_MS = 200;

/**
 * @param isOver whether it can't be made again all the same
 * @throws what the last one throws; the signal's reason
 */
export async function repeatBroken<T>(
  ask: () => Promise<T>,
  signal: AbortSignal,
  isOver: () => boolean = () => false,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await ask();
    } catch (error) {
      // Who has been silent for so long has had its time.
      if (!(error instanceof Broken) || error instanceof Silent || tries === TRIES || isOver()) throw error;
    }
    await new Promise((resolve) => {
      setTimeout(resolve, WAIT_MS * tries);
    });
    signal.throwIfAborted();
  }
}
