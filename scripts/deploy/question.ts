/** A question to whoever sits at the terminal, whose answer is not shown. */
import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";

/** null where there is nobody to ask. */
export type Ask = (question: string) => Promise<string>;

export interface Terminal {
  readonly input: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  readonly output: NodeJS.WritableStream & { readonly isTTY?: boolean };
}

/** Asks, where both ends are a terminal and no CI system pretends to be one; null elsewhere. */
export function askOf({ input, output }: Terminal, environment: NodeJS.ProcessEnv): Ask | null {
  const isCi = ![undefined, "", "false", "0"].includes(environment["CI"]);
  return input.isTTY === true && output.isTTY === true && !isCi
    ? (question) => askHidden(question, { input, output })
    : null;
}

/** @throws Error where the input ends, as by Ctrl-D, or is broken off by Ctrl-C */
export async function askHidden(question: string, { input, output }: Terminal): Promise<string> {
  // readline turns the terminal's own echo off, and writes what is typed to nowhere.
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input, output: nowhere, terminal: true });
  // Not before: who answers at once would see the answer.
  output.write(question);
  const ended = new AbortController();
  lines.once("close", () => ended.abort());
  lines.once("SIGINT", () => ended.abort());
  try {
    return await lines.question("", { signal: ended.signal });
  } catch (error) {
    throw ended.signal.aborted ? new Error("it was broken off at the question", { cause: error }) : error;
  } finally {
    lines.close();
    output.write("\n");
  }
}
