import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { app } from "../../src/app.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { freshAddress } from "../fixtures/principals.ts";
import { registryWith } from "../fixtures/registry.ts";
import { asAdmin } from "../support/credentials.ts";

/** A deployed Worker without its secrets, or with bad ones, serves nothing, and says which and what to do about it. */

function environmentWithSecret(name: string, value: string | undefined): Env {
  return new Proxy(env, {
    get: (bindings, asked): unknown => (asked === name ? value : Reflect.get(bindings, asked)),
    has: (bindings, asked) => (asked === name ? value !== undefined : asked in bindings),
  });
}

const sixteenBytes = btoa("k".repeat(16));

const bad: readonly (readonly [name: string, what: string, value: string | undefined, reason: RegExp])[] = [
  ["ADMIN_PASSWORD", "missing", undefined, /is not set$/],
  ["SIGNING_KEY", "missing", undefined, /is not set$/],
  ["TOKEN_KEY", "missing", undefined, /is not set$/],
  ["ADMIN_PASSWORD", "empty", "", /is empty$/],
  ["ADMIN_PASSWORD", "blank", " \n", /is empty$/],
  ["SIGNING_KEY", "empty", "", /is not 32 bytes in base64; make one with: openssl rand -base64 32$/],
  ["TOKEN_KEY", "empty", "", /is not 32 bytes/],
  ["SIGNING_KEY", "too short", sixteenBytes, /is not 32 bytes/],
  ["TOKEN_KEY", "no base64", "a text that somebody typed!", /is not 32 bytes/],
  ["PREVIOUS_SIGNING_KEY", "too short", sixteenBytes, /is not 32 bytes/],
];

/** One request of each route, and of what is none; whether the Worker runs at all is told without any secret. */
const requests = [
  ...new Set(
    app.routes
      .filter(({ method, path }) => method !== "ALL" && path !== "/healthz")
      .map(({ method, path }) => `${method} ${path}`),
  ),
  "GET /",
  "PUT /v2/",
].map((line) => {
  const [method = "", path = ""] = line.split(" ");
  return { method, path: path.replaceAll(/:name\{\.\+\}/g, "a/b").replaceAll(/:\w+(\{[^/]*\})?/g, "x") };
});

afterEach(() => vi.restoreAllMocks());

describe.each(bad)("with %s %s", (name, _what, value, reason) => {
  it("nothing is served, and the answer names it and the command that sets it", async () => {
    const logged = vi.spyOn(console, "error");
    const registry = registryWith(environmentWithSecret(name, value), freshAddress());
    for (const authorization of [null, asAdmin]) {
      for (const { method, path } of requests) {
        const response = await registry.as(authorization).request(method, path);
        const whole = `${await response.clone().text()} ${JSON.stringify([...response.headers])}`;
        if (value !== undefined && value !== "") expect(whole).not.toContain(value);
        const [error] = await expectError(response, 503, "UNSUPPORTED");
        expect(error?.detail).toMatchObject({ command: `npx wrangler secret put ${name}` });
        const said = JSON.stringify(error?.detail);
        expect(said).toContain(`secret ${name}`);
        expect(/"reason":"([^"]*)"/.exec(said)?.[1]).toMatch(reason);
      }
    }
    expect(logged).not.toHaveBeenCalled();
  });
});

describe("with a setting that can't be read", () => {
  it.each([
    ["ANONYMOUS_PULL", "Public/**", /its setting ANONYMOUS_PULL is not a repository pattern/],
    ["AUDIT_RETENTION_DAYS", undefined, /its setting AUDIT_RETENTION_DAYS is not set$/],
  ])("nothing is served, and the answer names it: %s=%j", async (name, value, reason) => {
    const registry = registryWith(environmentWithSecret(name, value), freshAddress());
    for (const authorization of [null, asAdmin]) {
      const [error] = await expectError(await registry.as(authorization).ping(), 503, "UNSUPPORTED");
      expect(/"reason":"([^"]*)"/.exec(JSON.stringify(error?.detail))?.[1]).toMatch(reason);
    }
  });
});

describe("a secret", () => {
  it("is taken in base64, base64url and hexadecimal, with a line's end after it", async () => {
    const bytes = new Uint8Array(32).fill(0xfb);
    for (const text of [
      bytes.toBase64(),
      bytes.toBase64({ alphabet: "base64url", omitPadding: true }),
      bytes.toHex(),
      `${bytes.toBase64()}\n`,
    ]) {
      for (const name of ["SIGNING_KEY", "TOKEN_KEY", "PREVIOUS_SIGNING_KEY"]) {
        const registry = registryWith(environmentWithSecret(name, text), freshAddress());
        expect((await registry.as(asAdmin).ping()).status).toBe(200);
        expect((await registry.as(asAdmin).request("GET", "/token")).status).toBe(200);
      }
    }
  });

  it("may be no PREVIOUS_SIGNING_KEY, or an empty one", async () => {
    for (const value of [undefined, ""]) {
      const registry = registryWith(environmentWithSecret("PREVIOUS_SIGNING_KEY", value), freshAddress());
      expect((await registry.as(asAdmin).ping()).status).toBe(200);
    }
  });
});
