import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { createServer } from "node:net";
import { UsageError } from "./options.ts";
import { isSystemError } from "./state-folder.ts";

/**
 * The host to listen on: loopback in IPv4 and, if it can be, in IPv6.
 *
 * Miniflare listens on one host. Given "localhost", workerd listens on every address that the name has, and fails if
 * one of them can't be had: so that name is used only where it means both loopback addresses and both can be bound.
 * Elsewhere (no IPv6, or a hosts file without it) 127.0.0.1 is all that "localhost" leads clients to. With port 0 each
 * address would get a port of its own, so then it is IPv4 alone.
 *
 * @throws UsageError where the system keeps the port from this user
 */
export async function listenHost(port: number): Promise<"localhost" | "127.0.0.1"> {
  if (!(await mayBind(port))) {
    throw new UsageError(`this user may not listen on port ${String(port)}: choose one above 1023 with --port`);
  }
  const addresses = await lookup("localhost", { all: true }).catch(() => []);
  const names = new Set(addresses.map(({ address }) => address));
  const both = names.size === 2 && names.has("127.0.0.1") && names.has("::1");
  return both && port !== 0 && (await canBindIpv6()) ? "localhost" : "127.0.0.1";
}

/**
 * For who does not itself end where the port is taken.
 * @throws UsageError
 */
export async function requireFree(host: "localhost" | "127.0.0.1", port: number): Promise<void> {
  for (const address of host === "localhost" ? ["127.0.0.1", "::1"] : ["127.0.0.1"]) {
    const server = createServer();
    server.listen(port, address);
    try {
      await once(server, "listening");
    } catch (error) {
      if (!isSystemError(error, "EADDRINUSE")) throw error;
      throw new UsageError(`port ${String(port)} is in use: choose another by --port`, { cause: error });
    }
    server.close();
    await once(server, "close");
  }
}

/** A port that is taken is workerd's to tell: it names who has it. */
function mayBind(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error) => resolve(!isSystemError(error, "EACCES")));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

function canBindIpv6(): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(0, "::1", () => server.close(() => resolve(true)));
  });
}
