import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect } from "vitest";
import { acquireLock } from "../../scripts/lock.ts";
import { applyMigrations } from "../../scripts/migrations.ts";
import { UsageError } from "../../scripts/options.ts";
import { readProject } from "../../scripts/project.ts";
import { commandLine, projectRoot } from "../support/registry.ts";
import { expectRefusal, runNode, startTest } from "./start-test.ts";

describe("a state folder", () => {
  startTest("is made with those above it", async ({ folder }) => {
    const lock = await acquire(path.join(folder, "a/b/c"));
    lock.release();
  });

  startTest("may be a link to a folder", async ({ folder }) => {
    await mkdir(path.join(folder, "real"));
    await symlink("real", path.join(folder, "link"));
    const lock = await acquire(path.join(folder, "link"));
    lock.release();
  });

  startTest.for([
    ["that is a file", "file", /\/file is not a folder$/],
    ["below a file", "file/state", /\/file is not a folder$/],
    ["that is a dangling link", "link", /\/link is a link that leads nowhere$/],
    ["below a dangling link", "link/state", /\/link is a link that leads nowhere$/],
  ] as const)("%s is refused in one line", async ([, name, message], { folder }) => {
    await writeFile(path.join(folder, "file"), "");
    await symlink("missing", path.join(folder, "link"));
    await expectRefused(acquire(path.join(folder, name)), message);
  });

  startTest("that is read-only is refused in one line", async ({ folder, skip }) => {
    skip(process.getuid?.() === 0, "root writes where it may not");
    await chmod(folder, 0o555);
    await expectRefused(acquire(folder), /^the state can't be kept in .*: EACCES: permission denied, open '.*'$/);
    await expectRefused(
      acquire(path.join(folder, "new")),
      /^the state can't be kept in .*: EACCES: .* mkdir '.*\/new'$/,
    );
  });

  startTest("that not even root can write to is refused in one line", async ({ skip }) => {
    skip(process.platform !== "linux", "/sys is Linux's");
    await expectRefused(acquire("/sys"), /^the state can't be kept in \/sys: E[A-Z]+: .*, open '.*'$/);
    await expectRefused(
      acquire("/sys/new"),
      /^the state can't be kept in \/sys\/new: E[A-Z]+: .*, mkdir '\/sys\/new'$/,
    );
  });

  // In a process of its own: what hangs there would hang here.
  startTest("that can't be made is refused, and not tried for ever", async ({ skip }) => {
    skip(process.platform !== "linux", "/proc is Linux's");
    const ended = await runNode(commandLine({}, "/proc/moorage"));
    expectRefusal(ended, /^moorage: the state can't be kept in \/proc\/moorage: ENOENT: .*\n$/);
  });

  startTest("whose lock can't be read is refused, and not tried for ever", async ({ folder }) => {
    await mkdir(path.join(folder, "lock"));
    const ended = await runNode(commandLine({}, folder));
    expectRefusal(ended, /^moorage: the state can't be kept in .*: EISDIR: .*\n$/);
  });

  startTest("with something else in the database's place is refused in one line", async ({ folder }) => {
    const persistPath = path.join(folder, "v3");
    await writeFile(persistPath, "");
    const project = readProject(path.join(projectRoot, "wrangler.toml"), {});
    await expectRefused(applyMigrations(project, persistPath), /^the state can't be kept in .*\/v3: ENOTDIR: .*$/);
  });
});

function acquire(stateDir: string) {
  return acquireLock(stateDir, "a test", () => undefined);
}

async function expectRefused(attempt: Promise<unknown>, message: RegExp): Promise<void> {
  const refusal: unknown = await attempt.catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(UsageError);
  expect(refusal).toHaveProperty("message", expect.stringMatching(message));
}
