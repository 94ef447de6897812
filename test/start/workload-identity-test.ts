import { test } from "vitest";
import { asAdmin, basic } from "../support/credentials.ts";
import { RegistryClient, expectStatus, utf8 } from "../support/client.ts";
import { OidcIssuer } from "../support/oidc-issuer.ts";
import { type Registry, startRegistry } from "../support/registry.ts";

/** What a test says of a trust rule; the rest is that which `trust` has for all. */
export interface RuleOfTest {
  readonly name?: string;
  readonly issuer?: string;
  readonly audience?: string;
  readonly conditions?: Readonly<Record<string, readonly string[] | string>>;
  readonly grants?: readonly string[];
}

export const audience = "https://registry.test";

/**
 * The `test` of who comes with another issuer's token. Fixtures: `registry`, one for the file; `issuer`, the test's own,
 * so that what the registry has learnt of one says nothing of another; `administrator`, a client; `trust`, which makes
 * a rule of the test's issuer and returns its name.
 */
export const identityTest = test
  .extend("vars", { scope: "file" }, (): Record<string, string> => ({}))
  .extend("registry", { scope: "file" }, async ({ vars }, { onCleanup }): Promise<Registry> => {
    const registry = await startRegistry({ vars });
    onCleanup(() => registry.stop());
    return registry;
  })
  .extend("issuer", async ({ task: _task }, { onCleanup }): Promise<OidcIssuer> => {
    const issuer = await OidcIssuer.start();
    onCleanup(() => issuer.close());
    return issuer;
  })
  .extend("administrator", ({ registry }) => clientOf(registry, asAdmin))
  .extend("trust", ({ administrator, issuer }) => async (rule: RuleOfTest = {}): Promise<string> => {
    const name = rule.name ?? `rule-${crypto.randomUUID()}`;
    const conditions = { sub: "a job" };
    const whole = { name, issuer: issuer.url, audience, conditions, grants: ["team/*:pull,push"], ...rule };
    await expectStatus(await postJson(administrator, "/api/v1/trust-rules", whole), 201);
    return name;
  });

/**
 * From an address of its own: the brake on failed logins is for one address.
 * @param headers go with every request
 */
export function clientOf(
  registry: Pick<Registry, "url">,
  authorization: string | null,
  headers: Readonly<Record<string, string>> = {},
): RegistryClient {
  const address = `10.${Array.from(crypto.getRandomValues(new Uint8Array(3)), String).join(".")}`;
  const send = (url: string, init: RequestInit = {}): Promise<Response> =>
    fetch(url, {
      ...init,
      headers: { "CF-Connecting-IP": address, ...headers, ...Object.fromEntries(new Headers(init.headers)) },
    });
  return new RegistryClient(registry.url, send, authorization);
}

/** A client that says a token as the password of Basic with every request, as curl does. */
export function clientWith(registry: Pick<Registry, "url">, idToken: string): RegistryClient {
  return clientOf(registry, basic("ci", idToken));
}

export function postJson(client: RegistryClient, path: string, value: unknown): Promise<Response> {
  return client.request("POST", path, {
    headers: { "Content-Type": "application/json" },
    body: utf8(JSON.stringify(value)),
  });
}
