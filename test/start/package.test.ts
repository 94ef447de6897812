import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { describe, expect } from "vitest";
import { z } from "zod";
import { adminPassword } from "../support/credentials.ts";
import { projectRoot } from "../support/registry.ts";
import { moorage, type RunOptions } from "./cli-test.ts";
import { Content, expectBlob, push, relayTest, send } from "./relay-test.ts";

const MB = 1_000_000;
const MiB = 1 << 20;

const run = promisify(execFile);

/** Without what npm and the tests' own node put there: a Node that knows no TypeScript, where the machine has one. */
const PATH = (process.env["PATH"] ?? "")
  .split(path.delimiter)
  .filter((folder) => !folder.includes("node_modules"))
  .join(path.delimiter);
/** What npm says of the script that it runs, where it runs the tests, is not of the folder of the installation. */
const ofScript = /^(npm_(package|lifecycle|config_(local_prefix|prefix|global_prefix))|INIT_CWD$|NODE$|NODE_OPTIONS$)/i;
const env = {
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !ofScript.test(name))),
  PATH,
};

const manifestSchema = z.object({ version: z.string() });
const packedSchema = z.tuple([z.object({ filename: z.string(), files: z.array(z.object({ path: z.string() })) })]);

const test = relayTest
  .extend("packed", { scope: "file" }, async ({ fileFolder }) => {
    const pack = ["pack", "--json", "--silent", "--pack-destination", fileFolder];
    const { stdout } = await run("npm", pack, { cwd: projectRoot, env: process.env });
    // What the script before it says comes first.
    const [{ filename, files }] = packedSchema.parse(JSON.parse(stdout.slice(stdout.indexOf("[\n"))));
    return { file: path.join(fileFolder, filename), files: files.map(({ path: name }) => name) };
  })
  .extend("installed", { scope: "file" }, async ({ packed, fileFolder }) => {
    const folder = path.join(fileFolder, "installed");
    // npm looks for the nearest package upward, and would install there.
    await run("npm", ["install", "--prefix", folder, "--no-audit", "--no-fund", packed.file], { env });
    return folder;
  });

/** Runs the command that was installed, as its users do. */
function npx(folder: string, args: readonly string[], options: RunOptions = {}) {
  return moorage(args, { folder, ...options, env: { ...env, ...options.env }, program: ["npx", "moorage"] });
}

describe("the package", () => {
  test("holds the command line and nothing else", ({ packed }) => {
    expect(packed.files.toSorted()).toEqual([
      "LICENSE",
      "README.md",
      "dist/LICENSES.txt",
      "dist/moorage.js",
      "package.json",
      "scripts/launch.js",
    ]);
  });

  test("brings no other package", async ({ installed }) => {
    const packages = (await readdir(path.join(installed, "node_modules"))).filter((name) => !name.startsWith("."));
    expect(packages).toEqual(["moorage"]);
    const inside = await readdir(path.join(installed, "node_modules/moorage"));
    expect(inside).not.toContain("node_modules");
  });

  test("runs without the project beside it", async ({ installed, registry }) => {
    const { version } = manifestSchema.parse(
      JSON.parse(await readFile(path.join(projectRoot, "package.json"), "utf8")),
    );
    expect(await npx(installed, ["--version"])).toMatchObject({ code: 0, stdout: `${version}\n` });
    const help = await npx(installed, ["verify", "--help"]);
    expect(help).toMatchObject({ code: 0 });
    expect(help.stdout).toMatch(/^Usage: moorage verify /);
    const own = { env: { MOORAGE_REGISTRY: registry.host, MOORAGE_PASSWORD: adminPassword } };
    const doctor = await npx(installed, ["doctor"], own);
    expect(doctor).toMatchObject({ code: 0 });
    expect(doctor.stdout).toMatch(/^ok +login +as admin$/m);
  });

  test("has its commands", async ({ installed, registry }) => {
    const own = { env: { MOORAGE_REGISTRY: registry.url, MOORAGE_PASSWORD: adminPassword } };
    const help = await npx(installed, ["--help"]);
    expect(help).toMatchObject({ code: 0 });
    for (const command of ["user", "token", "relay"]) expect(help.stdout).toMatch(new RegExp(`^  ${command} `, "m"));
    expect(await npx(installed, ["user", "create", "robot"], own)).toMatchObject({ code: 0 });
    const made = await npx(installed, ["token", "create", "robot", "ci"], own);
    expect(made.stdout).toMatch(/^moorage_[\w-]{43}\n$/);
    const listed = await npx(installed, ["token", "list", "robot", "--json"], own);
    expect(JSON.parse(listed.stdout)).toMatchObject({ tokens: [{ name: "ci" }] });
    const unknown = await npx(installed, ["nonsense"]);
    expect(unknown).toMatchObject({ code: 2, stdout: "" });
    // Before it npx may warn of the user's settings.
    expect(unknown.stderr).toMatch(/^moorage: unknown command 'nonsense'/m);
    const nobody = await npx(installed, ["relay", "http://127.0.0.1:1"]);
    expect(nobody).toMatchObject({ code: 1, stdout: "" });
    expect(nobody.stderr).toMatch(/^moorage: http:\/\/127\.0\.0\.1:1 can't be reached/m);
  });

  test("relays by npx, until it is told to end", async ({
    front,
    installed,
    repository: name,
    registry,
    startRelay,
  }) => {
    const relay = await startRelay({ program: ["npx", "moorage"], folder: installed, env });
    const content = new Content(101 * MB);
    expect(await push({ url: relay.url, name }, content, "put")).toMatchObject({ status: 201 });
    await expectBlob({ url: registry.url, name }, content);
    expect(front.of("PATCH").length).toBeGreaterThan(1);
    await relay.stop();
    await expect(send("GET", `${relay.url}/v2/`)).rejects.toThrow(/ECONNREFUSED/);
  });
});

describe("the relay's memory", () => {
  test.skipIf(process.platform !== "linux")(
    "stays under 160 MiB, whatever the layer and how many at once",
    async ({ front, installed, repository: name, registry, startRelay }) => {
      const program = ["node", path.join(installed, "node_modules/.bin/moorage")] as const;
      const relay = await startRelay({ program, folder: installed, env });
      const place = { url: relay.url, name };
      const layer = new Content(600 * MB);
      front.break({ method: "PATCH", at: 5 * MB }, { method: "PATCH", at: "answer" });
      expect(await push(place, layer, "patch")).toMatchObject({ status: 201 });
      const layers = Array.from({ length: 5 }, () => new Content(40 * MB));
      const sent = await Promise.all(layers.map((each) => push(place, each, "patch")));
      expect(sent.map(({ status }) => status)).toEqual([201, 201, 201, 201, 201]);
      await expectBlob(place, layer);
      const peak = await relay.peakMemory();
      expect(peak).toBeLessThanOrEqual(160 * MiB);
      await expectBlob({ url: registry.url, name }, layer);
    },
  );
});
