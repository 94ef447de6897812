import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "vitest";
import { RegistryClient } from "../support/client.ts";
import { basic } from "../support/credentials.ts";
import { createAccounts } from "./accounts.ts";
import type { Accounts, Credentials } from "./accounts.ts";
import { runCommand } from "./command.ts";
import type { CommandOptions, CommandOutput } from "./command.ts";
import { removeDockerLogin } from "./docker-login.ts";
import { everyClientIsRequired, findProgram } from "./requirement.ts";
import type { Requirement } from "./requirement.ts";
import { openTarget } from "./target.ts";
import type { Target } from "./target.ts";
import { openWire } from "./wire.ts";

/** Runs a client in the test's folder, with nothing of the user's own configuration. */
export type Run = (program: string, args: readonly string[], options?: CommandOptions) => Promise<CommandOutput>;

/** How a client names a tag or a digest in a repository, by default in the test's own. */
export type Reference = (reference: string, place?: { readonly name?: string; readonly host?: string }) => string;

/** Tells a client of a registry, before and beside any login; most need to be told nothing. */
export type Connect = (host: string) => Promise<void>;

/** Logs a client in, with the command of its own that its users type. */
export type Login = (host: string, credentials: Credentials) => Promise<void>;

/** Logs a client out, with its own command where it has one. */
export type Logout = (host: string) => Promise<void>;

declare module "vitest" {
  interface TaskMeta {
    /** Whether the client came as `accounts.member` in all that it did; else the test says whom it came as. */
    asMember?: boolean;
  }
}

/** Of what is no client, and so logs in nowhere. */
const noLogin: Login = async () => undefined;

/**
 * The `test` of one client. A test's title opens with its action and a colon (`push: …`): the table that the run
 * prints at its end has a column for each action.
 *
 * Fixtures: `target`, the registry, one for the file, and `accounts`, its users; `registry`, as its administrator;
 * `repository`, a fresh one for each test; `reference`, how a client names a tag or digest in it; `wire`, a proxy that
 * shows what the client asked, and `strangerWire`, one at whose host it is not logged in; `folder`, the test's own, and
 * `fileFolder`, the file's; `run`. The client's file says with `login`, `logout` (and `connect`) how it logs in: before
 * each test it does, as `accounts.member`.
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
    .extend("registry", ({ target }) => asAdministrator(target))
    .extend("accounts", { scope: "file" }, async ({ target }, { onCleanup }): Promise<Accounts> => {
      const accounts = await createAccounts(asAdministrator(target), target.administrator);
      onCleanup(() => accounts.close());
      return accounts;
    })
    .extend("repository", ({ registry }) => registry.repository(`clients/${randomUUID()}`))
    .extend("connect", (): Connect => async () => undefined)
    .extend("login", (): Login => noLogin)
    .extend("logout", ({ folder }): Logout => {
      return (host) => removeDockerLogin(folder, host);
    })
    .extend("loggedIn", { auto: true }, async ({ task, target, connect, login, accounts }) => {
      await connect(target.host);
      await login(target.host, accounts.member);
      task.meta.asMember = login !== noLogin;
    })
    .extend("wire", async ({ target, connect, login, accounts }, { onCleanup }) => {
      const wire = await openWire(target.url);
      onCleanup(() => wire.close());
      await connect(wire.host);
      await login(wire.host, accounts.member);
      return wire;
    })
    .extend("strangerWire", async ({ task, target, connect }, { onCleanup }) => {
      task.meta.asMember = false;
      const wire = await openWire(target.url);
      onCleanup(() => wire.close());
      await connect(wire.host);
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

function asAdministrator({ url, administrator: { user, password } }: Target): RegistryClient {
  return new RegistryClient(url, fetch, basic(user, password));
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
    // Where podman, skopeo and buildah keep a login; without it, in a folder of the machine's.
    XDG_RUNTIME_DIR: home,
  };
}

/** `test` with the fixtures that every client has. */
export type ClientTest = ReturnType<typeof clientTest>;
