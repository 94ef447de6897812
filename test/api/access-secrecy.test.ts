import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { registry as served } from "../../src/registry.ts";
import { hashAccessToken } from "../../src/access/access-token.ts";
import { secretsOf } from "../../src/access/secrets.ts";
import { image, push } from "../fixtures/artifacts.ts";
import { IdIssuer, publish } from "../fixtures/id-tokens.ts";
import { createToken, createUser, send } from "../fixtures/management.ts";
import { bearerFor, freshAddress, refreshTokenFor } from "../fixtures/principals.ts";
import { environmentWith, registryWith } from "../fixtures/registry.ts";
import { interceptOperations } from "../fixtures/intercepted-env.ts";
import { RegistryClient } from "../support/client.ts";
import { adminPassword, asAdmin, basic } from "../support/credentials.ts";

/** No secret is in a log, in an error, in the audit, nor anywhere in the database, whatever was done with it. */

const run = crypto.randomUUID();
const name = `${run}/app`;

/** What was printed, and what was answered to those who did not ask for a secret. */
const logged: string[] = [];
const answered: string[] = [];
const points: unknown[] = [];

const environment = environmentWith({
  AUDIT_PULLS: "**",
  PULLS: { writeDataPoint: (point) => void points.push(point) },
});
/** D1 is gone in the middle of whatever is asked of it. */
const broken = interceptOperations(environment, {
  before: ({ binding }) => {
    if (binding === "DB") throw new Error("D1_ERROR: the database is gone");
  },
});

/** What is left for after the answer fails with it. */
function registryWithout(database: Env): RegistryClient {
  const address = freshAddress();
  return new RegistryClient("http://localhost", async (url, init = {}) => {
    const context = createExecutionContext();
    const headers = { ...Object.fromEntries(new Headers(init.headers)), ...address };
    const response = await served.fetch(new Request(url, { ...init, headers }), database, context);
    await waitOnExecutionContext(context).catch(() => undefined);
    return response;
  });
}

/** By what each is: the texts that must not be found. */
const secrets = new Map<string, string>();

function keepSecret(what: string, text: string): string {
  secrets.set(what, text);
  return text;
}

/** Sends what is answered with no secret of the registry's: whatever it says is looked through. */
async function say(
  registry: RegistryClient,
  method: string,
  target: string,
  options: Parameters<RegistryClient["request"]>[2] = {},
): Promise<number> {
  const response = await registry.request(method, target, options);
  answered.push(`${String(response.status)} ${JSON.stringify([...response.headers])} ${await response.text()}`);
  return response.status;
}

const registry = (authorization: string | null, of = environment): RegistryClient =>
  (of === broken ? registryWithout(of) : registryWith(of, freshAddress())).as(authorization);

const form = (fields: Readonly<Record<string, string>>) => ({ body: new URLSearchParams(fields).toString() });

beforeAll(async () => {
  for (const method of ["log", "info", "warn", "error", "debug", "trace"] as const) {
    vi.spyOn(console, method).mockImplementation((...values: unknown[]) => {
      logged.push(
        values.map((value) => (value instanceof Error ? String(value.stack) : JSON.stringify(value))).join(" "),
      );
    });
  }
  vi.spyOn(scheduler, "wait").mockResolvedValue();
  const issuer = await IdIssuer.at(`secrecy-${run}.test`);
  publish(issuer);

  keepSecret("ADMIN_PASSWORD", adminPassword);
  keepSecret("SIGNING_KEY", env.SIGNING_KEY);
  keepSecret("TOKEN_KEY", env.TOKEN_KEY);
  keepSecret("the administrator's Basic", asAdmin.slice("Basic ".length));
  await push(registry(asAdmin).repository(name), image(), "v1");

  const password = keepSecret("a user's password", `a password ${run}`);
  const user = await createUser({ password, grants: [`${run}/*:pull,push`] });
  const { token, authorization } = await createToken(user.name);
  keepSecret("an access token", token);
  keepSecret("the random part of an access token", token.slice("moorage_".length));
  keepSecret("an access token's Basic", authorization.slice("Basic ".length));
  keepSecret("a password's Basic", basic(user.name, password).slice("Basic ".length));
  const bearer = keepSecret(
    "a bearer",
    (await bearerFor(registry(null), authorization, `repository:${name}:pull`)).slice("Bearer ".length),
  );
  keepSecret("a bearer's signature", bearer.split(".")[2] ?? "");
  const refreshToken = keepSecret("a refresh token", await refreshTokenFor(registry(null), authorization));
  keepSecret("a refresh token's signature", refreshToken.split(".")[2] ?? "");
  const idToken = keepSecret("an ID token", await issuer.sign({ aud: "https://registry.test" }));
  keepSecret("an ID token's signature", idToken.split(".")[2] ?? "");
  const guess = keepSecret("a wrong password", `a guess ${run}`);
  const another = keepSecret("an access token of nobody", `moorage_${"g".repeat(43)}`);
  const changed = keepSecret("a changed password", `changed to ${run}`);

  await send("PATCH", `users/${user.name}`, { password: changed });
  answered.push(await (await send("POST", "users", { name: "x y", grants: [], password: guess })).text());
  answered.push(await (await send("PATCH", `users/${user.name}`, { password: guess, grants: ["a:admin"] })).text());
  answered.push(await (await send("POST", "users", `{"name":"${guess}",`)).text());
  answered.push(await (await send("GET", `users/${user.name}`)).text());

  for (const of of [environment, broken]) {
    for (const credentials of [
      asAdmin,
      authorization,
      `Bearer ${token}`,
      `Bearer ${bearer}`,
      `Bearer ${refreshToken}`,
      `Bearer ${idToken}`,
      `Bearer ${another}`,
      `Basic ${btoa(`${token}:`)}`,
      `Token ${token}`,
      `Basic ${token}`,
      basic(user.name, password),
      basic(user.name, guess),
      basic(user.name, another),
      basic(user.name, refreshToken),
      basic("ci", idToken),
      basic(token, "x"),
      basic(another, ""),
      basic(idToken, ""),
      basic(refreshToken, refreshToken),
      basic("admin", guess),
    ]) {
      const as = registry(credentials, of);
      await say(as, "GET", "/v2/");
      await say(as, "GET", `/v2/${name}/manifests/v1`);
      await say(as, "GET", `/v2/${run}/other/manifests/v1`);
      await say(as, "PUT", `/v2/${name}/manifests/v1`, { body: "{" });
      await say(as, "GET", "/v2/_catalog");
      await say(as, "GET", "/api/v1/users");
      await say(as, "GET", "/api/v1/whoami");
      await say(as, "GET", "/api/v1/audit?n=1000");
      // What a client must not do: the query is in nobody's log.
      await say(as, "GET", `/v2/${name}/tags/list?access_token=${token}&password=${encodeURIComponent(guess)}`);
      // Answers have tokens of their own where the login holds.
      await as.request("GET", "/token", { query: { scope: `repository:${name}:pull` } });
    }
    const nobody = registry(null, of);
    for (const fields of [
      { grant_type: "password", username: user.name, password: guess },
      { grant_type: "password", username: token, password: "x" },
      { grant_type: "password", username: user.name, password: another },
      { grant_type: "refresh_token", refresh_token: `${refreshToken}x` },
      { grant_type: refreshToken, refresh_token: refreshToken },
      { grant_type: "client_credentials", client_secret: guess },
    ]) {
      expect(await say(nobody, "POST", "/token", form(fields))).toBeGreaterThanOrEqual(400);
    }
  }
});
afterAll(() => vi.restoreAllMocks());

describe("a session of logins, refusals and faults", () => {
  it("has had all of them", () => {
    expect(answered.filter((text) => text.startsWith("500 ")).length).toBeGreaterThan(10);
    expect(answered.filter((text) => text.startsWith("401 ")).length).toBeGreaterThan(50);
    expect(logged.join("\n")).toContain("the database is gone");
    expect(points).not.toEqual([]);
  });

  it("has printed no secret", () => {
    for (const [what, secret] of secrets)
      expect({ what, in: logged.some((line) => line.includes(secret)) }).toEqual({ what, in: false });
  });

  it("has answered none", () => {
    for (const [what, secret] of secrets) {
      expect({ what, in: answered.filter((text) => text.includes(secret)) }).toEqual({ what, in: [] });
    }
  });

  it("has told Analytics Engine none", () => {
    for (const [what, secret] of secrets)
      expect({ what, in: JSON.stringify(points).includes(secret) }).toEqual({ what, in: false });
  });

  it("has written none, in whichever table", async () => {
    const { results: tables } = await env.DB.prepare(
      "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB '_cf_*' AND name NOT GLOB 'sqlite_*'",
    ).all<{ name: string }>();
    expect(tables.map((table) => table.name)).toContain("audit");
    for (const table of tables) {
      const text = JSON.stringify((await env.DB.prepare(`SELECT * FROM ${table.name}`).all()).results);
      for (const [what, secret] of secrets) {
        expect({ what, table: table.name, in: text.includes(secret) }).toEqual({ what, table: table.name, in: false });
      }
    }
  });

  it("has the hashes in their two columns alone: neither an answer nor the audit has one", async () => {
    const token = secrets.get("an access token") ?? "";
    const hash = hashAccessToken(token, secretsOf(env).TOKEN_KEY);
    const row = await env.DB.prepare("SELECT hash FROM access_tokens WHERE hash = ?1").bind(hash).first();
    expect(row).toEqual({ hash });
    const audit = JSON.stringify((await env.DB.prepare("SELECT * FROM audit").all()).results);
    for (const text of [audit, ...answered, ...logged]) {
      expect(text).not.toContain(hash);
      expect(text).not.toContain("pbkdf2-sha256$");
    }
  });
});
