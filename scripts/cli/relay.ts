import { setFlagsFromString } from "node:v8";
import { type Command, Option } from "commander";
import { z } from "zod";
import { report } from "../console.ts";
import { bars, jsonLines, lines } from "../relay/progress.ts";
import { Relay } from "../relay/relay.ts";
import { Broken } from "../relay/upstream.ts";
import { isSystemError } from "../state-folder.ts";
import { portNumber, wholeNumber } from "./checked.ts";
import { connectionOptions, registryOf, requireEncrypted } from "./connection.ts";
import { Refusal } from "./refusal.ts";
import { onStopSignal } from "./stop-signal.ts";

const PORT = 5000;
/** 95 MiB: Cloudflare takes bodies of 100 MB, that is 100,000,000 bytes, on its smallest plans. */
const MAX_BODY_BYTES = 95 * 1024 * 1024;
const TRIES = 10;
const SILENCE_SECONDS = 60;

export function addRelayCommand(program: Command): void {
  program
    .command("relay")
    .description("serve a registry on this machine that sends layers of any size on to another one, in chunks")
    .argument("<url>", "where to, such as https://registry.example.com")
    .option("--port <port>", "port to listen on; 0: any free one", portNumber, PORT)
    .option("--host <host>", "name or address to listen on; others than localhost let other machines in", "localhost")
    .addOption(
      new Option("--max-body <bytes>", "the longest body that the registry takes in one request")
        .argParser(wholeNumber(Number.MAX_SAFE_INTEGER))
        .default(MAX_BODY_BYTES, `${String(MAX_BODY_BYTES)}, 95 MiB`),
    )
    .option("--tries <n>", "how often in a row to try what brings nothing further", wholeNumber(1000), TRIES)
    .option("--silence <seconds>", "how long to wait where nothing moves", wholeNumber(86_400), SILENCE_SECONDS)
    .addHelpText(
      "after",
      `
Log in, push and pull at localhost:${String(PORT)} in place of the registry, with the registry's own users: the relay has no
credentials, and takes none of the options by which the other commands log in.
On a terminal it shows a bar for each layer on its way, elsewhere a line for each that has arrived; with --json a line of
JSON on standard output for each event: ready, uploaded, retry, failed. Ctrl-C ends it.`,
    )
    .action(serveRelay);
}

const optionsSchema = z.object({
  port: z.number(),
  host: z.string().min(1),
  maxBody: z.number(),
  tries: z.number(),
  silence: z.number(),
});

async function serveRelay(registry: string, given: unknown, command: Command): Promise<void> {
  const { host, port, maxBody, tries, silence } = optionsSchema.parse(given);
  const connection = connectionOptions(command);
  const upstream = requireEncrypted(registryOf(registry, connection), connection);
  const asJson = connection.json ? jsonLines() : null;
  const progress = asJson ?? (process.stderr.isTTY ? bars() : lines());
  const relay = new Relay({
    upstream,
    host,
    port,
    maxBodyBytes: maxBody,
    patience: { tries, silentMs: silence * 1000 },
    progress,
  });
  keepSmall();
  const stopped = stopSignal();
  // It may be long in coming: nobody is to wait for a registry that is silent to be rid of its relay.
  const isRegistry = requireRegistry(relay, upstream).then(() => true);
  if (!(await Promise.race([isRegistry, stopped.then(() => false)]))) return relay.close();
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${String(await listen(relay, host, port))}`;
  if (asJson === null) greet(url, upstream);
  else asJson.ready(url, upstream.origin);
  await stopped;
  progress.close();
  await relay.close();
}

/** @throws Refusal where nobody answers there, or no registry */
async function requireRegistry(relay: Relay, { origin }: URL): Promise<void> {
  try {
    const status = await relay.probe();
    if ([200, 401, 403, 429].includes(status)) return;
    throw new Refusal(`${origin} is no registry: /v2/ answers ${String(status)}`);
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    throw new Refusal(`${origin} can't be reached: ${error.message}`, { cause: error });
  }
}

/** @returns the port */
async function listen(relay: Relay, host: string, port: number): Promise<number> {
  try {
    return await relay.listen();
  } catch (error) {
    await relay.close();
    if (isSystemError(error, "EADDRINUSE")) {
      throw new Refusal(`port ${String(port)} is in use: choose another by --port`, { cause: error });
    }
    if (isSystemError(error, "EACCES")) {
      throw new Refusal(`this user may not listen on port ${String(port)}: choose one above 1023 with --port`, {
        cause: error,
      });
    }
    if (isSystemError(error)) throw new Refusal(`--host ${host}: ${error.message}`, { cause: error });
    throw error;
  }
}

function greet(url: string, { origin }: URL): void {
  const { host } = new URL(url);
  report(`${url} relays to ${origin}; Ctrl-C ends it
  docker login ${host}
  docker tag app ${host}/team/app && docker push ${host}/team/app`);
}

/**
 * What is read of a body is garbage a moment later. V8 would let much of it gather, and grow what it gathers in: that
 * doubles the memory which the bytes on their way need.
 */
function keepSmall(): void {
  setFlagsFromString("--semi-space-growth-factor=1");
  setFlagsFromString("--optimize-for-size");
}

/** Resolves when it is told to end: by Ctrl-C, by its parent, or because its terminal is closed. */
function stopSignal(): Promise<void> {
  return new Promise((resolve) => {
    onStopSignal(["SIGINT", "SIGTERM", "SIGHUP"], resolve);
  });
}
