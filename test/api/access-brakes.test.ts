import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { attemptLogin } from "../../src/access/brakes.ts";
import {
  BRAKE_SECONDS,
  FAILED_LOGINS_MAX,
  LOGINS_AT_ONCE_MAX,
  REFUSALS_NOTED_MAX,
  REQUESTS_PER_COUNT,
  REQUESTS_WAIT_SECONDS,
} from "../../src/limits.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { bearerFor, freshAddress, makeAccessToken, makeRobot, makeUser } from "../fixtures/principals.ts";
import { environmentWith, registryWith } from "../fixtures/registry.ts";
import type { RegistryClient } from "../support/client.ts";
import { asAdmin, basic } from "../support/credentials.ts";

/** Against guessing, and against one who takes all: 429, which says when to come again. */

const run = crypto.randomUUID();
const settings: Partial<Env> = { ANONYMOUS_PULL: `${run}/open` };
const absent = `${run}/open`;

/** A counter that has had enough from the first on, and what it was asked. */
function exhausted(): { readonly keys: string[]; readonly limit: RateLimit["limit"] } {
  const keys: string[] = [];
  return {
    keys,
    limit: async ({ key }) => {
      keys.push(key);
      return { success: false };
    },
  };
}

async function expectBraked(response: Response, mostSeconds: number): Promise<void> {
  const seconds = Number(response.headers.get("Retry-After"));
  expect(response.headers.get("Retry-After")).toMatch(/^\d+$/);
  expect(seconds).toBeGreaterThanOrEqual(1);
  expect(seconds).toBeLessThanOrEqual(mostSeconds);
  expect(response.headers.get("WWW-Authenticate")).toBeNull();
  const [error] = await expectError(response, 429, "TOOMANYREQUESTS");
  expect(error?.detail).toMatchObject({ retryAfterSeconds: seconds });
}

afterEach(() => vi.restoreAllMocks());

const wrong = basic("admin", "guess");
const ping = async (registry: RegistryClient, authorization: string | null): Promise<Response> =>
  registry.as(authorization).ping();

/** The body of POST /token. */
function passwordForm(username: string, password: string): string {
  return new URLSearchParams({ grant_type: "password", username, password }).toString();
}

describe("failed logins from one address", () => {
  it("are a 429 after ten of them; then the right password too, for a minute", async () => {
    const registry = registryWith(environmentWith(settings), freshAddress());
    const statuses: number[] = [];
    for (let time = 0; time < FAILED_LOGINS_MAX + 1; time++) statuses.push((await ping(registry, wrong)).status);
    expect(statuses).toEqual([...Array.from({ length: FAILED_LOGINS_MAX }, () => 401), 429]);
    await expectBraked(await ping(registry, asAdmin), BRAKE_SECONDS);
    const startMs = Date.now();
    const clock = vi.spyOn(Date, "now").mockReturnValue(startMs + (BRAKE_SECONDS - 2) * 1000);
    await expectBraked(await ping(registry, asAdmin), 2);
    clock.mockReturnValue(startMs + BRAKE_SECONDS * 1000);
    expect((await ping(registry, asAdmin)).status).toBe(200);
  });

  it("have the platform's own counter behind them: what it has counted elsewhere brakes here", async () => {
    const address = freshAddress();
    // Its minutes are the clock's: it may begin anew meanwhile.
    await vi.waitUntil(async () => {
      const outcomes = await Promise.all(
        Array.from({ length: 2 * FAILED_LOGINS_MAX }, async () =>
          env.FAILED_LOGINS.limit({ key: address["CF-Connecting-IP"] }),
        ),
      );
      return outcomes.some(({ success }) => !success);
    });
    const registry = registryWith(environmentWith(settings), address);
    expect((await ping(registry, wrong)).status).toBe(401);
    await expectBraked(await ping(registry, asAdmin), BRAKE_SECONDS);
  });

  it("that come all at once are no more guesses than one after another, and no more rows", async () => {
    const { user } = await makeRobot([]);
    const guesses = Array.from({ length: 40 }, (_, index) =>
      basic(user.name, `moorage_${String(index).padStart(43, "A")}`),
    );
    const registry = registryWith(environmentWith(settings), freshAddress());
    const statuses = await Promise.all(guesses.map(async (guess) => (await ping(registry, guess)).status));
    expect(statuses.filter((status) => status === 401)).toHaveLength(FAILED_LOGINS_MAX);
    expect(statuses.filter((status) => status === 429)).toHaveLength(guesses.length - FAILED_LOGINS_MAX);
    const rows = await env.DB.prepare("SELECT COUNT(*) AS n FROM audit WHERE detail LIKE ?1")
      .bind(`%${user.name}%`)
      .first<number>("n");
    expect(rows).toBe(FAILED_LOGINS_MAX);
  });

  it("are looked into some at a time: the others are told to come again", async () => {
    const { user } = await makeRobot([]);
    const address = freshAddress()["CF-Connecting-IP"];
    const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
    const look = async (): Promise<string> => answered.then(() => user.name);
    const under = Array.from({ length: LOGINS_AT_ONCE_MAX }, async () => attemptLogin(address, Date.now(), look));
    await expect(attemptLogin(address, Date.now(), look)).rejects.toMatchObject({ code: "TOOMANYREQUESTS" });
    await expect(attemptLogin("192.0.2.1", Date.now(), async () => "other")).resolves.toBe("other");
    answer();
    expect(new Set(await Promise.all(under))).toEqual(new Set([user.name]));
    await expect(attemptLogin(address, Date.now(), look)).resolves.toBe(user.name);
  });

  it("do not shut out what is known to be right: another machine of the office may guess", async () => {
    const { token } = await makeRobot([]);
    const registry = registryWith(environmentWith({ ...settings, FAILED_LOGINS: exhausted() }), freshAddress());
    expect((await ping(registry, token.authorization)).status).toBe(200);
    expect((await ping(registry, wrong)).status).toBe(401);
    await expectBraked(await ping(registry, asAdmin), BRAKE_SECONDS);
    expect((await ping(registry, token.authorization)).status).toBe(200);
    expect((await registry.as(token.authorization).request("GET", "/token")).status).toBe(200);
  });

  it("that another site's page makes a browser send are refused unseen, and count nothing", async () => {
    const counter = exhausted();
    const registry = registryWith(environmentWith({ ...settings, FAILED_LOGINS: counter }), freshAddress());
    for (const headers of [{ "Sec-Fetch-Site": "cross-site" }, { Origin: "https://elsewhere.example" }]) {
      const response = await registry
        .as(null)
        .request("POST", "/token", { body: passwordForm("admin", "guess"), headers });
      await expectError(response, 403, "DENIED");
    }
    expect(counter.keys).toEqual([]);
  });

  it("brake nobody else: not another address, no bearer, nobody who pulls what is public", async () => {
    const limited = environmentWith({ ...settings, FAILED_LOGINS: exhausted() });
    const registry = registryWith(limited, freshAddress());
    const bearer = await bearerFor(registry, asAdmin, `repository:${absent}:pull`);
    expect((await ping(registry, wrong)).status).toBe(401);
    await expectBraked(await ping(registry, asAdmin), BRAKE_SECONDS);
    expect((await ping(registry, bearer)).status).toBe(200);
    expect((await registry.as(null).repository(absent).listTags()).status).toBe(404);
    expect((await registry.as(null).request("GET", "/token")).status).toBe(200);
    expect((await ping(registryWith(limited, freshAddress()), asAdmin)).status).toBe(200);
  });

  it("count by each door, and every door is shut then", async () => {
    const { user, token } = await makeRobot([]);
    const doors = [
      {
        fail: async (at: RegistryClient) => ping(at, basic("admin", "guess")),
        enter: async (at: RegistryClient) => ping(at, asAdmin),
      },
      {
        fail: async (at: RegistryClient) => ping(at, `Bearer moorage_${"A".repeat(43)}`),
        enter: async (at: RegistryClient) => ping(at, `Bearer ${token.secret}`),
      },
      {
        fail: async (at: RegistryClient) => at.as(basic(user.name, "guess")).request("GET", "/token"),
        enter: async (at: RegistryClient) => at.as(token.authorization).request("GET", "/token"),
      },
      {
        fail: async (at: RegistryClient) =>
          at.as(null).request("POST", "/token", { body: passwordForm("admin", "guess") }),
        enter: async (at: RegistryClient) =>
          at.as(null).request("POST", "/token", { body: passwordForm(user.name, token.secret) }),
      },
      {
        fail: async (at: RegistryClient) =>
          at.as(null).request("POST", "/token", { body: "grant_type=refresh_token&refresh_token=x" }),
        enter: async (at: RegistryClient) => at.as(`Bearer ${token.secret}`).request("GET", "/token"),
      },
      {
        fail: async (at: RegistryClient) => ping(at, basic("ci", "eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.")),
        enter: async (at: RegistryClient) => at.as(asAdmin).request("GET", "/api/v1/whoami"),
      },
    ];
    for (const { fail } of doors) {
      const counter = exhausted();
      const address = freshAddress();
      const registry = registryWith(environmentWith({ ...settings, FAILED_LOGINS: counter }), address);
      expect((await fail(registry)).status).toBe(401);
      expect(counter.keys).toEqual([address["CF-Connecting-IP"]]);
      for (const { enter } of doors) await expectBraked(await enter(registry), BRAKE_SECONDS);
    }
  });

  it("are those alone that failed: whoever logs in rightly, or is nobody, counts nothing", async () => {
    const counter = exhausted();
    const registry = registryWith(environmentWith({ ...settings, FAILED_LOGINS: counter }), freshAddress());
    const { token } = await makeRobot([]);
    for (const authorization of [asAdmin, token.authorization, null, "Bearer QQ==", "Digest x", basic("", "")]) {
      await ping(registry, authorization);
    }
    await registry.request("GET", "/token");
    expect(counter.keys).toEqual([]);
  });

  it("are of a whole IPv6 network, and of no neighbour", async () => {
    const counter = exhausted();
    const from = (address: string): RegistryClient =>
      registryWith(environmentWith({ ...settings, FAILED_LOGINS: counter }), { "CF-Connecting-IP": address });
    const network = `2001:db8:${crypto.randomUUID().slice(0, 4)}`;
    expect((await ping(from(`${network}:1::1`), wrong)).status).toBe(401);
    for (const same of [
      `${network}:1::1`,
      `${network}:1::2`,
      `${network}:1:ffff:1:2:3`,
      `${network.toUpperCase()}:0001::9`,
    ]) {
      await expectBraked(await ping(from(same), asAdmin), BRAKE_SECONDS);
    }
    expect((await ping(from(`${network}:2::1`), asAdmin)).status).toBe(200);
    expect((await ping(from(`${network}::1`), asAdmin)).status).toBe(200);
  });

  it("are noted, each, with the user's name and without what was guessed", async () => {
    const registry = registryWith(environmentWith(settings), freshAddress());
    const { name } = await makeUser([]);
    await ping(registry, basic(name, "a guess that nobody may read"));
    const { results } = await env.DB.prepare("SELECT * FROM audit WHERE detail LIKE ?1").bind(`%${name}%`).all();
    expect(results).toHaveLength(1);
    expect(results[0]).toMatchObject({ action: "login", outcome: "refused", principal: "anonymous" });
    expect(JSON.stringify(results)).not.toContain("a guess");
  });

  it("are noted without the name that is nobody's: some send a secret in its place", async () => {
    const address = freshAddress();
    const registry = registryWith(environmentWith(settings), address);
    for (const secret of [`secret-${run}`, ` eyJ${run}`, `MOORAGE_${run}`, env.ADMIN_PASSWORD]) {
      await ping(registry, basic(secret, "admin"));
    }
    const { results } = await env.DB.prepare("SELECT detail FROM audit WHERE address = ?1")
      .bind(address["CF-Connecting-IP"])
      .all();
    expect(results).toHaveLength(4);
    for (const { detail } of results) expect(String(detail)).toMatch(/^\{"user":null,"reason":"wrong user name/);
  });

  it("with what was somebody's are noted as that one's: a revoked token leads to its owner", async () => {
    const address = freshAddress();
    const registry = registryWith(environmentWith(settings), address);
    const user = await makeUser([]);
    const revoked = await makeAccessToken(user, { revoked: true });
    await ping(registry, `Bearer ${revoked.secret}`);
    await ping(registry, revoked.authorization);
    const { results } = await env.DB.prepare("SELECT principal, token_id, outcome FROM audit WHERE address = ?1")
      .bind(address["CF-Connecting-IP"])
      .all();
    const row = { principal: `user:${user.name}`, token_id: revoked.id, outcome: "refused" };
    expect(results).toEqual([row, row]);
  });
});

/** As many requests as one count of the platform's counter stands for. */
async function requestOften(registry: RegistryClient, authorization: string | null): Promise<number[]> {
  const statuses: number[] = [];
  for (let time = 0; time < REQUESTS_PER_COUNT; time++) {
    statuses.push((await registry.as(authorization).repository(absent).listTags()).status);
  }
  return statuses;
}

const taken = (status: number): number[] => Array.from({ length: REQUESTS_PER_COUNT - 1 }, () => status);

describe("requests of one principal", () => {
  it("are a 429 when the counter says so, for some seconds, with each of its credentials and from anywhere", async () => {
    const counter = exhausted();
    const limited = environmentWith({ ...settings, REQUESTS: counter });
    const from = (): RegistryClient => registryWith(limited, freshAddress());
    const user = await makeUser([`${run}/*:pull`]);
    const [one, other] = [await makeAccessToken(user), await makeAccessToken(user)];
    const bearer = await bearerFor(from(), other.authorization, `repository:${absent}:pull`);
    expect(await requestOften(from(), one.authorization)).toEqual([...taken(404), 429]);
    expect(counter.keys).toEqual([`user:${user.name}`]);
    const startMs = Date.now();
    for (const authorization of [one.authorization, other.authorization, bearer, `Bearer ${one.secret}`]) {
      await expectBraked(await ping(from(), authorization), REQUESTS_WAIT_SECONDS);
    }
    vi.spyOn(Date, "now").mockReturnValue(startMs + REQUESTS_WAIT_SECONDS * 1000);
    expect((await ping(from(), one.authorization)).status).toBe(200);
  });

  it("brake no other principal", async () => {
    const limited = environmentWith({ ...settings, REQUESTS: exhausted() });
    const registry = registryWith(limited, freshAddress());
    const [one, other] = [await makeRobot([]), await makeRobot([])];
    await requestOften(registry, one.token.authorization);
    await expectBraked(await ping(registry, one.token.authorization), REQUESTS_WAIT_SECONDS);
    expect((await ping(registry, other.token.authorization)).status).toBe(200);
  });

  it("are counted by address where nobody logged in", async () => {
    const counter = exhausted();
    const limited = environmentWith({ ...settings, REQUESTS: counter });
    const address = freshAddress();
    const registry = registryWith(limited, address);
    expect(await requestOften(registry, null)).toEqual([...taken(404), 429]);
    expect(counter.keys).toEqual([`address:${address["CF-Connecting-IP"]}`]);
    await expectBraked(await registry.as("Bearer QQ==").repository(absent).listTags(), REQUESTS_WAIT_SECONDS);
    await expectBraked(await registry.as(null).request("GET", "/token"), REQUESTS_WAIT_SECONDS);
    const elsewhere = registryWith(limited, freshAddress());
    expect((await elsewhere.as(null).repository(absent).listTags()).status).toBe(404);
    const { token } = await makeRobot([]);
    expect((await ping(registry, token.authorization)).status).toBe(200);
  });

  it("are not counted of the administrator, who must come in to mend whatever it is", async () => {
    const counter = exhausted();
    const registry = registryWith(environmentWith({ ...settings, REQUESTS: counter }), freshAddress());
    const bearer = await bearerFor(registry, asAdmin, `repository:${absent}:pull`);
    for (const authorization of [asAdmin, bearer]) {
      expect(await requestOften(registry, authorization)).toEqual([...taken(404), 404]);
    }
    expect(counter.keys).toEqual([]);
  });

  it("have the platform's own counter behind them: what it has counted elsewhere brakes here", async () => {
    const user = await makeUser([]);
    const { authorization } = await makeAccessToken(user);
    const key = `user:${user.name}`;
    const registry = registryWith(environmentWith(settings), freshAddress());
    const countElsewhere = async (): Promise<boolean> => {
      const outcomes = await Promise.all(Array.from({ length: 500 }, async () => env.REQUESTS.limit({ key })));
      return outcomes.every(({ success }) => success);
    };
    let statuses: readonly number[] = [];
    // The counter's minutes are the clock's: it may begin anew meanwhile, once.
    for (let time = 0; time < 2 && statuses.at(-1) !== 429; time++) {
      for (let batch = 0; batch < 26 && (await countElsewhere()); batch++);
      statuses = await requestOften(registry, authorization);
    }
    expect(statuses).toEqual([...taken(404), 429]);
  });

  it("are braked where they are refused too", async () => {
    const limited = environmentWith({ ...settings, REQUESTS: exhausted() });
    const registry = registryWith(limited, freshAddress());
    const statuses: number[] = [];
    for (let time = 0; time < REQUESTS_PER_COUNT; time++) statuses.push((await ping(registry, null)).status);
    expect(statuses).toEqual([...taken(401), 429]);
  });
});

async function noted(principal: string): Promise<Record<string, unknown>[]> {
  const { results } = await env.DB.prepare(
    "SELECT repository, detail FROM audit WHERE principal = ?1 AND action = 'access' ORDER BY id",
  )
    .bind(principal)
    .all();
  return results;
}

describe("the notes of what is refused", () => {
  it("are bounded for each principal, whatever it asks for; the last one says so", async () => {
    const { user, token } = await makeRobot([]);
    const registry = registryWith(environmentWith(settings), freshAddress()).as(token.authorization);
    for (let index = 0; index < REFUSALS_NOTED_MAX + 5; index++) {
      await expectError(await registry.repository(`${run}/made-up-${String(index)}`).listTags(), 403, "DENIED");
    }
    const rows = await noted(`user:${user.name}`);
    expect(rows).toHaveLength(REFUSALS_NOTED_MAX);
    expect(rows.map(({ detail }) => String(detail).includes("more"))).toEqual(
      rows.map((_, index) => index === REFUSALS_NOTED_MAX - 1),
    );
  });

  it("are of refusals alone: a bearer that is sent for another scope is refused nothing", async () => {
    const { user, token } = await makeRobot([`${run}/mine:pull,push`]);
    const registry = registryWith(environmentWith(settings), freshAddress());
    const bearer = await bearerFor(registry, token.authorization, `repository:${run}/mine:pull`);
    await expectError(await registry.as(bearer).repository(`${run}/mine`).startUpload(), 401, "UNAUTHORIZED");
    expect(await noted(`user:${user.name}`)).toEqual([]);
  });

  it("have the source of a mount that was not to be had", async () => {
    const { user, token } = await makeRobot([`${run}/mine:pull,push`]);
    const registry = registryWith(environmentWith(settings), freshAddress()).as(token.authorization);
    const digest = `sha256:${"0".repeat(64)}`;
    expect((await registry.repository(`${run}/mine`).mountBlob(digest, `${run}/theirs`)).status).toBe(202);
    expect(await noted(`user:${user.name}`)).toEqual([
      { repository: `${run}/theirs`, detail: JSON.stringify({ right: "pull" }) },
    ]);
  });
});
