/** Other processes of this machine, told apart by pid and start: a pid alone is given again to someone else. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";

export interface ProcessIdentity {
  pid: number;
  /** When it started, in whatever form this system tells it; comparable with the same system's alone. */
  startedAt: string;
}

interface RunningProcess extends ProcessIdentity {
  /** The program's path, as it was started. */
  program: string;
}

/** The process that has this pid now, or null if none has. */
function findProcess(pid: number): RunningProcess | null {
  return existsSync("/proc/self/stat") ? readProc(pid) : askPs(pid);
}

function readProc(pid: number): RunningProcess | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the program's name in brackets and may itself hold spaces and brackets.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state] = fields;
    // proc_pid_stat(5): field 22 is the start in clock ticks since boot; the first two fields are cut off above.
    const startedAt = fields[19];
    const [program] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    // A zombie holds neither port nor file: it has ended.
    return state === "Z" || startedAt === undefined || program === undefined ? null : { pid, startedAt, program };
  } catch {
    return null;
  }
}

/** Where there is no /proc (macOS), ps tells the same; where there is no ps either (Windows), nobody is found. */
function askPs(pid: number): RunningProcess | null {
  try {
    const ask = (field: string) =>
      execFileSync("ps", ["-o", `${field}=`, "-p", String(pid)], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
        // The start is told in words, and in local time: both must be the same for whoever asks next.
        env: { ...process.env, LC_ALL: "C", TZ: "UTC" },
      }).trim();
    return { pid, startedAt: ask("lstart"), program: ask("comm") };
  } catch {
    return null;
  }
}

export function identify(pid: number): ProcessIdentity | null {
  const found = findProcess(pid);
  return found === null ? null : { pid, startedAt: found.startedAt };
}

/** Whether this very process, and not a later one with its pid, is running. */
export function isRunning(identity: ProcessIdentity): boolean {
  return findProcess(identity.pid)?.startedAt === identity.startedAt;
}

/** Whether this very process is running and is a workerd. */
export function isRunningWorkerd(identity: ProcessIdentity): boolean {
  const found = findProcess(identity.pid);
  return found?.startedAt === identity.startedAt && path.basename(found.program).startsWith("workerd");
}

/**
 * Ends a process that is not a child of this one.
 * @param graceMs how long it may take to end in order before it is killed
 * @returns false if it is still running after being killed
 */
export async function endProcess(identity: ProcessIdentity, graceMs: number): Promise<boolean> {
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    if (isRunning(identity)) {
      process.kill(identity.pid, signal);
    }
    // The end of a process that is not one's child comes with no event: it has to be looked for.
    const deadline = Date.now() + graceMs;
    while (isRunning(identity) && Date.now() < deadline) {
      await delay(20);
    }
  }
  return !isRunning(identity);
}
