import { randomUUID } from "node:crypto";
import { z } from "zod";
import { expectStatus } from "../support/client.ts";
import type { RegistryClient } from "../support/client.ts";
import { OidcIssuer } from "../support/oidc-issuer.ts";

/** What a client logs in with. */
export interface Credentials {
  readonly user: string;
  readonly password: string;
}

/** A user with an access token in place of a password, as a team gives one to each of its robots. */
export interface Robot {
  readonly credentials: Credentials;
  readonly revoke: () => Promise<void>;
}

/** Whom the clients come as. */
export interface Accounts {
  readonly administrator: Credentials;
  /** A user whose access token may pull, push and delete in `clients/**`. */
  readonly member: Credentials;
  /** One whose access token may pull there, no more. */
  readonly reader: Credentials;
  /** A user who may what the member may, with an access token that is narrowed to these grants. */
  robot(...grants: readonly string[]): Promise<Robot>;
  /**
   * A job that has no secret stored: it logs in with the token that its OpenID Connect issuer signs for it. A trust rule
   * lets it pull and push in one repository.
   */
  job(repository: string): Promise<Credentials>;
  /** Takes the users and the trust rules out of the registry again. */
  close(): Promise<void>;
}

/** A password that is nobody's, but looks like an access token. */
export const wrongPassword = `moorage_${"A".repeat(43)}`;

/** Made in the registry, to be taken out again. */
type Made = string[];

/** @param registry as its administrator */
export async function createAccounts(registry: RegistryClient, administrator: Credentials): Promise<Accounts> {
  const made: Made = [];
  const all = "clients/**:pull,push,delete";
  const member = await createRobot(registry, made, "member", [all]);
  const reader = await createRobot(registry, made, "reader", ["clients/**:pull"]);
  let issuer: Promise<OidcIssuer> | undefined;
  return {
    administrator,
    member: member.credentials,
    reader: reader.credentials,
    robot: (...grants) => createRobot(registry, made, "robot", [all], grants),
    async job(repository) {
      issuer ??= OidcIssuer.start();
      return createJob(registry, made, await issuer, repository);
    },
    async close() {
      for (const path of made) await expectStatus(await registry.request("DELETE", path), 204);
      (await issuer)?.close();
    },
  };
}

/** @param narrowed the grants of the access token; without them it may what the user may */
async function createRobot(
  registry: RegistryClient,
  made: Made,
  kind: string,
  grants: readonly string[],
  narrowed?: readonly string[],
): Promise<Robot> {
  const user = `${kind}-${randomUUID().slice(0, 8)}`;
  await post(registry, "/api/v1/users", { name: user, grants });
  made.push(`/api/v1/users/${user}`);
  const tokens = `/api/v1/users/${user}/tokens`;
  const wanted = { name: "test", expiresInDays: 1, grants: narrowed };
  const { id, token } = createdToken.parse(await post(registry, tokens, wanted));
  return {
    credentials: { user, password: token },
    async revoke() {
      await expectStatus(await registry.request("DELETE", `${tokens}/${id}`), 204);
    },
  };
}

const createdToken = z.object({ id: z.string(), token: z.string() });

async function createJob(
  registry: RegistryClient,
  made: Made,
  issuer: OidcIssuer,
  repository: string,
): Promise<Credentials> {
  const rule = `job-${randomUUID()}`;
  const audience = registry.baseUrl;
  const conditions = { repository };
  const grants = [`${repository}:pull,push`];
  await post(registry, "/api/v1/trust-rules", { name: rule, issuer: issuer.url, audience, conditions, grants });
  made.push(`/api/v1/trust-rules/${rule}`);
  // The user's name says nothing: the token tells whose it is.
  return { user: "job", password: await issuer.sign({ aud: audience, repository }) };
}

async function post(registry: RegistryClient, path: string, body: object): Promise<unknown> {
  const headers = { "Content-Type": "application/json" };
  const answer = await registry.request("POST", path, { headers, body: JSON.stringify(body) });
  return (await expectStatus(answer, 201)).json();
}
