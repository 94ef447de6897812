import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { loginOfEmail } from "../../src/access/login.ts";
import { accessTokensSchema } from "../../src/access-tokens/token.ts";
import { FORM_MAX_BYTES } from "../../src/limits.ts";
import { type User, userSchema, usersSchema } from "../../src/users/user.ts";
import {
  auditOf,
  createToken,
  createUser,
  freshName,
  nextOf,
  pulls,
  read,
  refused,
  send,
} from "../fixtures/management.ts";
import { bearerFor, freshAddress } from "../fixtures/principals.ts";
import { registryWith, serve } from "../fixtures/registry.ts";
import { asAdmin, basic } from "../support/credentials.ts";

const password = "correct horse battery";

async function show(name: string): Promise<User> {
  return read(await send("GET", `users/${name}`), 200, userSchema.strict());
}

async function storedPassword(name: string): Promise<string | null> {
  return env.DB.prepare("SELECT password FROM users WHERE name = ?1").bind(name).first<string>("password");
}

async function loginAtToken(name: string, secret: string): Promise<number> {
  const registry = registryWith(env, freshAddress()).as(basic(name, secret));
  return (await registry.request("GET", "/token")).status;
}

describe("POST /api/v1/users", () => {
  it("creates a user, who is shown with its grants and without its password", async () => {
    const name = freshName();
    const email = `${name}@Example.com`;
    const response = await send("POST", "users", { name, grants: ["team-a/*:push,pull"], email, password });
    expect(response.headers.get("Location")).toBe(`/api/v1/users/${name}`);
    const user = await read(response, 201, userSchema.strict());
    expect(user).toMatchObject({
      name,
      grants: ["team-a/*:pull,push"],
      email: email.toLowerCase(),
      hasPassword: true,
      disabled: false,
    });
    expect(await show(name)).toEqual(user);
    expect(await storedPassword(name)).toMatch(/^pbkdf2-sha256\$/);
    expect(await loginAtToken(name, password)).toBe(200);
    expect(await loginAtToken(name, `${password}!`)).toBe(401);
  });

  it("creates one with no more than a name and grants", async () => {
    expect(await createUser()).toMatchObject({ grants: [], email: null, hasPassword: false });
  });

  it("is noted with its change, without the password", async () => {
    const { name } = await createUser({ grants: ["a:pull"], password });
    expect(await auditOf(name)).toEqual([
      { action: "user.create", principal: "admin", detail: { grants: ["a:pull"], password: "set" } },
    ]);
  });

  it("takes neither a name nor an address twice, and notes nothing then", async () => {
    const { name } = await createUser({ email: `${freshName()}@example.com`, grants: ["a:pull"] });
    const { email } = await show(name);
    expect(await refused(await send("POST", "users", { name, grants: [] }), 409, "CONFLICT")).toContain("name");
    const other = freshName();
    const taken = { name: other, grants: [], email: email?.toUpperCase() };
    expect(await refused(await send("POST", "users", taken), 409, "CONFLICT")).toContain("e-mail");
    expect((await show(name)).grants).toEqual(["a:pull"]);
    expect(await auditOf(name)).toHaveLength(1);
    expect(await auditOf(other)).toEqual([]);
  });

  it("is one winner of many at once, who is noted once", async () => {
    const name = freshName();
    const statuses = await Promise.all(
      Array.from({ length: 8 }, async () => (await send("POST", "users", { name, grants: [] })).status),
    );
    expect(statuses.filter((status) => status === 201)).toHaveLength(1);
    expect(statuses.filter((status) => status === 409)).toHaveLength(7);
    expect(await auditOf(name)).toHaveLength(1);
  });

  it.each([
    "admin",
    "",
    "Upper",
    "two words",
    "a/b",
    "../a",
    "..",
    "a..b",
    "a%2fb",
    "a:b",
    "user:a",
    "-a",
    "a-",
    "é",
    "ａ",
    "a\n",
    "a\u0000",
    "a".repeat(65),
  ])("refuses the name %j", async (name) => {
    expect(await refused(await send("POST", "users", { name, grants: [] }), 400, "INVALID_REQUEST")).toMatch(/^name: /);
  });

  it.each([
    ["a:metadata", "reserved"],
    ["a:admin", "reserved"],
    ["a:pull,admin", "reserved"],
    ["a:*", "no right"],
    ["a:", "no right"],
    ["a", "<repository pattern>:<rights>"],
    [":pull", "<repository pattern>:<rights>"],
    ["A/b:pull", "<repository pattern>:<rights>"],
    ["/a:pull", "<repository pattern>:<rights>"],
    ["a//b:pull", "<repository pattern>:<rights>"],
    ["a%2fb:pull", "<repository pattern>:<rights>"],
    ["a b:pull", "<repository pattern>:<rights>"],
    ["registry:catalog:*", "<repository pattern>:<rights>"],
    [`${"a".repeat(256)}:pull`, "<repository pattern>:<rights>"],
  ])("refuses the grant %j", async (grant, reason) => {
    const response = await send("POST", "users", { name: freshName(), grants: ["ok:pull", grant] });
    expect(await refused(response, 400, "INVALID_REQUEST")).toContain(reason);
  });

  it.each<[string, unknown]>([
    ["an unknown field", { name: "x", grants: [], admin: true }],
    ["an unknown field that is an object's own", '{"name":"x","grants":[],"__proto__":{"disabled":true}}'],
    ["no grants", { name: "x" }],
    ["grants that are no list", { name: "x", grants: "a:pull" }],
    ["more grants than there may be", { name: "x", grants: Array.from({ length: 101 }, () => "a:pull") }],
    ["an address that is none", { name: "x", grants: [], email: "x" }],
    ["a short password", { name: "x", grants: [], password: "12345678901" }],
    ["a password that looks like an access token", { name: "x", grants: [], password: "moorage_123456789" }],
    ["no JSON", '{"name":'],
    ["a list", []],
    ["null", "null"],
  ])("refuses %s", async (_what, value) => {
    await refused(await send("POST", "users", value), 400, "INVALID_REQUEST");
    await refused(await send("GET", "users/x"), 404, "NOT_FOUND");
  });

  it("says nothing of a password that it refuses", async () => {
    const secret = "moorage_a-secret";
    const response = await send("POST", "users", { name: freshName(), grants: [], password: secret });
    expect(await response.text()).not.toContain("a-secret");
  });

  it("refuses a body of another type, of none, and a form, as a page of another site can send one", async () => {
    const value = JSON.stringify({ name: freshName(), grants: [] });
    for (const type of ["text/plain", "application/x-www-form-urlencoded", ""]) {
      const reason = await refused(
        await send("POST", "users", value, asAdmin, { "Content-Type": type }),
        415,
        "INVALID_REQUEST",
      );
      expect(reason).toContain("application/json");
    }
    await refused(await send("POST", "users", value, asAdmin, { Origin: "https://elsewhere.example" }), 403, "DENIED");
    await refused(await send("POST", "users"), 400, "INVALID_REQUEST");
  });

  it("refuses a body that is too large, whether or not it says its length", async () => {
    const value = JSON.stringify({ name: freshName(), grants: [], email: "x".repeat(FORM_MAX_BYTES) });
    await refused(await send("POST", "users", value), 413, "INVALID_REQUEST");
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const written = new Response(value).body?.pipeTo(writable).catch(() => undefined);
    const request = new Request("http://localhost/api/v1/users", {
      method: "POST",
      body: readable,
      headers: { Authorization: asAdmin, "Content-Type": "application/json" },
    });
    await refused(await serve(request), 413, "INVALID_REQUEST");
    await readable.cancel().catch(() => undefined);
    await written;
  });
});

describe("GET /api/v1/users", () => {
  it("pages by n and Link, in the order of names", async () => {
    const run = freshName();
    const names = ["a", "b", "c", "d", "e"].map((letter) => `${run}-${letter}`);
    for (const name of names.toReversed()) await createUser({ name });
    const found: string[] = [];
    let next: string | null = `users?n=2&after=${run}`;
    while (next !== null && found.length < names.length) {
      const response: Response = await send("GET", next);
      const { users } = await read(response, 200, usersSchema);
      expect(users.length).toBeLessThanOrEqual(2);
      found.push(...users.map(({ name }) => name));
      next = nextOf(response);
    }
    expect(found.slice(0, names.length)).toEqual(names);
  });

  it("ends without a Link", async () => {
    const last = await createUser({ name: `z${freshName()}` });
    const response = await send("GET", `users?after=${last.name}`);
    expect(nextOf(response)).toBeNull();
    expect((await read(response, 200, usersSchema)).users.filter(({ name }) => name === last.name)).toEqual([]);
  });

  it("never shows a password, nor a hash", async () => {
    const { name } = await createUser({ password });
    const texts = [await send("GET", "users"), await send("GET", `users/${name}`)].map(async (each) => each.text());
    const hash = await storedPassword(name);
    expect(hash).not.toBeNull();
    for (const text of await Promise.all(texts)) {
      expect(text).not.toContain("pbkdf2");
      expect(text).not.toContain(password);
    }
  });

  it.each(["n=0", "n=101", "n=ten", "n=1.5", "n=1&n=2", "last=x", `after=${"a".repeat(65)}`])(
    "refuses ?%s",
    async (q) => {
      await refused(await send("GET", `users?${q}`), 400, "INVALID_REQUEST");
    },
  );
});

describe("GET /api/v1/users/{user}", () => {
  it("does not know who is not there", async () => {
    expect(await refused(await send("GET", `users/${freshName()}`), 404, "NOT_FOUND")).toContain("no such user");
  });

  it.each(["admin", "UPPER", "a%2Fb", "%2e%2e%2f", "a%00", "%ff", "a%20b", "a".repeat(65)])(
    "is refused for %s, which can be nobody's name",
    async (name) => {
      await refused(await send("GET", `users/${name}`), 400, "INVALID_REQUEST");
    },
  );

  it.each(["users/", "users//", "users/a/b", "users/a/tokens/", "users/../token", "nothing", ""])(
    "leads nowhere as %j",
    async (path) => {
      const response = await send("GET", path);
      expect([400, 404]).toContain(response.status);
      expect(response.headers.get("Content-Type")).toBe("application/json");
    },
  );
});

describe("PATCH /api/v1/users/{user}", () => {
  it("changes what is given and nothing else", async () => {
    const user = await createUser({ grants: ["a:pull"], email: `${freshName()}@example.com`, password });
    const change = async (value: object): Promise<User> =>
      read(await send("PATCH", `users/${user.name}`, value), 200, userSchema);
    expect(await change({ grants: ["b:pull"] })).toEqual({ ...user, grants: ["b:pull"] });
    expect(await change({ disabled: true })).toEqual({ ...user, grants: ["b:pull"], disabled: true });
    expect(await change({ disabled: false, email: null })).toEqual({ ...user, grants: ["b:pull"], email: null });
    expect(await change({ password: null })).toMatchObject({ hasPassword: false });
    expect(await loginAtToken(user.name, password)).toBe(401);
    expect(await change({ password: `${password} 2` })).toMatchObject({ hasPassword: true });
    expect(await loginAtToken(user.name, `${password} 2`)).toBe(200);
    expect((await auditOf(user.name)).map(({ action, detail }) => [action, detail]).slice(1)).toEqual([
      ["user.change", { grants: ["b:pull"] }],
      ["user.change", { disabled: true }],
      ["user.change", { email: null, disabled: false }],
      ["user.change", { password: "removed" }],
      ["user.change", { password: "set" }],
    ]);
  });

  it("takes grants away, and gives them, at once in this isolate", async () => {
    const { name } = await createUser({ grants: ["a:pull"] });
    const { authorization } = await createToken(name);
    expect(await pulls(authorization, "a")).toBe(404);
    await send("PATCH", `users/${name}`, { grants: ["b:pull"] });
    expect([await pulls(authorization, "a"), await pulls(authorization, "b")]).toEqual([403, 404]);
  });

  it("disables a user, whose tokens, password and refresh tokens are refused from then on, and not forgotten", async () => {
    const { name } = await createUser({ grants: ["a:pull"], password });
    const { authorization } = await createToken(name);
    const registry = registryWith(env, freshAddress());
    const asked = await registry.as(basic(name, password)).request("GET", "/token?offline_token=true");
    const { refresh_token: refreshToken } = await asked.json<{ refresh_token: string }>();
    const refresh = async (): Promise<number> => {
      const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: refreshToken }).toString();
      return (await registryWith(env, freshAddress()).as(null).request("POST", "/token", { body })).status;
    };
    expect([await pulls(authorization, "a"), await refresh()]).toEqual([404, 200]);
    await send("PATCH", `users/${name}`, { disabled: true });
    expect([await pulls(authorization, "a"), await refresh(), await loginAtToken(name, password)]).toEqual([
      401, 401, 401,
    ]);
    await send("PATCH", `users/${name}`, { disabled: false });
    expect([await pulls(authorization, "a"), await refresh(), await loginAtToken(name, password)]).toEqual([
      404, 200, 200,
    ]);
  });

  it("gives nobody another's address", async () => {
    const email = `${freshName()}@example.com`;
    await createUser({ email });
    const { name } = await createUser();
    const response = await send("PATCH", `users/${name}`, { email, grants: ["a:pull"] });
    expect(await refused(response, 409, "CONFLICT")).toContain("e-mail");
    expect((await show(name)).grants).toEqual([]);
    expect(await auditOf(name)).toHaveLength(1);
    await createUser();
    expect((await send("PATCH", `users/${name}`, { email: null })).status).toBe(200);
  });

  it("keeps one's own address", async () => {
    const { name, email } = await createUser({ email: `${freshName()}@example.com` });
    expect((await send("PATCH", `users/${name}`, { email, disabled: false })).status).toBe(200);
  });

  it("does not know who is not there, and notes nothing", async () => {
    const name = freshName();
    await refused(await send("PATCH", `users/${name}`, { disabled: true }), 404, "NOT_FOUND");
    expect(await auditOf(name)).toEqual([]);
  });

  it.each<[string, unknown]>([
    ["nothing", {}],
    ["a new name", { name: "other" }],
    ["an unknown field beside a known one", { disabled: true, admin: true }],
    ["a reserved right", { grants: ["a:admin"] }],
    ["no grants", { grants: null }],
    ["a text for yes", { disabled: "true" }],
    ["a short password", { password: "short" }],
  ])("refuses %s", async (_what, value) => {
    const { name } = await createUser({ grants: ["a:pull"] });
    await refused(await send("PATCH", `users/${name}`, value), 400, "INVALID_REQUEST");
    expect(await show(name)).toMatchObject({ grants: ["a:pull"], disabled: false });
    expect(await auditOf(name)).toHaveLength(1);
  });
});

describe("DELETE /api/v1/users/{user}", () => {
  it("takes the user with its tokens, at once in this isolate", async () => {
    const { name } = await createUser({ grants: ["a:pull"], password });
    const { authorization } = await createToken(name);
    expect(await pulls(authorization, "a")).toBe(404);
    const response = await send("DELETE", `users/${name}`);
    expect([response.status, await response.text()]).toEqual([204, ""]);
    expect([await pulls(authorization, "a"), await loginAtToken(name, password)]).toEqual([401, 401]);
    await refused(await send("GET", `users/${name}`), 404, "NOT_FOUND");
    await refused(await send("GET", `users/${name}/tokens`), 404, "NOT_FOUND");
    expect((await auditOf(name)).map(({ action }) => action)).toEqual(["user.create", "user.delete"]);
  });

  it("leaves nothing of one to another of the same name", async () => {
    const { name } = await createUser({ grants: ["a:pull"] });
    const { authorization, id } = await createToken(name);
    await send("DELETE", `users/${name}`);
    await createUser({ name, grants: ["a:pull"] });
    expect(await pulls(authorization, "a")).toBe(401);
    expect((await read(await send("GET", `users/${name}/tokens`), 200, accessTokensSchema)).tokens).toEqual([]);
    await refused(await send("DELETE", `users/${name}/tokens/${id}`), 404, "NOT_FOUND");
  });

  it("takes no other user's tokens", async () => {
    const [gone, stays] = [await createUser(), await createUser({ grants: ["a:pull"] })];
    const { authorization } = await createToken(stays.name);
    await send("DELETE", `users/${gone.name}`);
    expect(await pulls(authorization, "a")).toBe(404);
  });

  it("does not know who is not there, and notes nothing", async () => {
    const name = freshName();
    await refused(await send("DELETE", `users/${name}`), 404, "NOT_FOUND");
    expect(await auditOf(name)).toEqual([]);
  });
});

describe("who is no administrator", () => {
  it("is refused on every route, and changes nothing", async () => {
    const { name } = await createUser({ grants: ["**:pull,push,delete"] });
    const { authorization, token, id } = await createToken(name);
    const bearer = await bearerFor(registryWith(env, freshAddress()), authorization, "repository:a:*");
    const adminsBearer = await bearerFor(registryWith(env, freshAddress()), asAdmin, "registry:catalog:*");
    const routes: readonly [string, string, object?][] = [
      ["POST", "users", { name: freshName(), grants: [] }],
      ["GET", "users"],
      ["GET", `users/${name}`],
      ["PATCH", `users/${name}`, { grants: ["**:pull"] }],
      ["DELETE", `users/${name}`],
      ["POST", `users/${name}/tokens`, { name: "more" }],
      ["GET", `users/${name}/tokens`],
      ["DELETE", `users/${name}/tokens/${id}`],
      ["GET", "audit"],
    ];
    for (const [method, path, value] of routes) {
      for (const as of [authorization, `Bearer ${token}`, bearer, adminsBearer]) {
        await refused(await send(method, path, value, as), 403, "DENIED");
      }
      const response = await send(method, path, value, null);
      expect(response.headers.get("WWW-Authenticate")).toMatch(/^Bearer realm=/);
      await refused(response, 401, "UNAUTHORIZED");
      await refused(await send(method, path, value, basic("admin", "a guess")), 401, "UNAUTHORIZED");
    }
    expect((await show(name)).grants).toEqual(["**:pull,push,delete"]);
    const { tokens } = await read(await send("GET", `users/${name}/tokens`), 200, accessTokensSchema);
    expect(tokens.map((each) => [each.id, each.revokedAt])).toEqual([[id, null]]);
  });

  it("is refused before the body is looked at", async () => {
    await refused(await send("POST", "users", "{", null), 401, "UNAUTHORIZED");
    await refused(await send("POST", "users", "x".repeat(FORM_MAX_BYTES + 1), null), 401, "UNAUTHORIZED");
  });
});

describe("somebody who was nobody", () => {
  it("is known by the address at once where the user is made", async () => {
    const email = `${crypto.randomUUID()}@example.com`;
    expect((await loginOfEmail(env, email, Date.now())).kind).toBe("unknown");
    expect((await send("POST", "users", { name: freshName(), grants: [], email })).status).toBe(201);
    expect((await loginOfEmail(env, email, Date.now())).kind).toBe("known");
  });
});
