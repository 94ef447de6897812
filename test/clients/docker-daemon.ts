import { join } from "node:path";
import { cleanEnvironment } from "./client-test.ts";
import { startDaemon } from "./command.ts";
import type { Daemon } from "./command.ts";
import { findProgram } from "./requirement.ts";

/** A daemon of docker's with its store in a folder, and the `--host` by which the client finds it. */
export async function startDockerDaemon(folder: string): Promise<{ readonly daemon: Daemon; readonly host: string }> {
  const at = (name: string) => join(folder, name);
  const host = `unix://${at("docker.sock")}`;
  const options = {
    host,
    "data-root": at("data"),
    "exec-root": at("exec"),
    pidfile: at("docker.pid"),
    // Nothing of the machine is touched: no file system of the kernel, no bridge, no firewall rule.
    "storage-driver": "vfs",
    bridge: "none",
    iptables: "false",
    ip6tables: "false",
  };
  const daemon = await startDaemon(
    (await findProgram("dockerd")) ?? "dockerd",
    Object.entries(options).map(([name, value]) => `--${name}=${value}`),
    { env: cleanEnvironment(folder), ready: /API listen on/ },
  );
  return { daemon, host };
}
