/**
 * One process for each state folder: two workerds on one state answer 500 to about one write in twelve.
 *
 * `<state>/lock` names the node process that owns the state and every workerd that it has started. The workerds are
 * there because a SIGKILL of node alone leaves them behind, holding port and state: the next start finds them in the
 * dead owner's lock and ends them.
 */
import { channel } from "node:diagnostics_channel";
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { ChildProcess } from "node:child_process";
import path from "node:path";
import { z } from "zod";
import { UsageError } from "./options.ts";
import { endProcess, identify, isRunning, isRunningWorkerd, type ProcessIdentity } from "./processes.ts";
import { isSystemError, makeStateFolder, stateRefusal } from "./state-folder.ts";

const processSchema = z.object({ pid: z.int().positive(), startedAt: z.string() });
const addressSchema = z.object({
  /** `localhost` is both loopback addresses */
  host: z.enum(["localhost", "127.0.0.1"]),
  port: z.int().positive(),
});
const lockSchema = z.object({
  command: z.string(),
  owner: processSchema,
  workerds: z.array(processSchema),
  /** Not there until somebody listens. */
  address: addressSchema.optional(),
});
type LockContent = z.infer<typeof lockSchema>;

/** Where the owner of a state serves it. */
export type ServedAddress = z.infer<typeof addressSchema>;

/** workerd drains its requests on SIGTERM; an orphan has nobody left to answer, so it gets little time. */
const orphanGraceMs = 2000;

export interface Lock {
  /** Says in the lock where the state is served, to who looks for it by `servedAddress`. */
  noteAddress(address: ServedAddress): void;
  /** Ends what is left of this process's workerds and gives the state free. Works at once, also on the way out. */
  release(): void;
}

/**
 * Takes the state for this process, ending the orphans of an owner that was killed. From here on, each workerd that
 * this process starts, whoever starts it, is noted in the lock.
 *
 * @param command what the user ran, for the message that a second one gets
 * @param report told when an orphan is ended
 * @throws UsageError if a running process owns the state, an orphan can't be ended, or nothing can be written there
 */
export async function acquireLock(stateDir: string, command: string, report: (message: string) => void): Promise<Lock> {
  const file = path.join(stateDir, "lock");
  const owner = identify(process.pid) ?? { pid: process.pid, startedAt: "" };
  const content: LockContent = { command, owner, workerds: [] };
  try {
    makeStateFolder(stateDir);
    while (!create(file, content)) {
      await clearStale(file, stateDir, report);
    }
  } catch (error) {
    throw stateRefusal(stateDir, error);
  }
  return holdLock(file, content);
}

/**
 * Where the process that owns the state serves it now; null where none runs, or it does not listen yet.
 * @throws UsageError where the lock can't be read
 */
export function servedAddress(stateDir: string): ServedAddress | null {
  try {
    const content = parseLock(readIfThere(path.join(stateDir, "lock")) ?? "");
    return content !== null && isRunning(content.owner) ? (content.address ?? null) : null;
  } catch (error) {
    throw stateRefusal(stateDir, error);
  }
}

/** Creates the file whole, or not at all if there is one: a link, unlike a write, never shows half of it. */
function create(file: string, content: LockContent): boolean {
  const draft = writeDraft(file, content);
  try {
    linkSync(draft, file);
    return true;
  } catch (error) {
    if (isSystemError(error, "EEXIST")) return false;
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

function writeDraft(file: string, content: LockContent): string {
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, `${JSON.stringify(content, null, "\t")}\n`);
  return draft;
}

/** Returns when the lock is gone, for it belonged to nobody; the caller tries again to create its own. */
async function clearStale(file: string, stateDir: string, report: (message: string) => void): Promise<void> {
  const text = readIfThere(file);
  if (text === null) return;
  const content = parseLock(text);
  if (content !== null) {
    if (isRunning(content.owner)) {
      throw new UsageError(
        `the state in ${stateDir} is in use by process ${content.owner.pid} (${content.command}); end that one, or choose another folder with --state`,
      );
    }
    await endOrphans(content.workerds, stateDir, report);
  }
  // Another start may have cleared the stale lock and made its own since it was read: what is moved away is looked
  // at once more, and given back if it is not what was judged.
  const moved = `${file}.${process.pid}.stale`;
  try {
    renameSync(file, moved);
  } catch (error) {
    if (isSystemError(error, "ENOENT")) return;
    throw error;
  }
  if (readIfThere(moved) === text) {
    rmSync(moved);
  } else {
    renameSync(moved, file);
  }
}

async function endOrphans(
  workerds: readonly ProcessIdentity[],
  stateDir: string,
  report: (message: string) => void,
): Promise<void> {
  for (const orphan of workerds.filter(isRunningWorkerd)) {
    report(`ending workerd ${orphan.pid}, which a killed process left behind on ${stateDir}`);
    if (!(await endProcess(orphan, orphanGraceMs))) {
      throw new UsageError(`workerd ${orphan.pid} holds ${stateDir} and can't be ended`);
    }
  }
}

function readIfThere(file: string): string | null {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if (isSystemError(error, "ENOENT")) return null;
    throw error;
  }
}

/** Null for a file that names nobody, such as the empty one that a power cut may leave. */
function parseLock(text: string): LockContent | null {
  try {
    const parsed = lockSchema.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

function holdLock(file: string, content: LockContent): Lock {
  const spawned = channel("child_process");
  const write = () => renameSync(writeDraft(file, content), file);
  // Miniflare does not tell workerd's pid and starts another when one crashes (or, under wrangler dev, when the
  // source changes); node itself tells of every child. The pid is known once `spawn` is emitted.
  const onChild = (message: unknown) => {
    const child = childOf(message);
    child?.once("spawn", () => {
      const identity = isWorkerd(child) && child.pid !== undefined ? identify(child.pid) : null;
      if (identity === null) return;
      content.workerds.push(identity);
      write();
      child.once("exit", () => {
        content.workerds = content.workerds.filter((other) => other !== identity);
        if (!released) {
          write();
        }
      });
    });
  };
  let released = false;
  const release = () => {
    if (released) return;
    released = true;
    spawned.unsubscribe(onChild);
    process.off("exit", release);
    for (const workerd of content.workerds.filter(isRunningWorkerd)) {
      process.kill(workerd.pid, "SIGKILL");
    }
    rmSync(file, { force: true });
  };
  spawned.subscribe(onChild);
  // A way out that nobody foresaw (an uncaught error) must not leave an orphan either.
  process.on("exit", release);
  const noteAddress = (address: ServedAddress) => {
    content.address = address;
    write();
  };
  return { noteAddress, release };
}

function childOf(message: unknown): ChildProcess | null {
  return typeof message === "object" &&
    message !== null &&
    "process" in message &&
    message.process instanceof ChildProcess
    ? message.process
    : null;
}

function isWorkerd(child: ChildProcess): boolean {
  return path.basename(child.spawnfile).startsWith("workerd");
}
