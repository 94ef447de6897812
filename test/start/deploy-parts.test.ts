import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { addressIn } from "../../scripts/deploy/address.ts";
import { bodyLimitOf } from "../../scripts/deploy/body-limit.ts";
import { parseDeployOptions } from "../../scripts/deploy/options.ts";
import { missingSecrets } from "../../scripts/deploy/missing-secrets.ts";
import { askHidden, askOf } from "../../scripts/deploy/question.ts";
import { withSecretsFile } from "../../scripts/deploy/secrets-file.ts";
import { projectRoot } from "../support/registry.ts";

describe("the address of a deployed registry, from what wrangler prints", () => {
  it.for([
    ["https://moorage.harbour.workers.dev", ["https://moorage.harbour.workers.dev", "schedule: * * * * *"]],
    ["https://registry.example.com", ["registry.example.com (custom domain)"]],
    ["https://registry.example.com", ["registry.example.com (custom domain - zone name: example.com)"]],
    ["https://registry.example.com", ["registry.example.com/* (zone name: example.com)"]],
    [
      "https://registry.example.com",
      ["https://moorage.harbour.workers.dev", "schedule: * * * * *", "registry.example.com (custom domain)"],
    ],
    ["https://registry.example.com", ["https://moorage.harbour.workers.dev", "registry.example.com/*"]],
    ["https://moorage.harbour.workers.dev", ["*.example.com/*", "https://moorage.harbour.workers.dev"]],
    [null, ["registry.example.com/v2/* (zone name: example.com)", "schedule: * * * * *"]],
    [null, ["schedule: * * * * *"]],
  ] as const)("%s", ([address, targets]) => {
    expect(addressIn(printed(...targets))?.origin ?? null).toBe(address);
  });

  it("is not looked for before the list", () => {
    expect(addressIn("  https://example.workers.dev\nNo targets deployed for moorage (1 sec)")).toBeNull();
  });
});

describe("the options", () => {
  it.for([
    ["--plan=gold", /--plan takes free, pro, business, enterprise, not "gold"/],
    ["--plan=toString", /--plan takes/],
    ["--location=mars", /--location takes wnam, .*, not "mars"/],
    ["--registry=http://registry.example.com", /--registry takes an address such as https:/],
    ["--registry=https://registry.example.com/v2", /without a path/],
    ["--registry=https://admin:secret@registry.example.com", /--registry takes an address such as/],
    ["--nothing", /--nothing/],
    ["pro", /options come after --/],
  ] as const)("can't be %s", ([option, reason]) => {
    expect(() => parseDeployOptions([option])).toThrow(reason);
  });

  it("may have the registry on this machine without TLS", () => {
    expect(parseDeployOptions(["--registry=http://localhost:8787"]).registry?.href).toBe("http://localhost:8787/");
  });
});

describe("the longest body", () => {
  it.for([
    [null, { declared: "50000000", plan: "enterprise", deployed: "200000000" }],
    ["500000000", { declared: "0", plan: "enterprise", deployed: "200000000" }],
    ["100000000", { declared: "0", plan: "free", deployed: "200000000" }],
    ["200000000", { declared: "0", plan: undefined, deployed: "200000000" }],
    ["100000000", { declared: "0", plan: undefined, deployed: "0" }],
    ["100000000", { declared: undefined, plan: undefined, deployed: undefined }],
    ["100000000", { declared: "0", plan: "pro", deployed: undefined }],
  ] as const)("is %s bytes, where %j", ([bytes, sources]) => {
    expect(bodyLimitOf(sources).bytes).toBe(bytes);
  });
});

describe("secrets that are missing", () => {
  const wanted = ["ADMIN_PASSWORD", "SIGNING_KEY", "TOKEN_KEY"];
  const nobody = { ask: null, given: undefined, generate: false };
  const answering = (...answers: string[]) => ({
    ...nobody,
    ask: () => Promise.resolve(answers.shift() ?? "asked too often"),
  });

  it("are none where the Worker has them, and nobody is asked", async () => {
    expect(await missingSecrets(wanted, wanted, nobody)).toEqual({ values: {}, isPasswordMade: false });
  });

  it("are keys of 32 bytes, and the password that was typed twice", async () => {
    const { values, isPasswordMade } = await missingSecrets(wanted, [], answering("a long one", "a long one"));
    expect(values["ADMIN_PASSWORD"]).toBe("a long one");
    expect(isPasswordMade).toBe(false);
    for (const key of ["SIGNING_KEY", "TOKEN_KEY"]) expect(Buffer.from(values[key] ?? "", "base64")).toHaveLength(32);
    expect(values["SIGNING_KEY"]).not.toBe(values["TOKEN_KEY"]);
  });

  it("are made where nothing is typed", async () => {
    const { values, isPasswordMade } = await missingSecrets(wanted, [], answering(""));
    expect(values["ADMIN_PASSWORD"]).toMatch(/^[\w-]{20}$/);
    expect(isPasswordMade).toBe(true);
  });

  it("come from the environment before anybody is asked", async () => {
    const { values } = await missingSecrets(wanted, ["SIGNING_KEY"], { ...answering(), given: "given" });
    expect(Object.keys(values)).toEqual(["ADMIN_PASSWORD", "TOKEN_KEY"]);
    expect(values["ADMIN_PASSWORD"]).toBe("given");
  });

  it("are refused where two passwords differ, one is blank, or a secret is none that is known", async () => {
    await expect(missingSecrets(wanted, [], answering("one", "another"))).rejects.toThrow("are not the same");
    await expect(missingSecrets(wanted, [], answering("  "))).rejects.toThrow("of spaces alone");
    await expect(missingSecrets([...wanted, "OTHER"], wanted, nobody)).rejects.toThrow("npx wrangler secret put OTHER");
    await expect(missingSecrets(wanted, [], nobody)).rejects.toThrow("ADMIN_PASSWORD");
  });
});

describe("a question", () => {
  it("shows what is asked, and nothing of what is typed", async () => {
    const { input, output } = terminal();
    const answer = askHidden("Password: ", { input, output });
    input.write("secr");
    input.write("et\r");
    expect(await answer).toBe("secret");
    expect(output.read()).toBe("Password: \n");
  });

  it("ends with the input, and with Ctrl-C", async () => {
    const ended = terminal();
    const answer = askHidden("Password: ", ended);
    ended.input.end();
    await expect(answer).rejects.toThrow("broken off");
    const stopped = terminal();
    const other = askHidden("Password: ", stopped);
    stopped.input.write("\u0003");
    await expect(other).rejects.toThrow("broken off");
  });

  it("is asked at a terminal alone, and in no CI", () => {
    const { input, output } = terminal();
    expect(askOf({ input, output }, {})).not.toBeNull();
    expect(askOf({ input, output }, { CI: "true" })).toBeNull();
    expect(askOf({ input: new PassThrough(), output }, {})).toBeNull();
    expect(askOf({ input, output: new PassThrough() }, {})).toBeNull();
  });
});

describe("the file of secrets", () => {
  it("is its owner's alone, has them as JSON, and goes with the work", async () => {
    const secrets = { ADMIN_PASSWORD: 'a "$HOME" of #signs' };
    const file = await withSecretsFile(secrets, async (name) => {
      expect((await stat(name)).mode & 0o777).toBe(0o600);
      expect((await stat(path.dirname(name))).mode & 0o777).toBe(0o700);
      expect(JSON.parse(await readFile(name, "utf8"))).toEqual(secrets);
      return name;
    });
    expect(existsSync(path.dirname(file))).toBe(false);
  });

  it("goes with an error of the work", async () => {
    let file = "";
    const failing = withSecretsFile({}, (name) => {
      file = name;
      return Promise.reject(new Error("no such luck"));
    });
    await expect(failing).rejects.toThrow("no such luck");
    expect(existsSync(path.dirname(file))).toBe(false);
  });

  it.for(["SIGINT", "SIGTERM", "SIGHUP"] as const)("goes with %s", async (signal) => {
    const module = path.join(projectRoot, "scripts/deploy/secrets-file.ts");
    const program = `import { withSecretsFile } from ${JSON.stringify(module)};
      await withSecretsFile({}, (file) => { console.log(file); return new Promise((done) => setTimeout(done, 60_000)); });`;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const exited = once(child, "exit");
    const lines = createInterface(child.stdout);
    const { value: file } = z.object({ value: z.string() }).parse(await lines[Symbol.asyncIterator]().next());
    expect(existsSync(file)).toBe(true);
    child.kill(signal);
    await exited;
    expect(existsSync(path.dirname(file))).toBe(false);
  });
});

function printed(...targets: readonly string[]): string {
  const lines = targets.map((target) => `  ${target}`);
  const version = "Current Version ID: 0b3e3b4e-6b1a-4b8e-9d1a-6f1b2c3d4e5f";
  return ["Uploaded moorage (1.23 sec)", "Deployed moorage triggers (0.42 sec)", ...lines, version].join("\n");
}

function terminal() {
  return {
    input: Object.assign(new PassThrough(), { isTTY: true }),
    output: Object.assign(new PassThrough({ encoding: "utf8" }), { isTTY: true }),
  };
}
