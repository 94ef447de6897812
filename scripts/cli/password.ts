/** Passwords come from files and from standard input: an argument is in the list of processes, for all to see. */
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { parsePath, UsageError } from "../options.ts";
import { isSystemError } from "../state-folder.ts";

/**
 * The one line that is in the file.
 * @param file `-` is standard input
 * @throws UsageError
 */
export async function readPassword(option: string, file: string): Promise<string> {
  const password = (await readSource(option, file)).replace(/\r?\n$/, "");
  if (password === "") throw new UsageError(`--${option}: the password is empty`);
  if (/[\r\n]/.test(password)) throw new UsageError(`--${option}: a password is one line, and there are more`);
  return password;
}

async function readSource(option: string, file: string): Promise<string> {
  if (file === "-") {
    // A terminal would show what is typed.
    if (process.stdin.isTTY) throw new UsageError(`--${option} -: standard input is a terminal; pipe the password in`);
    return text(process.stdin);
  }
  try {
    return await readFile(parsePath(option, file), "utf8");
  } catch (error) {
    throw isSystemError(error) ? new UsageError(`--${option}: ${error.message}`, { cause: error }) : error;
  }
}
