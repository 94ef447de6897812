import { realpath, writeFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import path from "node:path";
import { describe, expect } from "vitest";
import { digestOf, expectStatus, imageManifest, octetStream, utf8 } from "../support/client.ts";
import { commandLine, projectRoot } from "../support/registry.ts";
import { expectRefusal, repositoryOf, runNode, runNpm, startTest } from "./start-test.ts";

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
    const registry = await start({ vars: { ALLOW_SPARSE: "sparse/*" } });
    const blob = { mediaType: octetStream, digest: await digestOf(utf8("never pushed")), size: 12 };
    const manifest = JSON.stringify({ schemaVersion: 2, mediaType: imageManifest, config: blob, layers: [] });
    await expectStatus(await repositoryOf(registry, "sparse/test").putManifest("v1", manifest), 201);
    await expectStatus(await repositoryOf(registry, "whole/test").putManifest("v1", manifest), 404);
  });

  startTest.for([
    ["start", "GC_GRACE_SECONDS", "abc", "is not a whole number of seconds"],
    ["start", "GC_GRACE_SECONDS", "-1", "is not a whole number of seconds"],
    ["start", "ALLOW_SPARSE", "UPPER/**", "is not a repository pattern such as team/* or mirror/**"],
    ["start", "GC_GRACE_SECONDS", "99999999999", "must be 0 to 999999999"],
    ["dev", "UPLOAD_TTL_SECONDS", "0", "must be 1 to "],
  ] as const)("as npm %s refuses %s=%s", async ([command, name, value, reason], { stateDir }) => {
    const ended = await runNode(commandLine({ command, vars: { [name]: value } }, stateDir));
    expectRefusal(ended, /^moorage: .*\n$/);
    expect(ended.output).toContain(`moorage: ${name}: "${value}" ${reason}`);
  });

  startTest("finds a relative --state where npm was called", async ({ folder }) => {
    // A file of this name is there and in the project: neither can be the state, and the message tells which was meant.
    await writeFile(path.join(folder, "README.md"), "");
    const ended = await runNpm(folder, "--prefix", projectRoot, "start", "--", "--port=0", "--state=README.md");
    expectRefusal(ended, /^moorage: .*\/README\.md is not a folder$/m);
    expect(ended.output).toContain(`moorage: ${await realpath(folder)}/README.md`);
  });

  startTest("names the settings that there are when it does not know one", async ({ stateDir }) => {
    const ended = await runNode(commandLine({ vars: { GC_GRACE: "5" } }, stateDir));
    expectRefusal(
      ended,
      /^moorage: --var: GC_GRACE is not a setting; .*ADMIN_PASSWORD, ALLOW_SPARSE, .*GC_GRACE_SECONDS, .*\n$/,
    );
  });

  startTest("says in one line that the port is taken", async ({ start, folder }) => {
    const first = await start();
    const ended = await runNode(commandLine({ port: first.port }, `${folder}/other`));
    expectRefusal(ended, /^moorage: Address already in use .*\n$/, 1);
  });

  startTest.for([
    ["--port=http", /^moorage: --port takes a number from 0 to 65535, not "http"\n$/],
    ["--port=65536", /^moorage: --port takes a number/],
    ["--state=", /^moorage: --state takes a path, and was given an empty one\n$/],
    ["--var=GC_GRACE_SECONDS", /^moorage: --var takes NAME=VALUE/],
    ["--config=missing.toml", /^moorage: there is no file .*missing\.toml\n$/],
    ["--prot=1", /^moorage: Unknown option '--prot'.*npm start -- --help lists what there is\n$/],
    ["5000", /^moorage: options come after --, as in: npm start -- --port 5000; "5000" is none\n$/],
  ] as const)("refuses %s", async ([option, message], { stateDir }) => {
    expectRefusal(await runNode([...commandLine({}, stateDir), option]), message);
  });
});
