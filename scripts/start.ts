/**
 * `npm start`: the registry on this machine, with Miniflare's R2, D1 and Durable Objects kept on disk.
 *
 * It is a script around Miniflare and not `wrangler dev` because it answers small requests five times as fast; the
 * bindings are still those of wrangler.toml, and the state is where `wrangler dev --persist-to` keeps it, so the two
 * can take turns on one folder.
 */
import path from "node:path";
import type { Miniflare } from "miniflare";
import { bundleWorker } from "./bundle.ts";
import { failByKind, report } from "./console.ts";
import { startCrons } from "./crons.ts";
import { listenHost } from "./host.ts";
import { acquireLock } from "./lock.ts";
import { applyMigrations } from "./migrations.ts";
import { openMiniflare } from "./miniflare.ts";
import { type Options, parseOptions, usage } from "./options.ts";
import { type Project, readProject } from "./project.ts";
import { type LocalSecrets, localSecrets } from "./secrets.ts";

// Whoever read the output may be gone (npm killed, a closed terminal): that is no reason to stop serving.
process.stdout.on("error", () => {});
process.stderr.on("error", () => {});

await main().catch(failByKind);

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) {
    console.log(usage("npm start"));
    return;
  }
  const project = readProject(options.configPath, options.vars);
  const lock = await acquireLock(options.stateDir, "npm start", report);
  // Until there is something to stop in order, the lock's own exit handler is all that it takes.
  onStopSignal(() => process.exit(0));

  const secrets = localSecrets(options.stateDir, project.workerOptions.bindings);

  const persistPath = path.join(options.stateDir, "v3");
  const [host, bundle] = await Promise.all([
    listenHost(options.port),
    bundleWorker(project.main, project.define, project.exports),
    applyMigrations(project, persistPath),
  ]);
  const miniflare = openMiniflare(project, bundle, { persistPath, host, port: options.port }, secrets.values);
  const stopped = new Promise<void>((resolve) => {
    onStopSignal(resolve);
  });
  const { port } = await miniflare.ready;
  lock.noteAddress({ host, port: Number(port) });
  const crons = startCrons(project.crons, (cron, time) => fire(miniflare, cron, time), report);
  console.log(greeting(port, options, project, secrets));

  await stopped;
  crons.stop();
  await miniflare.dispose();
  lock.release();
  process.exit(0);
}

/**
 * Takes the signals away from Miniflare, whose own handlers end the process on the spot, with 128 + n, while workerd may
 * still hold port and state: a start that follows at once would find both in use. `stop` may be called more than once:
 * npm passes on what the terminal has sent already.
 */
function onStopSignal(stop: () => void): void {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.removeAllListeners(signal);
    process.on(signal, stop);
  }
}

async function fire(miniflare: Miniflare, cron: string, scheduledTime: Date): Promise<void> {
  const worker = await miniflare.getWorker();
  const { outcome } = await worker.scheduled({ cron, scheduledTime });
  if (outcome !== "ok") throw new Error(`the Worker answered "${outcome}"`);
}

function greeting(port: string, options: Options, project: Project, secrets: LocalSecrets): string {
  const host = `localhost:${port}`;
  return `${project.name} is ready on http://${host} (state in ${options.stateDir})

Log in:
  ${loginLine(host, project, secrets)}

Then try one of:
  docker pull alpine && docker tag alpine ${host}/demo/alpine && docker push ${host}/demo/alpine
  oras push --plain-http ${host}/demo/readme:v1 README.md:text/markdown
  crane copy alpine ${host}/demo/alpine:latest
`;
}

/** Ready to be run. A password that its user gave is not said again: it may be no throw-away one. */
function loginLine(host: string, { workerOptions }: Project, { values }: LocalSecrets): string {
  return "ADMIN_PASSWORD" in workerOptions.bindings
    ? `docker login -u admin ${host}   (with the ADMIN_PASSWORD that you set)`
    : `echo ${values["ADMIN_PASSWORD"] ?? ""} | docker login -u admin --password-stdin ${host}`;
}
