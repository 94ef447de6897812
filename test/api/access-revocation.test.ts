import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { forgetLogins } from "../../src/access/login.ts";
import { BEARER_LIFE_SECONDS, CREDENTIAL_KEPT_SECONDS } from "../../src/limits.ts";
import { expectError } from "../conformance/error-envelope.ts";
import {
  bearerFor,
  disable,
  freshAddress,
  makeAccessToken,
  makeRobot,
  makeUser,
  refreshTokenFor,
  revoke,
  setGrants,
  setPassword,
  type TestUser,
  tokenAnswer,
} from "../fixtures/principals.ts";
import { image, push } from "../fixtures/artifacts.ts";
import { environmentWith, freshRepository, registryWith } from "../fixtures/registry.ts";
import { type RegistryClient } from "../support/client.ts";
import { asAdmin, basic } from "../support/credentials.ts";

/** What is taken away ends within its bound: a credential and a bearer in 60 seconds, the next bearer at once. */

const environment = environmentWith({});
const registry = (): RegistryClient => registryWith(environment, freshAddress());
const name = freshRepository().name;
const grants = [`${name}:pull`];
const scope = `repository:${name}:pull`;

let startMs = 0;
let clock = vi.spyOn(Date, "now");

beforeEach(() => {
  // A whole second: a bearer's life is counted in them.
  startMs = Math.ceil(Date.now() / 1000) * 1000;
  clock = vi.spyOn(Date, "now").mockReturnValue(startMs);
});
afterEach(() => vi.restoreAllMocks());

const at = (seconds: number): void => {
  clock.mockReturnValue(startMs + seconds * 1000);
};

/** 404: let in, to a repository that is not there. */
const status = async (authorization: string): Promise<number> =>
  (await registry().as(authorization).repository(name).listTags()).status;

/** Of a bearer that was given when the test began. */
async function expectEndAfter60s(bearer: string): Promise<void> {
  at(CREDENTIAL_KEPT_SECONDS - 1);
  expect(await status(bearer)).toBe(404);
  at(CREDENTIAL_KEPT_SECONDS);
  expect(await status(bearer)).toBe(401);
}

/** As another isolate would. */
async function recreate(user: string): Promise<void> {
  await env.DB.prepare("DELETE FROM users WHERE name = ?1").bind(user).run();
  await makeUser(grants, { name: user, password: "of a person" });
}

async function tokenStatus(authorization: string): Promise<number> {
  return (await registry().as(authorization).request("GET", "/token", { query: { scope } })).status;
}

const refreshTokenOf = async (authorization: string): Promise<string> => refreshTokenFor(registry(), authorization);

async function refresh(refreshToken: string): Promise<Response> {
  const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: refreshToken, scope });
  return registry().as(null).request("POST", "/token", { body: body.toString() });
}

const ways = [
  { what: "a revoked access token", end: async ({ token }: Awaited<ReturnType<typeof makeRobot>>) => revoke(token) },
  { what: "a disabled user", end: async ({ user }: Awaited<ReturnType<typeof makeRobot>>) => disable(user) },
];

describe.each(ways)("$what", ({ end }) => {
  it("is refused by Basic after 60 seconds at the latest, by every isolate that knew it", async () => {
    const robot = await makeRobot(grants);
    expect(await status(robot.token.authorization)).toBe(404);
    await end(robot);
    at(CREDENTIAL_KEPT_SECONDS - 1);
    expect(await status(robot.token.authorization)).toBe(404);
    at(CREDENTIAL_KEPT_SECONDS);
    expect(await status(robot.token.authorization)).toBe(401);
  });

  it("is refused at once by an isolate that did not know it, or was told to forget", async () => {
    const robot = await makeRobot(grants);
    await end(robot);
    expect(await status(robot.token.authorization)).toBe(401);
    const other = await makeRobot(grants);
    expect(await status(other.token.authorization)).toBe(404);
    await end(other);
    forgetLogins();
    expect(await status(other.token.authorization)).toBe(401);
  });

  it("ends its bearers after 60 seconds at the latest", async () => {
    const robot = await makeRobot(grants);
    const bearer = await bearerFor(registry(), robot.token.authorization, scope);
    await end(robot);
    await expectEndAfter60s(bearer);
  });

  it("ends its bearers so late in their life too, in every isolate that asked after them before", async () => {
    const robot = await makeRobot(grants);
    const bearer = await bearerFor(registry(), robot.token.authorization, scope);
    at(2 * CREDENTIAL_KEPT_SECONDS);
    expect(await status(bearer)).toBe(404);
    await end(robot);
    at(3 * CREDENTIAL_KEPT_SECONDS - 1);
    expect(await status(bearer)).toBe(404);
    forgetLogins();
    expect(await status(bearer)).toBe(401);
    at(3 * CREDENTIAL_KEPT_SECONDS);
    expect(await status(bearer)).toBe(401);
  });

  it("ends its bearers after CACHE_TTL where that is less", async () => {
    const robot = await makeRobot(grants);
    const bearer = await bearerFor(registry(), robot.token.authorization, scope);
    const hasty = registryWith(environmentWith({ CACHE_TTL: "5" }), freshAddress())
      .as(bearer)
      .repository(name);
    await end(robot);
    at(4);
    expect((await hasty.listTags()).status).toBe(404);
    at(5);
    expect((await hasty.listTags()).status).toBe(401);
  });

  it("is given no more bearers, though the isolate knew it a moment ago: else the bound would be the sum", async () => {
    const robot = await makeRobot(grants);
    expect(await status(robot.token.authorization)).toBe(404);
    expect(await tokenStatus(robot.token.authorization)).toBe(200);
    await end(robot);
    expect(await tokenStatus(robot.token.authorization)).toBe(401);
    expect(await tokenStatus(`Bearer ${robot.token.secret}`)).toBe(401);
    expect(await status(robot.token.authorization)).toBe(401);
  });

  it("ends its refresh tokens at once", async () => {
    const robot = await makeRobot(grants);
    const refreshToken = await refreshTokenOf(robot.token.authorization);
    expect((await refresh(refreshToken)).status).toBe(200);
    await end(robot);
    await expectError(await refresh(refreshToken), 401, "UNAUTHORIZED");
  });
});

describe("an access token that expires", () => {
  it("ends to the millisecond, though the isolate keeps what it knows of it", async () => {
    const { token } = await makeRobot(grants, { expiresAtMs: startMs + 10_000 });
    expect(await status(token.authorization)).toBe(404);
    at(9.999);
    expect(await status(token.authorization)).toBe(404);
    at(10);
    expect(await status(token.authorization)).toBe(401);
  });

  it("ends its bearers within 60 seconds, and at once where the isolate has asked after them", async () => {
    const { token } = await makeRobot(grants, { expiresAtMs: startMs + 90_000 });
    const bearer = await bearerFor(registry(), token.authorization, scope);
    at(89);
    expect(await status(bearer)).toBe(404);
    at(90);
    expect(await status(bearer)).toBe(401);
  });

  it("ends its refresh tokens with it", async () => {
    const { token } = await makeRobot(grants, { expiresAtMs: startMs + 10_000 });
    const refreshToken = await refreshTokenOf(token.authorization);
    at(10);
    await expectError(await refresh(refreshToken), 401, "UNAUTHORIZED");
  });
});

describe("grants that are taken away", () => {
  it("end by Basic and in a bearer within 60 seconds, in the next bearer at once", async () => {
    const { user, token } = await makeRobot(grants);
    const bearer = await bearerFor(registry(), token.authorization, scope);
    expect(await status(token.authorization)).toBe(404);
    await setGrants(user, []);
    expect(await status(await bearerFor(registry(), token.authorization, scope))).toBe(403);
    at(CREDENTIAL_KEPT_SECONDS - 1);
    expect(await status(bearer)).toBe(404);
    at(CREDENTIAL_KEPT_SECONDS);
    expect(await status(token.authorization)).toBe(403);
    const response = await registry().as(bearer).repository(name).listTags();
    expect(response.headers.get("www-authenticate")).toContain('error="insufficient_scope"');
    await expectError(response, 401, "UNAUTHORIZED");
  });

  it("leave a bearer what is left, of what it was given for and no more", async () => {
    const [kept, lost, other] = ["kept", "lost", "other"].map((part) => `${name}/${part}`);
    const { user, token } = await makeRobot([`${name}/*:pull,push`]);
    const scopes = [`repository:${kept}:pull`, `repository:${lost}:pull`, "registry:catalog:*"];
    const bearer = await bearerFor(registry(), token.authorization, ...scopes);
    await setGrants(user, [`${kept}:pull,push`, `${other}:pull`]);
    at(CREDENTIAL_KEPT_SECONDS);
    const client = registry().as(bearer);
    const found = await Promise.all(
      [kept, lost, other].map(async (each = "") => (await client.repository(each).listTags()).status),
    );
    expect(found).toEqual([404, 401, 401]);
    expect((await client.repository(kept ?? "").startUpload()).status).toBe(401);
  });

  it("list no more in a catalogue, with a bearer for it", async () => {
    const [kept = "", lost = ""] = ["kept", "lost"].map((part) => `${name}/listed/${part}`);
    for (const each of [kept, lost]) await push(registry().as(asAdmin).repository(each), image(), "v1");
    const { user, token } = await makeRobot([`${name}/listed/*:pull`]);
    const bearer = await bearerFor(registry(), token.authorization, "registry:catalog:*");
    const listed = async (): Promise<unknown> => (await registry().as(bearer).listRepositories()).json();
    expect(await listed()).toEqual({ repositories: [kept, lost] });
    await setGrants(user, [`${kept}:pull`]);
    at(CREDENTIAL_KEPT_SECONDS);
    expect(await listed()).toEqual({ repositories: [kept] });
  });

  it("do not come back in a bearer that was given before", async () => {
    const { user, token } = await makeRobot([]);
    const bearer = await bearerFor(registry(), token.authorization, scope);
    await setGrants(user, grants);
    at(CREDENTIAL_KEPT_SECONDS);
    expect(await status(bearer)).toBe(403);
  });
});

describe("a bearer for a person's password", () => {
  it.each([
    { what: "another password", end: async (user: TestUser) => setPassword(user, "of another") },
    { what: "another user of the name", end: async ({ name: user }: TestUser) => recreate(user) },
  ])("ends with $what, after 60 seconds at the latest", async ({ end }) => {
    const user = await makeUser(grants, { password: "of a person" });
    const bearer = await bearerFor(registry(), basic(user.name, "of a person"), scope);
    await end(user);
    await expectEndAfter60s(bearer);
  });

  it("is none of the other password, which this isolate has asked after before", async () => {
    const user = await makeUser(grants, { password: "of a person" });
    const old = await bearerFor(registry(), basic(user.name, "of a person"), scope);
    await setPassword(user, "of another");
    const bearer = await bearerFor(registry(), basic(user.name, "of another"), scope);
    at(CREDENTIAL_KEPT_SECONDS);
    expect([await status(bearer), await status(old), await status(bearer)]).toEqual([404, 401, 404]);
  });
});

describe("a deployment with other settings", () => {
  const everybody = `${name}/open`;
  const open = (): RegistryClient => registryWith(environmentWith({ ANONYMOUS_PULL: `${name}/*` }), freshAddress());
  const statusThere = async (client: RegistryClient, bearer: string): Promise<number> =>
    (await client.as(bearer).repository(everybody).listTags()).status;

  it("ends what everybody might, in nobody's bearers too", async () => {
    const bearer = await bearerFor(open(), null, `repository:${everybody}:pull`);
    at(CREDENTIAL_KEPT_SECONDS);
    expect([await statusThere(open(), bearer), await statusThere(registry(), bearer)]).toEqual([404, 401]);
  });

  it("ends the administrator's bearers with the password", async () => {
    const bearer = await bearerFor(registry(), asAdmin, scope);
    const elsewhere = registryWith(environmentWith({ ADMIN_PASSWORD: "another one" }), freshAddress()).as(bearer);
    at(CREDENTIAL_KEPT_SECONDS);
    expect((await elsewhere.repository(name).listTags()).status).toBe(401);
    expect(await status(bearer)).toBe(404);
  });
});

describe("a bearer of one from whom nothing was taken", () => {
  it("is good to its end, and no longer", async () => {
    const { token } = await makeRobot(grants);
    const { name: person } = await makeUser(grants, { password: "of a person" });
    for (const authorization of [token.authorization, basic(person, "of a person"), asAdmin]) {
      at(0);
      const bearer = await bearerFor(registry(), authorization, scope);
      at(BEARER_LIFE_SECONDS - 1);
      expect(await status(bearer)).toBe(404);
      at(BEARER_LIFE_SECONDS);
      expect(await status(bearer)).toBe(401);
    }
  });
});

/** @returns the header that says the bearer which a refresh token is given */
async function bearerOf(refreshToken: string): Promise<string> {
  return `Bearer ${tokenAnswer.parse(await (await refresh(refreshToken)).json()).token}`;
}

describe("a refresh token", () => {
  it("of a user's password ends when the password changes, and when the user is disabled", async () => {
    const user = await makeUser(grants, { password: "the first" });
    const first = await refreshTokenOf(basic(user.name, "the first"));
    expect((await refresh(first)).status).toBe(200);
    await setPassword(user, "the second");
    await expectError(await refresh(first), 401, "UNAUTHORIZED");
    const second = await refreshTokenOf(basic(user.name, "the second"));
    await disable(user);
    await expectError(await refresh(second), 401, "UNAUTHORIZED");
  });

  it("of a password ends though the same password is set again: its hash is another", async () => {
    const user = await makeUser(grants, { password: "the same" });
    const refreshToken = await refreshTokenOf(basic(user.name, "the same"));
    await setPassword(user, "the same");
    await expectError(await refresh(refreshToken), 401, "UNAUTHORIZED");
  });

  it("of the administrator ends when ADMIN_PASSWORD changes", async () => {
    const refreshToken = await refreshTokenOf(asAdmin);
    expect((await refresh(refreshToken)).status).toBe(200);
    const changed = registryWith(environmentWith({ ADMIN_PASSWORD: "another" }), freshAddress());
    const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: refreshToken, scope });
    await expectError(await changed.as(null).request("POST", "/token", { body: body.toString() }), 401, "UNAUTHORIZED");
  });

  it("does not outlive 90 days", async () => {
    const refreshToken = await refreshTokenOf(asAdmin);
    at(90 * 86_400 - 1);
    expect((await refresh(refreshToken)).status).toBe(200);
    at(90 * 86_400);
    await expectError(await refresh(refreshToken), 401, "UNAUTHORIZED");
  });

  it("is good for what its login may do now: grants that were added later too, and narrowed as its access token is", async () => {
    const user = await makeUser([]);
    const refreshToken = await refreshTokenOf((await makeAccessToken(user)).authorization);
    const narrowed = await refreshTokenOf((await makeAccessToken(user, { grants: [] })).authorization);
    await setGrants(user, grants);
    expect(await status(await bearerOf(refreshToken))).toBe(404);
    expect(await status(await bearerOf(narrowed))).toBe(403);
  });

  it("is no password, no bearer and no access token", async () => {
    const { user, token } = await makeRobot(grants);
    const refreshToken = await refreshTokenOf(token.authorization);
    for (const authorization of [
      `Bearer ${refreshToken}`,
      basic(user.name, refreshToken),
      basic("admin", refreshToken),
    ]) {
      expect(await status(authorization)).toBe(401);
      expect(await tokenStatus(authorization)).toBe(401);
    }
  });

  it("that was changed in any letter is none", async () => {
    const refreshToken = await refreshTokenOf(asAdmin);
    const [header = "", payload = "", signature = ""] = refreshToken.split(".");
    for (const text of [
      `${header}.${payload}.`,
      `${header}.${payload}`,
      `${header}.${payload}.${signature.slice(1)}A`,
      `${header}.${payload.slice(0, -1)}.${signature}`,
      "",
    ]) {
      await expectError(await refresh(text), 401, "UNAUTHORIZED");
    }
  });
});
