import { createHmac } from "node:crypto";
import { env } from "cloudflare:workers";
import { type CryptoKey, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { afterEach, describe, expect, it, vi } from "vitest";
import { signingKeys } from "../../src/access/signing-keys.ts";
import { BEARER_LIFE_SECONDS } from "../../src/limits.ts";
import { expectError } from "../conformance/error-envelope.ts";
import {
  bearerFor,
  claimsOf,
  HOST,
  makeAccessToken,
  makeRobot,
  makeUser,
  signedBearer,
  tokenAnswer,
} from "../fixtures/principals.ts";
import { environmentWith, freshRepository, registryWith, serve } from "../fixtures/registry.ts";
import { type RegistryClient, utf8 } from "../support/client.ts";
import { asAdmin } from "../support/credentials.ts";

/** Bearers are good for what their signature says, at this registry, until they end; everything else is nobody's. */

const registry = registryWith(environmentWith({}));
const name = freshRepository().name;
const scope = `repository:${name}:pull`;

/** Let in: the repository is not there, which only those are told who may know. */
const inStatus = 404;

async function statusOf(authorization: string, at: RegistryClient = registry): Promise<number> {
  const response = await at.as(authorization).repository(name).listTags();
  if (response.status === 401) {
    const challenge = response.headers.get("WWW-Authenticate");
    expect(challenge).toContain('error="invalid_token"');
    await expectError(response, 401, "UNAUTHORIZED");
  }
  return response.status;
}

const encode = (value: unknown): string =>
  new TextEncoder().encode(JSON.stringify(value)).toBase64({ alphabet: "base64url", omitPadding: true });

interface Parts {
  readonly header?: Readonly<Record<string, unknown>>;
  readonly claims?: JWTPayload;
  readonly without?: readonly string[];
  readonly key?: CryptoKey | Uint8Array;
}

/** A bearer as the registry signs them, with its own key, but for what the test changes. */
async function forged({ header = {}, claims = {}, without = [], key }: Parts = {}): Promise<string> {
  const { current } = await signingKeys(env);
  const now = Math.floor(Date.now() / 1000);
  const all: JWTPayload = {
    iss: "moorage",
    aud: HOST,
    sub: "user:x",
    iat: now,
    exp: now + BEARER_LIFE_SECONDS,
    access: [{ type: "repository", name, actions: ["pull"] }],
    ...claims,
  };
  const payload = Object.fromEntries(Object.entries(all).filter(([claim]) => !without.includes(claim)));
  const token = await new SignJWT(payload)
    .setProtectedHeader({ alg: "EdDSA", kid: current.id, typ: "moorage-bearer+jwt", ...header })
    .sign(key ?? current.privateKey);
  return `Bearer ${token}`;
}

const typ = "moorage-bearer+jwt";

describe("a bearer of this registry", () => {
  it("is let in: what is forged below differs in what it says alone", async () => {
    expect(await statusOf(await forged())).toBe(inStatus);
  });

  it("names its principal and no secret, and is signed with EdDSA under a key id", async () => {
    const { user, token } = await makeRobot([`${name}:pull`]);
    const bearer = await bearerFor(registry, token.authorization, scope);
    expect(claimsOf(bearer)).toMatchObject({ sub: `user:${user.name}`, tid: token.id, aud: HOST, iss: "moorage" });
    expect(JSON.stringify(claimsOf(bearer))).not.toContain(token.secret);
    const [header = ""] = bearer.slice("Bearer ".length).split(".");
    expect(JSON.parse(new TextDecoder().decode(Uint8Array.fromBase64(header, { alphabet: "base64url" })))).toEqual({
      alg: "EdDSA",
      typ,
      kid: (await signingKeys(env)).current.id,
    });
  });
});

const hour = 3600;
const now = (): number => Math.floor(Date.now() / 1000);

describe("nobody's is a bearer", () => {
  it.each<readonly [string, () => Promise<string>]>([
    ["of another key under the same key id", async () => forged({ key: (await generateKeyPair("EdDSA")).privateKey })],
    ["under an unknown key id", async () => forged({ header: { kid: "other" } })],
    ["without a key id", async () => forged({ header: { kid: undefined } })],
    ["of another type of the same key", async () => forged({ header: { typ: "JWT" } })],
    ["without a type", async () => forged({ header: { typ: undefined } })],
    ["of another issuer", async () => forged({ claims: { iss: "elsewhere" } })],
    ["without an issuer", async () => forged({ without: ["iss"] })],
    ["of another audience", async () => forged({ claims: { aud: "registry.example" } })],
    ["of another port", async () => forged({ claims: { aud: `${HOST}:8080` } })],
    ["without an audience", async () => forged({ without: ["aud"] })],
    ["that has ended", async () => forged({ claims: { iat: now() - hour, exp: now() - 1 } })],
    ["that ends at this second", async () => forged({ claims: { exp: now() } })],
    ["without an end", async () => forged({ without: ["exp"] })],
    ["without a beginning", async () => forged({ without: ["iat"] })],
    [
      "that is older than a bearer lives, though its end is far",
      async () => forged({ claims: { iat: now() - BEARER_LIFE_SECONDS - 1, exp: now() + hour } }),
    ],
    ["of the future", async () => forged({ claims: { iat: now() + hour, exp: now() + hour + 1 } })],
    ["that begins later", async () => forged({ claims: { nbf: now() + hour } })],
    ["without a subject", async () => forged({ without: ["sub"] })],
    ["without access", async () => forged({ without: ["access"] })],
    [
      "with a right that there is not",
      async () => forged({ claims: { access: [{ type: "repository", name, actions: ["pull", "admin"] }] } }),
    ],
    ["with `*` for rights", async () => forged({ claims: { access: [{ type: "repository", name, actions: ["*"] }] } })],
    ["with an extension that must be understood", async () => forged({ header: { crit: ["exp"] } }).catch(() => "x")],
  ])("%s", async (_what, make) => {
    const authorization = await make();
    expect(
      await statusOf(authorization === "x" ? `Bearer ${encode({ alg: "EdDSA", crit: ["x"] })}.e30.e30` : authorization),
    ).toBe(401);
  });

  it("with alg none, in any spelling", async () => {
    const [, payload = ""] = (await forged()).split(".");
    const { current } = await signingKeys(env);
    for (const alg of ["none", "None", "NONE", ""]) {
      for (const signature of ["", "AA"]) {
        const header = encode({ alg, typ, kid: current.id });
        expect(await statusOf(`Bearer ${header}.${payload}.${signature}`)).toBe(401);
      }
    }
  });

  it("with HS256, under whatever of the key is known, or its secret text", async () => {
    const { publicKeys, current } = await signingKeys(env);
    const publicKey = publicKeys.get(current.id);
    if (publicKey === undefined) throw new Error("no public key");
    const jwk = await exportJWK(publicKey);
    const keys = [
      utf8(JSON.stringify(jwk)),
      utf8(jwk.x ?? ""),
      Uint8Array.fromBase64(jwk.x ?? "", { alphabet: "base64url" }),
      utf8(env.SIGNING_KEY),
      utf8(env.TOKEN_KEY),
      new Uint8Array(createHmac("sha256", Uint8Array.fromBase64(env.TOKEN_KEY)).update("refresh-token-key").digest()),
    ];
    for (const key of keys) expect(await statusOf(await forged({ header: { alg: "HS256" }, key }))).toBe(401);
  });

  it("that brings its own key along", async () => {
    const { publicKey, privateKey } = await generateKeyPair("EdDSA", { extractable: true });
    const jwk = await exportJWK(publicKey);
    expect(await statusOf(await forged({ key: privateKey, header: { jwk } }))).toBe(401);
    expect(await statusOf(await forged({ key: privateKey, header: { jwk, kid: undefined } }))).toBe(401);
    expect(await statusOf(await forged({ key: privateKey, header: { jku: "https://elsewhere.example" } }))).toBe(401);
  });

  it("whose claims were changed", async () => {
    const bearer = await bearerFor(registry, asAdmin, `repository:${name}/other:pull`);
    const [header, , signature] = bearer.split(".");
    const claims = claimsOf(bearer);
    for (const changed of [
      { ...claims, access: [{ type: "repository", name, actions: ["pull"] }] },
      { ...claims, sub: "user:other" },
      { ...claims, exp: now() + hour },
      { ...claims, catalog: [["**"]] },
    ]) {
      expect(await statusOf(`${header ?? ""}.${encode(changed)}.${signature ?? ""}`)).toBe(401);
    }
    expect(await statusOf(bearer.slice(0, -1))).toBe(401);
    expect(await statusOf(`${header ?? ""}.${encode(claims)}`)).toBe(401);
  });

  it("that is a refresh token", async () => {
    const response = await registry.request("GET", "/token", { query: { scope, offline_token: "true" } });
    const { refresh_token: refreshToken } = tokenAnswer.parse(await response.json());
    expect(refreshToken).toBeDefined();
    expect(await statusOf(`Bearer ${refreshToken ?? ""}`)).toBe(401);
  });

  it.each(["QQ==", "a.b.c", "..", ".", "e30.e30.e30", "null", "%00", "x".repeat(30_000), "x".repeat(40_000)])(
    "%j",
    async (text) => {
      expect(await statusOf(`Bearer ${text}`)).toBe(401);
    },
  );
});

/** Ed25519 seeds, as `openssl rand -base64 32` prints them. */
const seed = (letter: string): string => btoa(letter.repeat(32));

const withKeys = (keys: { readonly SIGNING_KEY: string; readonly PREVIOUS_SIGNING_KEY?: string }): RegistryClient =>
  registryWith(environmentWith(keys));

describe("a rotation of SIGNING_KEY", () => {
  const before = withKeys({ SIGNING_KEY: seed("a") });
  const during = withKeys({ SIGNING_KEY: seed("b"), PREVIOUS_SIGNING_KEY: seed("a") });
  const after = withKeys({ SIGNING_KEY: seed("b") });
  const emptied = withKeys({ SIGNING_KEY: seed("b"), PREVIOUS_SIGNING_KEY: "" });

  it("leaves the tokens of before good until the previous key is taken away", async () => {
    const old = await bearerFor(before, asAdmin, scope);
    expect(await statusOf(old, before)).toBe(inStatus);
    expect(await statusOf(old, during)).toBe(inStatus);
    expect(await statusOf(old, after)).toBe(401);
    expect(await statusOf(old, emptied)).toBe(401);
  });

  it("signs with the new key from its beginning", async () => {
    const fresh = await bearerFor(during, asAdmin, scope);
    expect(await statusOf(fresh, during)).toBe(inStatus);
    expect(await statusOf(fresh, after)).toBe(inStatus);
    expect(await statusOf(fresh, before)).toBe(401);
  });

  it("leaves refresh tokens good: they are of TOKEN_KEY", async () => {
    const given = await before.request("GET", "/token", { query: { offline_token: "true" } });
    const refreshToken = tokenAnswer.parse(await given.json()).refresh_token ?? "";
    const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: refreshToken, scope }).toString();
    const response = await after.as(null).request("POST", "/token", { body });
    expect(response.status).toBe(200);
    expect(await statusOf(`Bearer ${tokenAnswer.parse(await response.json()).token}`, after)).toBe(inStatus);
  });

  it("of TOKEN_KEY ends access tokens and refresh tokens", async () => {
    const { token } = await makeRobot([`${name}:pull`]);
    const given = await registry.request("GET", "/token", { query: { offline_token: "true" } });
    const refreshToken = tokenAnswer.parse(await given.json()).refresh_token ?? "";
    const other = registryWith(environmentWith({ TOKEN_KEY: seed("c") }));
    await expectError(await other.as(token.authorization).ping(), 401, "UNAUTHORIZED");
    const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: refreshToken }).toString();
    await expectError(await other.as(null).request("POST", "/token", { body }), 401, "UNAUTHORIZED");
  });
});

describe("the life of a bearer", () => {
  afterEach(() => vi.restoreAllMocks());

  it("is no longer than it says, to the second", async () => {
    const startMs = Math.ceil(Date.now() / 1000) * 1000;
    const clock = vi.spyOn(Date, "now").mockReturnValue(startMs);
    const bearer = await bearerFor(registry, asAdmin, scope);
    clock.mockReturnValue(startMs + BEARER_LIFE_SECONDS * 1000 - 1);
    expect(await statusOf(bearer)).toBe(inStatus);
    clock.mockReturnValue(startMs + BEARER_LIFE_SECONDS * 1000);
    expect(await statusOf(bearer)).toBe(401);
  });

  it("is not made longer by its having been let in before", async () => {
    const startMs = Math.ceil(Date.now() / 1000) * 1000;
    const clock = vi.spyOn(Date, "now").mockReturnValue(startMs);
    const bearer = await forged({ claims: { exp: startMs / 1000 + hour } });
    expect(await statusOf(bearer)).toBe(inStatus);
    clock.mockReturnValue(startMs + (BEARER_LIFE_SECONDS + 1) * 1000);
    expect(await statusOf(bearer)).toBe(401);
  });

  it("is let in at one host alone, though it was just let in there", async () => {
    const bearer = await bearerFor(registry, asAdmin, scope);
    expect(await statusOf(bearer)).toBe(inStatus);
    const elsewhere = await serve(
      new Request(`http://other.example/v2/${name}/tags/list`, { headers: { Authorization: bearer } }),
    );
    expect(elsewhere.status).toBe(401);
  });

  it("is that of what it was given for: nobody else's principal, and its own access token's id", async () => {
    const user = await makeUser([`${name}:pull`]);
    const [one, other] = [await makeAccessToken(user), await makeAccessToken(user)];
    for (const token of [one, other]) {
      expect(claimsOf(await bearerFor(registry, token.authorization, scope))).toMatchObject({ tid: token.id });
    }
  });

  it("does not reach another host of the same registry", async () => {
    const bearer = await signedBearer({ name: "admin", tokenId: null }, [scope], { audience: "other.example" });
    expect(await statusOf(bearer)).toBe(401);
  });
});
