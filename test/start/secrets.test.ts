import { readFile, stat } from "node:fs/promises";
import path from "node:path";
import { describe, expect } from "vitest";
import { asAdmin, basic } from "../support/credentials.ts";
import { RegistryClient } from "../support/client.ts";
import { commandLine } from "../support/registry.ts";
import { expectRefusal, runNode, startTest } from "./start-test.ts";

/** The registry's own secrets: without the tests' password, which `start` gives otherwise. */
const own = { ADMIN_PASSWORD: undefined };

async function statusOf(url: string, authorization: string | null): Promise<number> {
  return (await new RegistryClient(url, fetch, authorization).listRepositories()).status;
}

function printedPassword(output: string): string {
  return /echo (\S+) \| docker login -u admin --password-stdin localhost:\d+/.exec(output)?.[1] ?? "";
}

describe("the secrets of npm start", () => {
  startTest("are made once: the line that it prints logs in, also after a restart", async ({ start }) => {
    const first = await start({ vars: own });
    const password = printedPassword(first.output());
    expect(password.length).toBeGreaterThanOrEqual(20);
    expect(await statusOf(first.url, basic("admin", password))).toBe(200);
    expect(await statusOf(first.url, basic("admin", `${password}x`))).toBe(401);
    const token = await tokenOf(first.url, password, first.host);
    await first.stop();
    const second = await start({ vars: own, port: first.port });
    expect(printedPassword(second.output())).toBe(password);
    // Signed with the same key: what was handed out before the restart is good after it.
    expect(await statusOf(second.url, `Bearer ${token}`)).toBe(200);
  });

  startTest("are their owner's alone to read", async ({ start, stateDir }) => {
    await start({ vars: own });
    expect((await stat(path.join(stateDir, "secrets.env"))).mode & 0o777).toBe(0o600);
  });

  startTest("give way to --var ADMIN_PASSWORD, which is neither printed nor kept", async ({ start, stateDir }) => {
    const registry = await start({ vars: { ADMIN_PASSWORD: "a password of the user's" } });
    expect(await statusOf(registry.url, basic("admin", "a password of the user's"))).toBe(200);
    expect(registry.output()).toMatch(/docker login -u admin localhost:\d+/);
    expect(registry.output()).not.toContain("a password of the user's");
    expect(await readFile(path.join(stateDir, "secrets.env"), "utf8")).not.toContain("a password of the user's");
  });

  startTest("are those of npm run dev too", async ({ start }) => {
    const first = await start({ vars: own });
    const password = printedPassword(first.output());
    await first.stop();
    const dev = await start({ vars: own, command: "dev" });
    expect(await statusOf(dev.url, basic("admin", password))).toBe(200);
    expect(await statusOf(dev.url, asAdmin)).toBe(401);
  });

  startTest("that are given and can't be used are refused, and not repeated", async ({ stateDir }) => {
    const ended = await runNode([...commandLine({ vars: { SIGNING_KEY: "too short" } }, stateDir)]);
    expectRefusal(
      ended,
      /^moorage: SIGNING_KEY .* is not 32 bytes in base64; make one with: openssl rand -base64 32\n$/,
    );
    expect(ended.output).not.toContain("too short");
  });
});

async function tokenOf(url: string, password: string, host: string): Promise<string> {
  const registry = new RegistryClient(url, fetch, basic("admin", password));
  const answer = await registry.request("GET", "/token", { query: { service: host, scope: "registry:catalog:*" } });
  const body: unknown = await answer.json();
  if (typeof body !== "object" || body === null || !("token" in body)) throw new Error("no token");
  return String(body.token);
}
