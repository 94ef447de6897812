/** The folder that `--state` names. */
import { existsSync, mkdirSync, statSync } from "node:fs";
import path from "node:path";
import { UsageError } from "./options.ts";

/**
 * Makes the folder and those above it. Not with `recursive`: where a folder is there but takes no new one, as /proc,
 * Node would try for ever.
 *
 * @throws UsageError, or the system's error, which `stateRefusal` explains
 */
export function makeStateFolder(folder: string): void {
  if (isFolder(folder)) return;
  const parent = path.dirname(folder);
  if (parent !== folder) {
    makeStateFolder(parent);
  }
  try {
    mkdirSync(folder);
  } catch (error) {
    if (!isSystemError(error, "EEXIST")) throw error;
    // Another start may have made it meanwhile.
    if (isFolder(folder)) return;
    throw new UsageError(`${folder} is ${existsSync(folder) ? "not a folder" : "a link that leads nowhere"}`);
  }
}

/** What went wrong in the state folder as something that the user can put right; what is not the system's word stays. */
export function stateRefusal(stateDir: string, error: unknown): unknown {
  return isSystemError(error)
    ? new UsageError(`the state can't be kept in ${stateDir}: ${error.message}`, { cause: error })
    : error;
}

function isFolder(name: string): boolean {
  return statSync(name, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** Whether it is the error of a system call, of this code if one is given; its message has code, reason and path. */
export function isSystemError(error: unknown, code?: string): error is Error {
  return error instanceof Error && "syscall" in error && "code" in error && (code === undefined || error.code === code);
}
