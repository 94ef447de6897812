import { randomUUID } from "node:crypto";
import { describe, expect } from "vitest";
import { z } from "zod";
import { basic } from "../support/credentials.ts";
import type { RegistryClient, RepositoryClient } from "../support/client.ts";
import { wrongPassword } from "./accounts.ts";
import type { Accounts, Credentials } from "./accounts.ts";
import type { Login, Logout } from "./client-test.ts";
import { writeDockerLogin } from "./docker-login.ts";
import { readTags } from "./stored.ts";
import { publicRepositories } from "./target.ts";
import { acceptedChanges, requests, tokenRequests } from "./wire.ts";
import type { Asked, Wire } from "./wire.ts";

/** Fails unless a repository holds what was pushed. */
export type Expectation = (repository: RepositoryClient) => Promise<void>;

/** What carries an artifact to a registry and back by a client's commands, whatever the artifact is. */
export interface Carrier {
  /** Stores without the client what it then pulls, under the tag `v1` if it may choose; one that signs, what it signs. */
  put(repository: RepositoryClient): Promise<void>;
  /** Pushes something that the repository does not have yet. */
  push(host: string, name: string): Promise<Expectation>;
  /** Pulls what was put, and fails unless it is that. */
  pull(host: string, name: string): Promise<void>;
  /** Deletes what was put; absent where the client deletes nothing in registries. */
  readonly remove?: (host: string, name: string) => Promise<void>;
}

export interface CarrierOptions {
  readonly name: string;
  /** Whether its login asks the registry; some only note what they are told. */
  readonly loginAsks: boolean;
  /** Whether it takes the identity tokens in the file where docker keeps its logins. */
  readonly takesIdentityTokens: boolean;
  /** How it asks for a token where it has a user's name and a password; null: it sends these with each request. */
  readonly tokensBy: "GET" | "POST" | null;
  /**
   * The first request of a push that finds its token ended, and where it gets another and goes on. null: it asks its own
   * clock alone whether a token is still good.
   */
  readonly renewsTokenAt: Asked | null;
}

/** The fixtures of a client's test and its carrier. */
interface CarrierContext {
  readonly carrier: Carrier;
  readonly accounts: Accounts;
  readonly folder: string;
  readonly login: Login;
  readonly logout: Logout;
  readonly registry: RegistryClient;
  readonly repository: RepositoryClient;
  readonly strangerWire: Wire;
}

/** Registers a test, as `test` of vitest does. */
type DeclareTest = (title: string, body: (context: CarrierContext) => Promise<void>) => void;

/** What a client says that tells its user why. */
export const refusal =
  /unauthorized|denied|forbidden|authentication required|authorization failed|invalid username.password|\b401\b|\b403\b/i;

/** How access control shows in any client: what is refused, in words, and what is not. */
export function accessPromises(test: DeclareTest, client: CarrierOptions): void {
  describe(client.name, () => {
    loginPromises(test, client);

    test("logout: what is private is refused, in the words for what is not there", async ({
      accounts,
      carrier,
      login,
      logout,
      repository,
      strangerWire,
    }) => {
      const { host } = strangerWire;
      await carrier.put(repository);
      await login(host, accounts.member);
      await carrier.pull(host, repository.name);
      await logout(host);
      const before = strangerWire.exchanges.length;
      const refused = await refusedWords(carrier.pull(host, repository.name));
      const between = strangerWire.exchanges.length;
      expect(await refusedWords(carrier.pull(host, `clients/${randomUUID()}`))).toBe(refused);
      const asked = strangerWire.exchanges.map(({ method, path, status }) => `${method} ${path}: ${String(status)}`);
      expect(asked.slice(between).map(withoutChance)).toEqual(asked.slice(before, between).map(withoutChance));
    });

    test("refuse: a push without login", async ({ carrier, repository, strangerWire }) => {
      await carrier.put(repository);
      await expectRefusedPush(carrier, repository, strangerWire);
    });

    test("refuse: a push by one who may only pull", async ({ accounts, carrier, login, repository, strangerWire }) => {
      await carrier.put(repository);
      await login(strangerWire.host, accounts.reader);
      await expectRefusedPush(carrier, repository, strangerWire);
      await carrier.pull(strangerWire.host, repository.name);
    });

    test("refuse: a push to another repository than the access token's", async ({
      accounts,
      carrier,
      login,
      registry,
      repository,
      strangerWire,
    }) => {
      const other = registry.repository(`${repository.name}/other`);
      for (const each of [repository, other]) await carrier.put(each);
      const { credentials } = await accounts.robot(`${repository.name}:pull,push`);
      await login(strangerWire.host, credentials);
      await expectRefusedPush(carrier, other, strangerWire);
      const expectPushed = await carrier.push(strangerWire.host, repository.name);
      await expectPushed(repository);
      // Who may push may not delete, unless that is granted too.
      if (carrier.remove !== undefined) {
        await expect(carrier.remove(strangerWire.host, repository.name)).rejects.toThrow(refusal);
      }
    });

    test("refuse: a push after the access token was revoked", async ({
      accounts,
      carrier,
      login,
      repository,
      strangerWire,
    }) => {
      await carrier.put(repository);
      const { credentials, revoke } = await accounts.robot("clients/**:pull,push,delete");
      await login(strangerWire.host, credentials);
      await revoke();
      await expectRefusedPush(carrier, repository, strangerWire);
    });

    test("pull: what is public, without login", async ({ carrier, registry, repository, strangerWire }) => {
      const open = registry.repository(publicName(repository));
      await carrier.put(open);
      await carrier.pull(strangerWire.host, open.name);
      const { exchanges } = strangerWire;
      expect(exchanges.filter(({ requestHeaders }) => requestHeaders.authorization?.startsWith("Basic"))).toEqual([]);
      await expectRefusedPush(carrier, open, strangerWire);
    });

    test("pull: what is public, with a login that says nothing of it", async ({
      accounts,
      carrier,
      login,
      registry,
      repository,
      strangerWire,
    }) => {
      const open = registry.repository(publicName(repository));
      await carrier.put(open);
      await login(strangerWire.host, accounts.reader);
      await carrier.pull(strangerWire.host, open.name);
    });
  });
}

/** With what a client can log in. */
function loginPromises(test: DeclareTest, client: CarrierOptions): void {
  test("login: as the administrator", async ({ accounts, carrier, login, repository, strangerWire }) => {
    await carrier.put(repository);
    await login(strangerWire.host, accounts.administrator);
    await expectPushAndPull(carrier, repository, strangerWire);
  });

  test("login: as a user with an access token", async ({ accounts, carrier, login, repository, strangerWire }) => {
    await carrier.put(repository);
    await login(strangerWire.host, accounts.member);
    await expectPushAndPull(carrier, repository, strangerWire);
    const asked = tokenRequests(strangerWire).map(({ method }) => method);
    if (client.tokensBy === null) expect(asked).toEqual([]);
    else expect(asked).toContain(client.tokensBy);
  });

  test("login: as a job with the token of its issuer, no secret stored", async ({
    accounts,
    carrier,
    login,
    registry,
    repository,
    strangerWire,
  }) => {
    await carrier.put(repository);
    await login(strangerWire.host, await accounts.job(repository.name));
    await expectPushAndPull(carrier, repository, strangerWire);
    const other = registry.repository(`${repository.name}-other`);
    await carrier.put(other);
    await expectRefusedPush(carrier, other, strangerWire);
  });

  if (client.loginAsks) {
    test("login: a wrong password is refused", async ({ accounts, login, strangerWire }) => {
      const wrong = { ...accounts.member, password: wrongPassword };
      await expect(login(strangerWire.host, wrong)).rejects.toThrow(refusal);
    });
  } else {
    test("refuse: a push with a wrong password", async ({ accounts, carrier, login, repository, strangerWire }) => {
      await carrier.put(repository);
      await login(strangerWire.host, { ...accounts.member, password: wrongPassword });
      await expectRefusedPush(carrier, repository, strangerWire);
    });
  }

  if (client.takesIdentityTokens) {
    test("login: docker's, which keeps an identity token", async ({
      accounts,
      carrier,
      folder,
      repository,
      strangerWire,
    }) => {
      await carrier.put(repository);
      const identitytoken = await identityToken(strangerWire.host, accounts.member);
      await writeDockerLogin(folder, strangerWire.host, { auth: btoa(`${accounts.member.user}:`), identitytoken });
      await expectPushAndPull(carrier, repository, strangerWire);
      const grants = tokenRequests(strangerWire).map(({ form, status }) => [form.get("grant_type"), status]);
      expect(grants).toContainEqual(["refresh_token", 200]);
    });
  }

  const { renewsTokenAt } = client;
  if (renewsTokenAt !== null) {
    test("login: the token ends in the middle of a push, and it gets another", async ({
      accounts,
      carrier,
      login,
      repository,
      strangerWire,
    }) => {
      await carrier.put(repository);
      await login(strangerWire.host, accounts.member);
      strangerWire.endTokensAt(renewsTokenAt);
      const expectPushed = await carrier.push(strangerWire.host, repository.name);
      await expectPushed(repository);
      const { method, path } = renewsTokenAt;
      expect(requests(strangerWire, method, path).map(({ status }) => status)).toContain(401);
    });
  }
}

async function expectPushAndPull(carrier: Carrier, repository: RepositoryClient, { host }: Wire): Promise<void> {
  const expectPushed = await carrier.push(host, repository.name);
  await expectPushed(repository);
  await carrier.pull(host, repository.name);
}

/** Fails unless a push, and a deletion, end with words that tell why, and the repository holds what it held. */
async function expectRefusedPush(carrier: Carrier, repository: RepositoryClient, wire: Wire): Promise<void> {
  const tags = await readTags(repository);
  const before = wire.exchanges.length;
  await expect(carrier.push(wire.host, repository.name)).rejects.toThrow(refusal);
  if (carrier.remove !== undefined) {
    await expect(carrier.remove(wire.host, repository.name)).rejects.toThrow(refusal);
  }
  expect(acceptedChanges(wire, before)).toEqual([]);
  expect(await readTags(repository)).toEqual(tags);
}

/** The lines in which a refused client says why, without what is different each time. */
async function refusedWords(attempt: Promise<unknown>): Promise<string> {
  const error: unknown = await attempt.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof Error)) throw new Error("it was not refused");
  const telling = error.message.split("\n").filter((line) => refusal.test(line));
  expect(telling).not.toEqual([]);
  return withoutChance(telling.join("\n"));
}

/** Without names, which are random here, folders and times. */
function withoutChance(text: string): string {
  return text
    .replaceAll(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "…")
    .replaceAll(/\d{4}-\d\d-\d\d[T ][\d:.+Z-]+|\d+\.\d+ ?m?s?/g, "…");
}

function publicName({ name }: RepositoryClient): string {
  return name.replace(/^clients/, publicRepositories);
}

/** What docker asks for at its login and keeps in place of the password. */
async function identityToken(host: string, { user, password }: Credentials): Promise<string> {
  const query = new URLSearchParams({ service: host, account: user, client_id: "docker", offline_token: "true" });
  const headers = { Authorization: basic(user, password) };
  const answer = await fetch(`http://${host}/token?${query.toString()}`, { headers });
  return z.object({ refresh_token: z.string() }).parse(await answer.json()).refresh_token;
}
