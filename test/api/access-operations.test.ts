import { env } from "cloudflare:workers";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { CREDENTIAL_KEPT_SECONDS, PASSWORD_ITERATIONS } from "../../src/limits.ts";
import { image, push } from "../fixtures/artifacts.ts";
import { bodyOf } from "../fixtures/content.ts";
import { bearerFor, freshAddress, makeRobot, makeUser, refreshTokenFor } from "../fixtures/principals.ts";
import { freshRepository, registryWith } from "../fixtures/registry.ts";
import { begin } from "../fixtures/upload.ts";
import type { RegistryClient } from "../support/client.ts";
import { countOperations } from "../support/counted-env.ts";
import { asAdmin, basic } from "../support/credentials.ts";

/** What it costs to know who asks: D1 round trips beside those of the request itself. */

const run = crypto.randomUUID();
const name = `${run}/app`;
// What is cached costs nothing, which edge.test.ts tells.
const counted = countOperations({ ...env, ANONYMOUS_PULL: `${run}/*`, GC_GRACE_SECONDS: "0" });
const registry = (): RegistryClient => registryWith(counted.env, freshAddress());

let digest = "";

beforeAll(async () => {
  const pushed = await push(registry().repository(name), image(), "v1");
  digest = pushed.blobs[0]?.descriptor.digest ?? "";
  // The key that signs upload locations is read once in an isolate's life.
  await begin(freshRepository(registry()));
});

afterEach(() => vi.restoreAllMocks());

/** D1 round trips of one request. */
async function queriesOf(send: () => Promise<Response>, status: number): Promise<number> {
  counted.reset();
  const response = await send();
  expect(response.status).toBe(status);
  await bodyOf(response);
  return counted.counts.d1;
}

/** The requests of the hot path, with what they cost themselves; those with a status are none that everybody may send. */
const requests = [
  { what: "a ping", send: async (as: RegistryClient) => as.ping(), status: 200, own: 0 },
  { what: "a manifest's GET", send: async (as: RegistryClient) => as.repository(name).getManifest("v1"), own: 1 },
  { what: "a manifest's HEAD", send: async (as: RegistryClient) => as.repository(name).headManifest("v1"), own: 1 },
  { what: "a blob's GET", send: async (as: RegistryClient) => as.repository(name).getBlob(digest), own: 1 },
  { what: "a blob's HEAD", send: async (as: RegistryClient) => as.repository(name).headBlob(digest), own: 1 },
  { what: "the tags", send: async (as: RegistryClient) => as.repository(name).listTags(), own: 1 },
  {
    what: "an upload's POST",
    send: async (as: RegistryClient) => as.repository(name).startUpload(),
    status: 202,
    own: 0,
  },
];

describe.each(requests.filter(({ status }) => status === undefined))("$what, which is public", ({ send, own }) => {
  it("asks D1 nothing for who it is, where nobody says it", async () => {
    expect(await queriesOf(async () => send(registry().as(null)), 200)).toBe(own);
    expect(await queriesOf(async () => send(registry().as("Bearer QQ==")), 200)).toBe(own);
  });
});

describe.each(requests)("$what", ({ send, status = 200, own }) => {
  it("by a bearer asks D1 nothing for it, the first time neither", async () => {
    const { token } = await makeRobot([`${name}:pull,push`]);
    for (const authorization of [asAdmin, token.authorization]) {
      const bearer = await bearerFor(registry(), authorization, `repository:${name}:pull,push`);
      expect(await queriesOf(async () => send(registry().as(bearer)), status)).toBe(own);
      expect(await queriesOf(async () => send(registry().as(bearer)), status)).toBe(own);
    }
  });

  it("by a bearer that is 60 seconds old asks D1 once in 60 seconds; by the administrator's never", async () => {
    const { token } = await makeRobot([`${name}:pull,push`]);
    // A whole second, in which tokens are counted.
    const startMs = Math.ceil(Date.now() / 1000) * 1000;
    const clock = vi.spyOn(Date, "now").mockReturnValue(startMs);
    for (const [authorization, cost] of [
      [asAdmin, 0],
      [token.authorization, 1],
    ] as const) {
      clock.mockReturnValue(startMs);
      const bearer = await bearerFor(registry(), authorization, `repository:${name}:pull,push`);
      const another = await bearerFor(registry(), authorization, `repository:${name}:pull,push`);
      const found: number[] = [];
      for (const ms of [59_999, 60_000, 60_000, 119_999, 120_000, 120_000]) {
        clock.mockReturnValue(startMs + ms);
        found.push(await queriesOf(async () => send(registry().as(bearer)), status));
      }
      expect(found).toEqual([own, own + cost, own, own, own + cost, own]);
      expect(await queriesOf(async () => send(registry().as(another)), status)).toBe(own);
    }
  });

  it("by the administrator's password asks D1 nothing for it", async () => {
    expect(await queriesOf(async () => send(registry()), status)).toBe(own);
  });

  it("by an access token asks D1 once in 60 seconds, as Basic and as a bearer", async () => {
    const { token } = await makeRobot([`${name}:pull,push`]);
    const startMs = Date.now();
    const clock = vi.spyOn(Date, "now").mockReturnValue(startMs);
    const both = [token.authorization, `Bearer ${token.secret}`];
    const costs = async (): Promise<number[]> => {
      const found: number[] = [];
      for (const authorization of [...both, ...both]) {
        found.push(await queriesOf(async () => send(registry().as(authorization)), status));
      }
      return found;
    };
    const once = [own + 1, own, own, own];
    expect(await costs()).toEqual(once);
    clock.mockReturnValue(startMs + CREDENTIAL_KEPT_SECONDS * 1000 - 1);
    expect(await costs()).toEqual([own, own, own, own]);
    clock.mockReturnValue(startMs + CREDENTIAL_KEPT_SECONDS * 1000);
    expect(await costs()).toEqual(once);
  });
});

describe("a refusal", () => {
  it("of a bearer whose access token has expired asks D1 once in 60 seconds", async () => {
    const startMs = Math.ceil(Date.now() / 1000) * 1000;
    const clock = vi.spyOn(Date, "now").mockReturnValue(startMs);
    const { token } = await makeRobot([`${run}/hidden:pull`], { expiresAtMs: startMs + 1000 });
    const bearer = await bearerFor(registry(), token.authorization, `repository:${run}/hidden:pull`);
    clock.mockReturnValue(startMs + 60_000);
    expect(await queriesOf(async () => registry().as(bearer).ping(), 401)).toBe(1);
    expect(await queriesOf(async () => registry().as(bearer).ping(), 401)).toBe(0);
  });

  it("asks D1 nothing to nobody and to a bearer for something else, where a bad one is no other", async () => {
    const elsewhere = await bearerFor(registry(), asAdmin, `repository:${run}/other:pull`);
    for (const authorization of [null, "Bearer QQ==", elsewhere]) {
      const send = async (): Promise<Response> => registry().as(authorization).repository(`${name}/none`).startUpload();
      expect([await queriesOf(send, 401), await queriesOf(send, 401)]).toEqual([0, 0]);
    }
  });

  it("notes the first of a thing to one who may not have it, and not the next", async () => {
    const { token } = await makeRobot([]);
    const send = async (): Promise<Response> =>
      registry().as(token.authorization).repository(`${name}/none`).startUpload();
    expect((await registry().as(token.authorization).ping()).status).toBe(200);
    expect([await queriesOf(send, 403), await queriesOf(send, 403)]).toEqual([1, 0]);
  });

  it("of what is no access token's form looks up nothing: one row notes it", async () => {
    const { user } = await makeRobot([]);
    for (const authorization of [
      basic(user.name, "guess"),
      basic("admin", "guess"),
      basic(user.name, "moorage_short"),
    ]) {
      expect(await queriesOf(async () => registry().as(authorization).ping(), 401)).toBe(1);
    }
  });
});

describe("/token", () => {
  const scope = `repository:${name}:pull`;
  const ask = async (authorization: string | null): Promise<Response> =>
    registry().as(authorization).request("GET", "/token", { query: { scope } });

  it("asks D1 nothing without credentials", async () => {
    expect(await queriesOf(async () => ask(null), 200)).toBe(0);
  });

  it("notes the login: 1 for the administrator, 2 for an access token and for a password", async () => {
    const { user, token } = await makeRobot([`${name}:pull`]);
    const { name: person } = await makeUser([`${name}:pull`], { password: "of a person" });
    expect(await queriesOf(async () => ask(asAdmin), 200)).toBe(1);
    for (const authorization of [token.authorization, `Bearer ${token.secret}`, basic(person, "of a person")]) {
      expect(await queriesOf(async () => ask(authorization), 200)).toBe(2);
    }
    expect(await queriesOf(async () => ask(basic(user.name, "guess")), 401)).toBe(2);
  });

  it.each([
    { what: "the administrator's", of: async () => asAdmin, queries: 1 },
    { what: "an access token's", of: async () => (await makeRobot([])).token.authorization, queries: 2 },
  ])("costs as much for $what refresh token", async ({ of, queries }) => {
    const refreshToken = await refreshTokenFor(registry(), await of());
    const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: refreshToken, scope }).toString();
    expect(await queriesOf(async () => registry().as(null).request("POST", "/token", { body }), 200)).toBe(queries);
  });
});

/** Iterations of each hash that a request made. */
const hashesOf = async (send: () => Promise<Response>, status: number): Promise<number[]> => {
  const derived = vi.spyOn(crypto.subtle, "deriveBits");
  derived.mockClear();
  expect((await send()).status).toBe(status);
  return derived.mock.calls.map(([algorithm]) =>
    typeof algorithm === "object" && "iterations" in algorithm ? algorithm.iterations : 0,
  );
};

const loginAtToken = async (user: string, secret: string): Promise<Response> =>
  registry().as(basic(user, secret)).request("GET", "/token");

describe("the slow hash of people's passwords", () => {
  const password = "of a person";

  it("is made once at /token for a user's password, and as long for who has none, or is not there", async () => {
    const { name: person } = await makeUser([], { password });
    const { name: robot } = await makeUser([]);
    expect(await hashesOf(async () => loginAtToken(person, password), 200)).toEqual([PASSWORD_ITERATIONS]);
    for (const user of [person, robot, `nobody-${run}`]) {
      expect(await hashesOf(async () => loginAtToken(user, "guess"), 401)).toEqual([PASSWORD_ITERATIONS]);
    }
  });

  it("is made nowhere else, nor for what is no person's password", async () => {
    const { name: person } = await makeUser([], { password });
    const { user, token } = await makeRobot([]);
    const refreshToken = await refreshTokenFor(registry(), basic(person, password));
    const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: refreshToken }).toString();
    const bearer = await bearerFor(registry(), token.authorization);
    for (const [send, status] of [
      [async () => registry().as(basic(person, password)).ping(), 401],
      [async () => registry().as(basic(person, "guess")).ping(), 401],
      [async () => registry().as(basic("admin", "guess")).request("GET", "/token"), 401],
      [async () => registry().as(asAdmin).request("GET", "/token"), 200],
      [async () => registry().as(token.authorization).request("GET", "/token"), 200],
      [
        async () =>
          registry()
            .as(basic(user.name, `moorage_${"A".repeat(43)}`))
            .request("GET", "/token"),
        401,
      ],
      [
        async () => registry().as(basic(user.name, "eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.")).request("GET", "/token"),
        401,
      ],
      [async () => registry().as(bearer).ping(), 200],
      [async () => registry().as(null).request("POST", "/token", { body }), 200],
    ] as const) {
      expect(await hashesOf(send, status)).toEqual([]);
    }
  });
});
