/** The steps of a deployment, told as they are done; one that fails says what was done before it, and what was not. */
import { UsageError } from "../options.ts";
import { SmokeTestFailure } from "./smoke-test.ts";
import { WranglerFailure } from "./wrangler.ts";

/** The reason is that of a step; the message has the others too. */
export class StepFailure extends Error {
  constructor(step: string, done: readonly string[], left: readonly string[], cause: unknown) {
    const reason = `${step}: ${reasonOf(cause)}`;
    super(
      done.length === 0
        ? `${reason}\nBefore it nothing was changed.`
        : [
            reason,
            `Done before it: ${done.join("; ")}.`,
            `Not done, or not to its end: ${[step, ...left].join("; ")}.`,
            "What is done stays done: npm run deploy, run again, goes on from there.",
          ].join("\n"),
      { cause },
    );
  }
}

/** What is foreseen has its reason in its message; what is a bug has its stack. */
function reasonOf(cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const isForeseen = [UsageError, SmokeTestFailure, WranglerFailure].some((kind) => cause instanceof kind);
  return isForeseen ? cause.message : (cause.stack ?? cause.message);
}

/** How a step ended. */
export interface Outcome<T> {
  /** In a few words. */
  readonly said: string;
  /** Whether it changed something. */
  readonly changed: boolean;
  readonly value: T;
}

export class Progress {
  readonly #left: string[];
  readonly #say: (line: string) => void;
  readonly #done: string[] = [];

  /** @param steps the titles of all of them, in order */
  constructor(steps: readonly string[], say: (line: string) => void) {
    this.#left = [...steps];
    this.#say = say;
  }

  /** @throws StepFailure; UsageError as it is, where nothing was changed yet */
  async step<T>(title: string, work: () => Promise<Outcome<T>>): Promise<T> {
    this.#left.splice(this.#left.indexOf(title), 1);
    try {
      const { said, changed, value } = await work();
      this.#say(`  ${title}: ${said}`);
      if (changed) this.#done.push(`${title} (${said})`);
      return value;
    } catch (error) {
      if (error instanceof UsageError && this.#done.length === 0) throw error;
      throw new StepFailure(title, this.#done, this.#left, error);
    }
  }
}
