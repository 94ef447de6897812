import { access, constants } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runCommand } from "./command.ts";

/** Why a client cannot be run here. */
export interface Lack {
  readonly reason: string;
  /** The kernel does not offer what the client needs: no installation helps, so it is no failure anywhere. */
  readonly ofKernel: boolean;
}

/** What a client needs; null where it is there. */
export type Requirement = () => Promise<Lack | null>;

/** Where scripts/install-clients.sh puts what it builds. */
export const clientsFolder = process.env["MOORAGE_CLIENTS_DIR"] ?? join(homedir(), ".cache/moorage-clients/bin");

/** The name of the program of test/clients/libraries. */
export const librariesProgram = "oci-libraries";
const librariesFolder = fileURLToPath(new URL("libraries", import.meta.url));

/** Whether a client that is not installed is a failure: where the suite is a gate, a skip would hide a broken promise. */
export function everyClientIsRequired(): boolean {
  return [process.env["CI"], process.env["MOORAGE_REQUIRE_CLIENTS"]].some((value) => value === "true" || value === "1");
}

/** The path of a program, in the clients' folder or else on the PATH (and where Debian keeps daemons). */
export async function findProgram(name: string): Promise<string | null> {
  const folders = [clientsFolder, ...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  for (const folder of folders) {
    const path = join(folder, name);
    if (await isExecutable(path)) return path;
  }
  return null;
}

export function program(name: string): Requirement {
  return async () =>
    (await findProgram(name)) === null ? { reason: `${name} is not installed`, ofKernel: false } : null;
}

/**
 * The program of test/clients/libraries. Where Go is installed it is built anew, so that it is never older than its
 * source: that takes a second when nothing has changed.
 */
export async function libraries(): Promise<Lack | null> {
  built ??= buildLibraries();
  return built;
}

let built: Promise<Lack | null> | undefined;

async function buildLibraries(): Promise<Lack | null> {
  if ((await findProgram("go")) === null) return program(librariesProgram)();
  try {
    const args = ["build", "-trimpath", "-o", join(clientsFolder, librariesProgram), "."];
    await runCommand("go", args, { cwd: librariesFolder, env: { ...process.env, CGO_ENABLED: "0" } });
    return null;
  } catch (error) {
    return { reason: `${librariesProgram} can't be built: ${String(error)}`, ofKernel: false };
  }
}

export async function root(): Promise<Lack | null> {
  return process.getuid?.() === 0 ? null : { reason: "it needs root", ofKernel: false };
}

/** Unpacking an image needs a mount namespace. */
export async function mountNamespace(): Promise<Lack | null> {
  return possible("unshare", ["--mount", "true"], "the kernel allows no mount namespace here");
}

/** Pulling parts of layers (zstd:chunked) is offered by the overlay storage driver alone. */
export async function overlayFilesystem(): Promise<Lack | null> {
  const script =
    "d=$(mktemp -d) && mkdir $d/l $d/u $d/w $d/m && mount -t overlay overlay -o lowerdir=$d/l,upperdir=$d/u,workdir=$d/w $d/m";
  return possible("unshare", ["--mount", "sh", "-c", script], "the kernel allows no overlay mount here");
}

async function possible(command: string, args: readonly string[], reason: string): Promise<Lack | null> {
  try {
    await runCommand(command, args);
    return null;
  } catch {
    return { reason, ofKernel: true };
  }
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
