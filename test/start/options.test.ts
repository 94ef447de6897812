import { networkInterfaces } from "node:os";
import { describe, expect } from "vitest";
import { commandLine } from "../support/registry.ts";
import { expectRefusal, runNode, startTest } from "./start-test.ts";

describe("npm start", () => {
  startTest("prints the address and a docker, an oras and a crane line to try", async ({ start }) => {
    const registry = await start();
    expect(registry.output()).toContain(`http://localhost:${registry.port}`);
    for (const line of [
      /^ +docker .*push localhost:\d+\//m,
      /^ +oras push .*localhost:\d+\//m,
      /^ +crane .*localhost:\d+\//m,
    ]) {
      expect(registry.output()).toMatch(line);
    }
  });

  startTest("listens on loopback alone", async ({ start, skip }) => {
    const addresses = Object.values(networkInterfaces()).flatMap((known) => known ?? []);
    const outside = addresses.find((known) => !known.internal && known.family === "IPv4");
    skip(outside === undefined, "this machine has no address but loopback");
    const registry = await start();
    await expect(fetch(`http://${outside?.address}:${registry.port}/v2/`)).rejects.toThrow();
  });

  startTest("takes a setting by --var", async ({ start }) => {
    expect((await start({ vars: { GC_GRACE_SECONDS: "5" } })).output()).toContain("ready");
  });

  startTest("names the settings that there are when it does not know one", async ({ stateDir }) => {
    const ended = await runNode(commandLine({ vars: { GC_GRACE: "5" } }, stateDir));
    expectRefusal(ended, /^moorage: --var: GC_GRACE is not a setting; .*ALLOW_SPARSE, GC_GRACE_SECONDS, .*\n$/);
  });

  startTest("says in one line that the port is taken", async ({ start, folder }) => {
    const first = await start();
    const ended = await runNode(commandLine({ port: first.port }, `${folder}/other`));
    expectRefusal(ended, /^moorage: Address already in use .*\n$/);
  });

  startTest.for([
    ["--port=http", /^moorage: --port takes a number from 0 to 65535, not "http"\n$/],
    ["--port=65536", /^moorage: --port takes a number/],
    ["--var=GC_GRACE_SECONDS", /^moorage: --var takes NAME=VALUE/],
    ["--config=missing.toml", /^moorage: there is no .*missing\.toml\n$/],
    ["--prot=1", /^moorage: Unknown option '--prot'/],
  ] as const)("refuses %s", async ([option, message], { stateDir }) => {
    expectRefusal(await runNode([...commandLine({}, stateDir), option]), message);
  });
});
