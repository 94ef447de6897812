import { env } from "cloudflare:workers";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { forgetTrustRules } from "../../src/access/workload-identity.ts";
import { BEARER_LIFE_SECONDS, CREDENTIAL_KEPT_SECONDS } from "../../src/limits.ts";
import { refused, send } from "../fixtures/management.ts";
import { bearerFor, freshAddress } from "../fixtures/principals.ts";
import { environmentWith, registryWith } from "../fixtures/registry.ts";
import { basic } from "../support/credentials.ts";

/** When a rule that another isolate changed or deleted, and an ID token that ends, are good for nothing any more. */

const audience = "https://registry.example";
const repository = "team/app";
const scope = `repository:${repository}:pull`;
const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true });
const keys = { keys: [{ ...(await exportJWK(publicKey)), kid: "a key", alg: "ES256", use: "sig" }] };

let startMs = 0;
let clock = vi.spyOn(Date, "now");
let issuer = "";
let rule = "";

beforeEach(async () => {
  // A whole second: tokens are counted in them.
  startMs = Math.ceil(Date.now() / 1000) * 1000;
  clock = vi.spyOn(Date, "now").mockReturnValue(startMs);
  issuer = `https://${crypto.randomUUID()}.example`;
  rule = `rule-${crypto.randomUUID()}`;
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input) => {
    const url = input instanceof Request ? input.url : String(input);
    if (url === `${issuer}/keys`) return Response.json(keys);
    if (url === `${issuer}/.well-known/openid-configuration`) {
      return Response.json({ issuer, jwks_uri: `${issuer}/keys` });
    }
    throw new TypeError(`nothing is at ${url}`);
  });
  const said = { name: rule, issuer, audience, conditions: { sub: "a job" }, grants: [`${repository}:pull`] };
  expect((await send("POST", "trust-rules", said)).status).toBe(201);
});
afterEach(() => vi.restoreAllMocks());

const at = (seconds: number): void => {
  clock.mockReturnValue(startMs + seconds * 1000);
};

/** @returns the header that says it */
async function idToken(lifeSeconds = 3600): Promise<string> {
  const issuedAt = startMs / 1000;
  const token = await new SignJWT({ jti: crypto.randomUUID() })
    .setProtectedHeader({ alg: "ES256", kid: "a key" })
    .setIssuer(issuer)
    .setAudience(audience)
    .setSubject("a job")
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + lifeSeconds)
    .sign(privateKey);
  return basic("ci", token);
}

/** 404: let in, to a repository that is not there. */
async function status(authorization: string): Promise<number> {
  return (await registryWith(env, freshAddress()).as(authorization).repository(repository).listTags()).status;
}

async function tokenStatus(authorization: string): Promise<number> {
  return (await registryWith(env, freshAddress()).as(authorization).request("GET", "/token", { query: { scope } }))
    .status;
}

const exchange = async (authorization: string): Promise<string> =>
  bearerFor(registryWith(env, freshAddress()), authorization, scope);

/** As another isolate would: this one is not told. */
async function deleteElsewhere(): Promise<void> {
  await env.DB.prepare("DELETE FROM trust_rules WHERE name = ?1").bind(rule).run();
}

async function changeElsewhere(column: "conditions" | "grants" | "audience", value: string): Promise<void> {
  await env.DB.prepare(`UPDATE trust_rules SET ${column} = ?2 WHERE name = ?1`).bind(rule, value).run();
}

describe("a rule that another isolate deleted", () => {
  it("lets nobody in by Basic after 60 seconds at the latest", async () => {
    const authorization = await idToken();
    expect(await status(authorization)).toBe(404);
    await deleteElsewhere();
    at(CREDENTIAL_KEPT_SECONDS - 1);
    expect(await status(authorization)).toBe(404);
    at(CREDENTIAL_KEPT_SECONDS);
    expect(await status(authorization)).toBe(401);
  });

  it("gives no bearer from then on: the last one ends after 60 seconds at the latest", async () => {
    const authorization = await idToken();
    const bearer = await exchange(authorization);
    await deleteElsewhere();
    expect(await tokenStatus(authorization)).toBe(401);
    // What /token has seen, this isolate knows.
    expect(await status(authorization)).toBe(401);
    at(CREDENTIAL_KEPT_SECONDS - 1);
    expect(await status(bearer)).toBe(404);
    at(CREDENTIAL_KEPT_SECONDS);
    expect(await status(bearer)).toBe(401);
    at(CREDENTIAL_KEPT_SECONDS + 1);
    expect(await status(bearer)).toBe(401);
  });

  it("is missed by no rule that is made after it, though its bearers are known to have ended", async () => {
    const bearer = await exchange(await idToken());
    await deleteElsewhere();
    at(CREDENTIAL_KEPT_SECONDS);
    expect(await status(bearer)).toBe(401);
    await env.DB.prepare(
      "INSERT INTO trust_rules (name, issuer, audience, conditions, grants, created_at) VALUES (?1, ?2, ?3, ?4, ?5, 0)",
    )
      .bind(`${rule}-again`, issuer, audience, JSON.stringify({ sub: ["a job"] }), JSON.stringify(["team/app:pull"]))
      .run();
    expect(await status(await idToken())).toBe(404);
  });

  it("is asked for again for the tokens of an hour, which are verified once", async () => {
    const authorization = await idToken();
    await exchange(authorization);
    await exchange(authorization);
    expect(globalThis.fetch).toHaveBeenCalledTimes(2);
    await deleteElsewhere();
    expect(await tokenStatus(authorization)).toBe(401);
  });
});

describe("a rule that another isolate changed", () => {
  it.each([
    ["conditions", JSON.stringify({ sub: ["another job"] }), 401],
    ["audience", "https://another.example", 401],
    ["grants", JSON.stringify(["team/other:pull"]), 403],
  ] as const)("in its %s holds at /token at once", async (column, value, expected) => {
    const authorization = await idToken();
    expect(await status(authorization)).toBe(404);
    await changeElsewhere(column, value);
    const bearer = (await tokenStatus(authorization)) === 401 ? null : await exchange(authorization);
    expect(bearer === null ? 401 : await status(bearer)).toBe(expected);
  });

  it.each([
    ["conditions", JSON.stringify({ sub: ["another job"] }), "invalid_token"],
    ["audience", "https://another.example", "invalid_token"],
    ["grants", JSON.stringify(["team/other:pull"]), "insufficient_scope"],
  ] as const)("in its %s holds for the bearers given before after 60 seconds at the latest", async (...change) => {
    const [column, value, error] = change;
    const bearer = await exchange(await idToken());
    await changeElsewhere(column, value);
    at(CREDENTIAL_KEPT_SECONDS - 1);
    expect(await status(bearer)).toBe(404);
    at(CREDENTIAL_KEPT_SECONDS);
    const client = registryWith(env, freshAddress()).as(bearer);
    const response = await client.repository(repository).listTags();
    expect(response.headers.get("www-authenticate")).toContain(`error="${error}"`);
    expect(response.status).toBe(401);
  });

  it("leaves a bearer what the other rules grant that took its job", async () => {
    const beside = { name: `${rule}-beside`, issuer, audience, conditions: { iss: issuer, sub: "a job" } };
    expect((await send("POST", "trust-rules", { ...beside, grants: ["team/beside:pull"] })).status).toBe(201);
    const client = registryWith(env, freshAddress());
    const bearer = await bearerFor(client, await idToken(), scope, "repository:team/beside:pull");
    await deleteElsewhere();
    at(CREDENTIAL_KEPT_SECONDS);
    expect(await status(bearer)).toBe(401);
    expect((await client.as(bearer).repository("team/beside").listTags()).status).toBe(404);
  });

  it("so that it trusts everybody of a public issuer trusts nobody", async () => {
    const authorization = await idToken();
    expect(await status(authorization)).toBe(404);
    issuer = "https://gitlab.com";
    await env.DB.prepare("UPDATE trust_rules SET issuer = ?2 WHERE name = ?1").bind(rule, issuer).run();
    const ofAnybody = await idToken();
    expect(await tokenStatus(ofAnybody)).toBe(401);
    await changeElsewhere("conditions", JSON.stringify({ sub: ["a job"], project_id: ["*", "1"] }));
    expect(await tokenStatus(ofAnybody)).toBe(401);
    await deleteElsewhere();
  });
});

describe("an ID token", () => {
  it("ends when it says, on every endpoint, though it was verified before", async () => {
    const authorization = await idToken(30);
    expect(await status(authorization)).toBe(404);
    at(29);
    expect(await status(authorization)).toBe(404);
    at(30);
    expect(await status(authorization)).toBe(401);
    expect(await tokenStatus(authorization)).toBe(401);
  });

  it("is outlived by its bearer by no more than a bearer's life", async () => {
    const authorization = await idToken(30);
    at(29);
    const bearer = await exchange(authorization);
    at(29 + BEARER_LIFE_SECONDS - 1);
    expect(await status(bearer)).toBe(404);
    at(29 + BEARER_LIFE_SECONDS);
    expect(await status(bearer)).toBe(401);
  });

  it("costs one D1 query at its first request, and none at the next", async () => {
    forgetTrustRules();
    const asked: string[] = [];
    const DB = new Proxy(env.DB, {
      get(database, name) {
        const value: unknown = Reflect.get(database, name);
        if (typeof value !== "function") return value;
        return (...args: unknown[]): unknown => {
          if (name === "prepare") asked.push(String(args[0]));
          return Reflect.apply(value, database, args);
        };
      },
    });
    const client = registryWith(environmentWith({ DB }), freshAddress()).as(await idToken());
    expect((await client.ping()).status).toBe(200);
    expect(asked.map((sql) => /FROM (\w+)/.exec(sql)?.[1])).toEqual(["trust_rules"]);
    expect((await client.ping()).status).toBe(200);
    expect(asked).toHaveLength(1);
  });

  it("of an issuer that no rule names makes the registry ask nobody but its own database", async () => {
    const name = issuer;
    issuer = "https://nobody.example";
    const authorization = await idToken();
    const response = await registryWith(env, freshAddress()).as(authorization).ping();
    expect(await refused(response, 401, "UNAUTHORIZED")).toBe("no trust rule takes this token as it is");
    expect(globalThis.fetch).not.toHaveBeenCalled();
    issuer = name;
  });
});
