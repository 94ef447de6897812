import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

/** What Linux knows of the workerd that a script has started; null on systems that have no /proc. */

/** The most memory that it ever held, in MiB: VmHWM of proc_pid_status(5). */
export function peakMemoryMiB(parentPid: number): number | null {
  const workerd = findWorkerd(parentPid);
  if (workerd === null) return null;
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${String(workerd)}/status`, "utf8"))?.[1];
  return kibibytes === undefined ? null : Number(kibibytes) / 1024;
}

/** The memory that it holds now, in MiB: VmRSS of proc_pid_status(5). */
export function residentMiB(parentPid: number): number | null {
  const workerd = findWorkerd(parentPid);
  if (workerd === null) return null;
  const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${String(workerd)}/status`, "utf8"))?.[1];
  return kibibytes === undefined ? null : Number(kibibytes) / 1024;
}

const CLOCK_TICKS_PER_SECOND = 100;

/** Processor time that it has used so far, in ms: utime and stime of proc_pid_stat(5), which count in steps of 10 ms. */
export function cpuMs(parentPid: number): number | null {
  const workerd = findWorkerd(parentPid);
  if (workerd === null) return null;
  const fields = statFields(workerd);
  return ((Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_PER_SECOND) * 1000;
}

function findWorkerd(parentPid: number): number | null {
  try {
    return (
      readdirSync("/proc")
        .filter((name) => /^\d+$/.test(name))
        .map(Number)
        .find((pid) => isWorkerdOf(pid, parentPid)) ?? null
    );
  } catch {
    return null;
  }
}

function isWorkerdOf(pid: number, parentPid: number): boolean {
  try {
    const parent = statFields(pid)[1];
    const [program = ""] = readFileSync(`/proc/${String(pid)}/cmdline`, "utf8").split("\0");
    return Number(parent) === parentPid && path.basename(program).startsWith("workerd");
  } catch {
    // It ended while it was looked at.
    return false;
  }
}

/** From the third field on: the second, the program's name in brackets, may hold anything. */
function statFields(pid: number): readonly string[] {
  const stat = readFileSync(`/proc/${String(pid)}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}
