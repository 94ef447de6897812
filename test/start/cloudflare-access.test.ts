import { describe, expect } from "vitest";
import { z } from "zod";
import { expectStatus, type RegistryClient } from "../support/client.ts";
import { asAdmin, basic } from "../support/credentials.ts";
import { type KeysBehaviour, OidcIssuer, type SignOptions } from "../support/oidc-issuer.ts";
import { commandLine } from "../support/registry.ts";
import { expectRefusal, runNode, startTest } from "./start-test.ts";
import { clientOf, identityTest, postJson } from "./workload-identity-test.ts";

/** As Access writes it. */
const audienceTag = "32eafc7626e974616deaf0dc3ce63d7bcbed58a2731e84d06bc3cdf1b53c4228";

/** `team` stands for the team's domain at Access: it signs, and has its keys where Access has them. */
const accessTest = identityTest
  .extend("host", { scope: "file" }, "127.0.0.1")
  .extend("team", { scope: "file" }, async ({ host }, { onCleanup }): Promise<OidcIssuer> => {
    const team = await OidcIssuer.start(host);
    onCleanup(() => team.close());
    return team;
  })
  .extend("vars", { scope: "file" }, ({ team }): Record<string, string> => settingsOf(team))
  /** Sends what Access adds to each request of a browser. */
  .extend("browser", ({ registry, team }) => {
    return async (claims: Claims, headers: Readonly<Record<string, string>> = {}) =>
      clientOf(registry, null, { "Cf-Access-Jwt-Assertion": await accessToken(team, claims), ...headers });
  })
  /** Makes a user, and returns its e-mail address. */
  .extend("user", ({ administrator }) => async (grants: readonly string[]): Promise<string> => {
    const name = `user-${crypto.randomUUID()}`;
    const email = `${name}@example.com`;
    await expectStatus(await postJson(administrator, "/api/v1/users", { name, email, grants }), 201);
    return email;
  });

type Claims = Readonly<Record<string, unknown>>;

function settingsOf(team: OidcIssuer): Record<string, string> {
  return {
    ACCESS_TEAM_DOMAIN: team.url,
    ACCESS_AUD: `${"0".repeat(64)} ${audienceTag}`,
    ACCESS_ADMINS: "Ada@example.com, kim@example.com",
    ANONYMOUS_PULL: "public/*",
  };
}

function accessToken(team: OidcIssuer, claims: Claims, options: SignOptions = {}): Promise<string> {
  const usual = { aud: [audienceTag], type: "app", identity_nonce: "6ei69kawdKzMIAPF", country: "US" };
  return team.sign({ ...usual, sub: crypto.randomUUID(), ...claims }, options);
}

const identitySchema = z.object({ principal: z.string(), admin: z.boolean() });

async function whoIs(client: RegistryClient): Promise<unknown> {
  const response = await client.request("GET", "/api/v1/whoami");
  return response.status === 200 ? identitySchema.parse(await response.json()) : response.status;
}

const nobody = 401;

describe("a browser that comes through Cloudflare Access", () => {
  accessTest("is the user of its e-mail address", async ({ browser, user }) => {
    const email = await user(["team/*:pull"]);
    const client = await browser({ email });
    expect(await whoIs(client)).toEqual({ principal: `user:${email.replace(/@.*/, "")}`, admin: false });
    await expectStatus(await client.ping(), 200);
    await expectStatus(await client.repository("team/app").listTags(), 404);
    await expectStatus(await client.repository("team/app").startUpload(), 403);
    await expectStatus(await client.repository("other/app").listTags(), 403);
    await expectStatus(await client.request("GET", "/api/v1/users"), 403);
  });

  accessTest.for(["RS256", "ES256"] as const)("may have a token of %s", async (algorithm, { registry, team }) => {
    const token = await accessToken(team, { email: "ada@example.com" }, { algorithm });
    const client = clientOf(registry, null, { "Cf-Access-Jwt-Assertion": token });
    expect(await whoIs(client)).toMatchObject({ admin: true });
  });

  accessTest("may have a token of one application, not in a list", async ({ browser }) => {
    expect(await whoIs(await browser({ email: "ada@example.com", aud: audienceTag }))).toMatchObject({ admin: true });
  });

  accessTest("may write its address in capitals", async ({ browser, user }) => {
    const email = await user([]);
    expect(await whoIs(await browser({ email: email.toUpperCase() }))).toMatchObject({ admin: false });
  });

  accessTest("is an administrator of its own name where the settings say so", async ({ browser }) => {
    const client = await browser({ email: "ada@EXAMPLE.com" });
    expect(await whoIs(client)).toEqual({ principal: "oidc:cloudflare-access:ada@example.com", admin: true });
    await expectStatus(await client.request("GET", "/api/v1/users"), 200);
  });

  accessTest("is nobody with an address that is nobody's", async ({ browser }) => {
    const client = await browser({ email: "eve@example.com" });
    expect(await whoIs(client)).toBe(nobody);
    await expectStatus(await client.repository("public/app").listTags(), 404);
    await expectStatus(await client.repository("team/app").listTags(), 401);
  });

  accessTest("is nobody once its user is disabled", async ({ browser, user, administrator }) => {
    const email = await user([]);
    const client = await browser({ email });
    expect(await whoIs(client)).toMatchObject({ admin: false });
    const change = {
      headers: { "Content-Type": "application/json" },
      body: new TextEncoder().encode('{"disabled":true}'),
    };
    await expectStatus(await administrator.request("PATCH", `/api/v1/users/${email.replace(/@.*/, "")}`, change), 200);
    expect(await whoIs(client)).toBe(nobody);
  });

  accessTest("is who its Authorization header says, even nobody", async ({ browser }) => {
    const claims = { email: "ada@example.com" };
    expect(await whoIs((await browser(claims)).as(asAdmin))).toMatchObject({ principal: "admin" });
    expect(await whoIs((await browser(claims)).as(basic("admin", "wrong")))).toBe(401);
    expect(await whoIs((await browser(claims)).as("Bearer QQ=="))).toBe(nobody);
    expect(await whoIs((await browser(claims)).as(basic("", "")))).toBe(nobody);
  });
});

/** A token that must not do, for the address of an administrator. */
type BadToken = (team: OidcIssuer, other: OidcIssuer) => string | Promise<string>;

const email = "ada@example.com";
const now = (): number => Math.floor(Date.now() / 1000);

const badTokens: Readonly<Record<string, BadToken>> = {
  "of another application": (team) => accessToken(team, { email, aud: ["f".repeat(64)] }),
  "of no application": (team) => accessToken(team, { email, aud: undefined }),
  "of another team": (_team, other) => accessToken(other, { email }),
  "in the team's name, by another one's key": (team, other) => accessToken(other, { email, iss: team.url }),
  "of the team's key, in another one's name": (team, other) => accessToken(team, { email, iss: other.url }),
  "that has expired": (team) => accessToken(team, { email, iat: now() - 90, nbf: now() - 90, exp: now() - 1 }),
  "that is not valid yet": (team) => accessToken(team, { email, nbf: now() + 120 }),
  "of a service, which has no address": (team) => accessToken(team, { common_name: "robot.access", sub: "" }),
  "whose address becomes an administrator's in lower case alone": (team) =>
    accessToken(team, { email: "\u212Aim@example.com" }),
  "whose address has more around it": (team) => accessToken(team, { email: "Ada <ada@example.com>" }),
  "whose address ends in another line": (team) => accessToken(team, { email: "ada@example.com\n" }),
  "that never expires": (team) => accessToken(team, { email, exp: undefined }),
  "that brings its key along (jwk)": (team, other) =>
    accessToken(
      other,
      { email, iss: team.url },
      { header: { kid: team.publicKey("RS256").kid ?? "", jwk: other.publicKey("RS256") } },
    ),
  "that says where its key is (jku)": (team, other) =>
    accessToken(other, { email, iss: team.url }, { header: { jku: `${other.url}/cdn-cgi/access/certs` } }),
  "whose address is a list": (team) => accessToken(team, { email: [email] }),
  "without signature (alg: none)": (team) => team.unsigned({ email, aud: [audienceTag] }),
  "signed with the public key as secret (HS256)": (team) => team.signWithPublicKey({ email, aud: [audienceTag] }),
  "of an unknown kid": (team) => accessToken(team, { email }, { header: { kid: "unknown" } }),
  "that is none": () => "ada@example.com",
};

describe("Cf-Access-Jwt-Assertion makes nobody known by a token", () => {
  accessTest.for(Object.keys(badTokens))("%s", async (name, { registry, team, issuer: other }) => {
    const token = (await badTokens[name]?.(team, other)) ?? "";
    const client = clientOf(registry, null, { "Cf-Access-Jwt-Assertion": token });
    expect(await whoIs(client)).toBe(nobody);
    await expectStatus(await client.repository("public/app").listTags(), 404);
    expect(other.asked).toEqual([]);
  });
});

describe("a token of Cloudflare Access", () => {
  accessTest("is good in its header alone", async ({ registry, team }) => {
    const token = await accessToken(team, { email });
    for (const authorization of [`Bearer ${token}`, basic("ada@example.com", token)]) {
      expect(await whoIs(clientOf(registry, authorization))).toBe(nobody);
    }
    expect(await whoIs(clientOf(registry, null, { Cookie: `CF_Authorization=${token}` }))).toBe(nobody);
    expect(await whoIs(clientOf(registry, null, { "Cf-Access-Authenticated-User-Email": email }))).toBe(nobody);
    const both = clientOf(registry, null, { "Cf-Access-Jwt-Assertion": `${token}, ${token}` });
    expect(await whoIs(both)).toBe(nobody);
  });

  accessTest("is not exchanged at /token: what a page may ask there is nobody's", async ({ registry, browser }) => {
    const query = { scope: "repository:team/app:pull,push" };
    const response = await (await browser({ email })).request("GET", "/token", { query });
    const { token } = z.object({ token: z.string() }).parse(await (await expectStatus(response, 200)).json());
    await expectStatus(await clientOf(registry, `Bearer ${token}`).repository("team/app").startUpload(), 401);
  });
});

describe("a page of another site", () => {
  const rule = { name: "mine", issuer: "https://issuer.test", audience: "x", conditions: { sub: "x" }, grants: [] };

  accessTest.for([
    { "Sec-Fetch-Site": "cross-site" },
    { "Sec-Fetch-Site": "same-site" },
    { Origin: "https://elsewhere.test" },
    { Origin: "null" },
  ])("changes nothing in the name of a browser's user: %j", async (headers, { browser }) => {
    const client = await browser({ email: "ada@example.com" }, headers);
    await expectStatus(await postJson(client, "/api/v1/trust-rules", rule), 403);
    await expectStatus(await client.request("DELETE", "/api/v1/users/somebody"), 403);
    await expectStatus(await client.request("PATCH", "/api/v1/users/somebody"), 403);
    await expectStatus(await client.request("POST", "/api/v1/users/somebody/tokens"), 403);
    await expectStatus(await client.repository("team/app").deleteManifest("v1"), 403);
    await expectStatus(await client.repository("team/app").startUpload(), 403);
  });

  accessTest("of this one does", async ({ browser }) => {
    const client = await browser({ email: "ada@example.com" }, { "Sec-Fetch-Site": "same-origin" });
    await expectStatus(await client.repository("team/app").startUpload(), 202);
  });
});

describe("the keys of a team", () => {
  accessTest("are asked for where Access has them, and nothing else is", async ({ team, browser }) => {
    expect(await whoIs(await browser({ email: "ada@example.com" }))).toMatchObject({ admin: true });
    expect(new Set(team.asked)).toEqual(new Set(["/cdn-cgi/access/certs"]));
  });

  const failures: readonly KeysBehaviour[] = ["hangs", "is huge", "redirects", "fails"];

  startTest.for(failures)(
    "that can't be had (it %s) make nobody known",
    async (behaviour, { start, onTestFinished }) => {
      const team = await OidcIssuer.start();
      onTestFinished(() => team.close());
      team.keysBehaviour = behaviour;
      const registry = await start({ vars: settingsOf(team) });
      const token = await accessToken(team, { email: "ada@example.com" });
      const client = clientOf(registry, null, { "Cf-Access-Jwt-Assertion": token });
      expect(await whoIs(client)).toBe(nobody);
      await expectStatus(await client.repository("public/app").listTags(), 404);
      expect(team.asked).toEqual(["/cdn-cgi/access/certs"]);
    },
  );
});

describe("without the settings", () => {
  startTest("Cf-Access-Jwt-Assertion says nothing", async ({ start, onTestFinished }) => {
    const team = await OidcIssuer.start();
    onTestFinished(() => team.close());
    const registry = await start();
    const token = await accessToken(team, { email: "ada@example.com" });
    expect(await whoIs(clientOf(registry, null, { "Cf-Access-Jwt-Assertion": token }))).toBe(nobody);
    expect(team.asked).toEqual([]);
  });

  startTest.for([
    [{ ACCESS_TEAM_DOMAIN: "my-team.cloudflareaccess.com" }, 'ACCESS_AUD: "" has no audience tag'],
    [{ ACCESS_AUD: audienceTag }, 'ACCESS_TEAM_DOMAIN: "" names no team'],
    [{ ACCESS_ADMINS: "ada@example.com" }, 'ACCESS_TEAM_DOMAIN: "" names no team'],
  ] as const)("of the other half nothing starts: %j", async ([vars, message], { stateDir }) => {
    const ended = await runNode(commandLine({ vars }, stateDir));
    expectRefusal(ended, new RegExp(`^moorage: ${message}, and ACCESS_\\w+ .*\\n$`));
  });
});
