/** What is measured, each in a fresh process of its own on a free port of loopback. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { projectRoot } from "../../scripts/options.ts";
import { adminPassword } from "../support/credentials.ts";
import { freePort } from "../support/free-port.ts";
import { Client } from "./client.ts";

export interface Server {
  /** base URL without a slash at its end */
  readonly url: string;
  /** of the process that was started; workerd is a child of it */
  readonly pid: number;
  stop(): Promise<void>;
}

const benchFolder = import.meta.dirname;

/** The registry as `npm start` runs it; its URL has the administrator's credentials, which every request sends. */
export async function startRegistry(stateDir: string, vars: Readonly<Record<string, string>> = {}): Promise<Server> {
  const script = path.join(projectRoot, "scripts/start.ts");
  const settings = Object.entries({ ADMIN_PASSWORD: adminPassword, ...vars });
  const args = [
    "--port",
    "0",
    "--state",
    stateDir,
    ...settings.flatMap(([name, value]) => ["--var", `${name}=${value}`]),
  ];
  return asAdministrator(await startProcess(process.execPath, [script, ...args], /ready on (http:\/\/\S+)/));
}

/** The same server, its URL with the administrator's credentials. */
export function asAdministrator(server: Server): Server {
  const url = new URL(server.url);
  url.username = "admin";
  url.password = adminPassword;
  return { ...server, url: url.href.replace(/\/$/, "") };
}

/** The same server, its URL without credentials: nobody asks. */
export function anonymously(server: Server): Server {
  const url = new URL(server.url);
  url.username = "";
  url.password = "";
  return { ...server, url: url.href.replace(/\/$/, "") };
}

/** A Worker of the bench, such as `bare/worker.ts`. */
export async function startWorker(entry: string, stateDir: string): Promise<Server> {
  return serveWorker(path.join(benchFolder, entry), stateDir, []);
}

/** The registry where the data centre keeps nothing, and is not asked; its URL has the administrator's credentials. */
export async function startWithoutCacheApi(stateDir: string, vars: Readonly<Record<string, string>>): Promise<Server> {
  const settings = Object.entries(vars).map(([name, value]) => `${name}=${value}`);
  return asAdministrator(await serveWorker(path.join(benchFolder, "without-cache-api.ts"), stateDir, settings));
}

/** The registry on the runtime's own socket, without what Miniflare puts before it; its URL has the administrator's credentials. */
export async function startDirect(stateDir: string, vars: Readonly<Record<string, string>>): Promise<Server> {
  const settings = Object.entries(vars).map(([name, value]) => `${name}=${value}`);
  return asAdministrator(await serveWorker(path.join(projectRoot, "src/index.ts"), stateDir, ["direct", ...settings]));
}

async function serveWorker(entry: string, stateDir: string, options: readonly string[]): Promise<Server> {
  const script = path.join(benchFolder, "serve-worker.ts");
  return startProcess(process.execPath, [script, entry, stateDir, ...options], /serving (http:\/\/\S+)/);
}

/** `npx moorage relay` to a registry; its URL has the credentials of that one's. */
export async function startRelay(registry: string): Promise<Server> {
  const upstream = new URL(registry);
  const { username, password } = upstream;
  upstream.username = "";
  upstream.password = "";
  const script = path.join(projectRoot, "scripts/moorage.ts");
  const args = [script, "relay", upstream.href, "--port", "0", "--json"];
  const server = await startProcess(process.execPath, args, /"event":"ready","url":"([^"]+)"/);
  const url = new URL(server.url);
  url.username = username;
  url.password = password;
  return { ...server, url: url.href.replace(/\/$/, "") };
}

/** CNCF distribution with its file system storage. */
export async function startDistribution(binary: string, stateDir: string): Promise<Server> {
  const port = await freePort();
  await mkdir(stateDir, { recursive: true });
  const config = path.join(stateDir, "config.yml");
  await writeFile(
    config,
    JSON.stringify({
      version: "0.1",
      log: { level: "error", accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: path.join(stateDir, "blobs") }, delete: { enabled: true } },
      http: { addr: `127.0.0.1:${String(port)}` },
    }),
  );
  // By default it sends traces to a collector, and complains on every request where there is none.
  const env = { ...process.env, OTEL_TRACES_EXPORTER: "none" };
  const child = spawn(binary, ["serve", config], { env, stdio: ["ignore", "inherit", "inherit"] });
  const url = `http://127.0.0.1:${String(port)}`;
  await answers(url, child);
  return { url, pid: pidOf(child), stop: async () => stop(child) };
}

/** zot with its file system storage and nothing else. */
export async function startZot(binary: string, stateDir: string): Promise<Server> {
  const port = await freePort();
  await mkdir(stateDir, { recursive: true });
  const config = path.join(stateDir, "config.json");
  await writeFile(
    config,
    JSON.stringify({
      distSpecVersion: "1.1.1",
      storage: { rootDirectory: path.join(stateDir, "images"), gc: false },
      http: { address: "127.0.0.1", port: String(port) },
      log: { level: "error", output: path.join(stateDir, "log") },
    }),
  );
  const child = spawn(binary, ["serve", config], { stdio: ["ignore", "ignore", "inherit"] });
  const url = `http://127.0.0.1:${String(port)}`;
  await answers(url, child);
  return { url, pid: pidOf(child), stop: async () => stop(child) };
}

async function startProcess(program: string, args: readonly string[], ready: RegExp): Promise<Server> {
  const child = spawn(program, args, { cwd: projectRoot, stdio: ["ignore", "pipe", "inherit"] });
  const url = await new Promise<string>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`${args.join(" ")} ended with ${String(code)} before it was ready`)));
    const lines = createInterface({ input: child.stdout });
    lines.on("line", (line) => {
      const match = ready.exec(line);
      if (match?.[1] === undefined) return;
      lines.close();
      resolve(match[1]);
    });
  });
  // What it logs is thrown away unread: to read a line for each request would slow the load.
  child.stdout.resume();
  // Miniflare listens on IPv4 alone where it chooses the port; the name would be tried in IPv6 first.
  return { url: url.replace("localhost", "127.0.0.1"), pid: pidOf(child), stop: async () => stop(child) };
}

function pidOf(child: ChildProcess): number {
  if (child.pid === undefined) throw new Error(`${child.spawnfile} could not be started`);
  return child.pid;
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  await ended;
}

/** distribution does not say when it listens. */
async function answers(url: string, child: ChildProcess): Promise<void> {
  for (;;) {
    const client = new Client(url);
    try {
      await client.request({ method: "GET", path: "/v2/", expect: [200] });
      return;
    } catch (error) {
      if (child.exitCode !== null) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    } finally {
      client.close();
    }
  }
}
