import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "vitest";
import { RegistryClient } from "../support/client.ts";
import { runCommand } from "./command.ts";
import type { CommandOptions, CommandOutput } from "./command.ts";
import { everyClientIsRequired, findProgram } from "./requirement.ts";
import type { Requirement } from "./requirement.ts";
import { openTarget } from "./target.ts";
import { openWire } from "./wire.ts";

/** Runs a client in the test's folder, with nothing of the user's own configuration. */
export type Run = (program: string, args: readonly string[], options?: CommandOptions) => Promise<CommandOutput>;

/** How a client names a tag or a digest in a repository, by default in the test's own. */
export type Reference = (reference: string, place?: { readonly name?: string; readonly host?: string }) => string;

/**
 * The `test` of one client. A test's title opens with its action and a colon (`push: …`): the table that the run
 * prints at its end has a column for each action.
 *
 * Fixtures: `target`, the registry, one for the file; `repository`, a fresh one for each test; `reference`, how a
 * client names a tag or digest in it; `wire`, a proxy that shows what the client asked; `folder`, the test's own,
 * and `fileFolder`, the file's; `run`.
 */
export function clientTest(...requirements: readonly Requirement[]) {
  return test
    .extend("requirements", { auto: true }, async ({ skip }) => {
      for (const requirement of requirements) {
        const lack = await requirement();
        if (lack === null) continue;
        if (!lack.ofKernel && everyClientIsRequired()) throw new Error(`${lack.reason}, and here it must run`);
        skip(lack.reason);
      }
    })
    .extend("registryUrl", { scope: "file" }, process.env["MOORAGE_URL"] ?? "")
    .extend("target", { scope: "file" }, async ({ registryUrl }, { onCleanup }) => {
      const target = await openTarget(registryUrl);
      onCleanup(() => target.close());
      return target;
    })
    .extend("temporaryPrefix", { scope: "file" }, join(tmpdir(), "moorage-client-"))
    .extend("fileFolder", { scope: "file" }, async ({ temporaryPrefix }, { onCleanup }) => {
      const folder = await mkdtemp(temporaryPrefix);
      onCleanup(() => removeFolder(folder));
      return folder;
    })
    .extend("folder", async ({ temporaryPrefix }, { onCleanup }) => {
      const folder = await mkdtemp(temporaryPrefix);
      onCleanup(() => removeFolder(folder));
      return folder;
    })
    .extend("registry", ({ target }) => new RegistryClient(target.url, fetch))
    .extend("repository", ({ registry }) => registry.repository(`clients/${randomUUID()}`))
    .extend("wire", async ({ target }, { onCleanup }) => {
      const wire = await openWire(target.url);
      onCleanup(() => wire.close());
      return wire;
    })
    .extend("reference", ({ target, repository }): Reference => {
      return (reference, { name = repository.name, host = target.host } = {}) =>
        `${host}/${name}${reference.includes(":") ? "@" : ":"}${reference}`;
    })
    .extend("run", ({ folder }): Run => {
      const env = cleanEnvironment(folder);
      return async (program, args, options = {}) => {
        const path = (await findProgram(program)) ?? program;
        return runCommand(path, args, { cwd: folder, ...options, env: { ...env, ...options.env } });
      };
    });
}

function removeFolder(folder: string): Promise<void> {
  return rm(folder, { recursive: true, force: true });
}

/** The user's environment without the places where clients keep credentials and settings. */
export function cleanEnvironment(home: string): NodeJS.ProcessEnv {
  return {
    ...process.env,
    HOME: home,
    DOCKER_CONFIG: undefined,
    REGISTRY_AUTH_FILE: undefined,
    XDG_CONFIG_HOME: undefined,
    XDG_CACHE_HOME: undefined,
    XDG_DATA_HOME: undefined,
    XDG_RUNTIME_DIR: undefined,
  };
}

/** `test` with the fixtures that every client has. */
export type ClientTest = ReturnType<typeof clientTest>;
