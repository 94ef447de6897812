import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { hashAccessToken, isAccessToken } from "../../src/access/access-token.ts";
import { secretsOf } from "../../src/access/secrets.ts";
import { type AccessToken, accessTokensSchema, createdTokenSchema } from "../../src/access-tokens/token.ts";
import { FORM_MAX_BYTES } from "../../src/limits.ts";
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
import { registryWith } from "../fixtures/registry.ts";
import { basic } from "../support/credentials.ts";

const DAY_MS = 86_400_000;

async function tokensOf(user: string): Promise<readonly AccessToken[]> {
  return (await read(await send("GET", `users/${user}/tokens`), 200, accessTokensSchema.strict())).tokens;
}

describe("POST /api/v1/users/{user}/tokens", () => {
  it("makes a token that is shown this once, and kept as a keyed hash alone", async () => {
    const { name } = await createUser({ grants: ["a:pull"] });
    const response = await send("POST", `users/${name}/tokens`, { name: "build server" });
    expect(response.headers.get("Cache-Control")).toBe("no-store");
    const { id, token, ...rest } = await read(response, 201, createdTokenSchema.strict());
    expect(isAccessToken(token)).toBe(true);
    expect(rest).toMatchObject({ name: "build server", grants: null, expiresAt: null });
    const row = await env.DB.prepare("SELECT * FROM access_tokens WHERE id = ?1").bind(id).first();
    expect(row).toMatchObject({ hash: hashAccessToken(token, secretsOf(env).TOKEN_KEY) });
    expect(JSON.stringify(row)).not.toContain(token.slice("moorage_".length));
    expect(await pulls(basic(name, token), "a")).toBe(404);
    expect(await pulls(basic(name, token), "b")).toBe(403);
  });

  it("is noted with its change, without the token or its hash", async () => {
    const { name } = await createUser();
    const { id, token, expiresAt } = await createToken(name, { name: "x", grants: ["a:pull"], expiresInDays: 7 });
    const noted = await auditOf(id);
    expect(noted).toEqual([
      {
        action: "token.create",
        principal: "admin",
        detail: { user: name, name: "x", grants: ["a:pull"], expiresAt },
      },
    ]);
    const { results } = await env.DB.prepare("SELECT * FROM audit").all();
    expect(JSON.stringify(results)).not.toContain(token);
    expect(JSON.stringify(results)).not.toContain(hashAccessToken(token, secretsOf(env).TOKEN_KEY));
  });

  it("narrows it to grants of its own, which give nothing that the user has not", async () => {
    const { name } = await createUser({ grants: ["a:pull", "b:pull"] });
    const { authorization, grants } = await createToken(name, { grants: ["b:pull", "c:pull"] });
    expect(grants).toEqual(["b:pull", "c:pull"]);
    expect([await pulls(authorization, "a"), await pulls(authorization, "b"), await pulls(authorization, "c")]).toEqual(
      [403, 404, 403],
    );
    const nothing = await createToken(name, { grants: [] });
    expect(await pulls(nothing.authorization, "a")).toBe(403);
  });

  it("gives it the life that is asked", async () => {
    const { name } = await createUser();
    for (const expiresInDays of [1, 3650]) {
      const { createdAt, expiresAt } = await createToken(name, { expiresInDays });
      expect(Date.parse(expiresAt ?? "") - Date.parse(createdAt)).toBe(expiresInDays * DAY_MS);
    }
  });

  it("takes the same name again: it is for people", async () => {
    const { name } = await createUser();
    const [one, other] = [await createToken(name), await createToken(name)];
    expect(one.id < other.id || one.createdAt === other.createdAt).toBe(true);
    expect(one.token).not.toBe(other.token);
  });

  it.each<[string, unknown]>([
    ["no name", {}],
    ["an empty name", { name: "" }],
    ["a name with a line's end", { name: "a\nb" }],
    ["a name that steers a terminal", { name: "a\u001b[2J" }],
    ["a name that runs backwards", { name: "a\u202eb" }],
    ["a long name", { name: "a".repeat(101) }],
    ["no days", { name: "a", expiresInDays: 0 }],
    ["too many days", { name: "a", expiresInDays: 3651 }],
    ["half a day", { name: "a", expiresInDays: 0.5 }],
    ["days as a text", { name: "a", expiresInDays: "1" }],
    ["an unknown field", { name: "a", expiresAt: null }],
    ["a token of one's own choice", { name: "a", token: `moorage_${"a".repeat(43)}` }],
    ["a reserved right", { name: "a", grants: ["a:metadata"] }],
    ["no JSON", "{"],
  ])("refuses %s", async (_what, value) => {
    const { name } = await createUser();
    await refused(await send("POST", `users/${name}/tokens`, value), 400, "INVALID_REQUEST");
    expect(await tokensOf(name)).toEqual([]);
  });

  it("refuses a body that is too large", async () => {
    const { name } = await createUser();
    const value = { name: "x".repeat(FORM_MAX_BYTES) };
    await refused(await send("POST", `users/${name}/tokens`, value), 413, "INVALID_REQUEST");
  });

  it("does not know a user who is not there, and notes nothing", async () => {
    const before = await env.DB.prepare("SELECT count(*) AS count FROM audit").first("count");
    await refused(await send("POST", `users/${freshName()}/tokens`, { name: "x" }), 404, "NOT_FOUND");
    expect(await env.DB.prepare("SELECT count(*) AS count FROM audit").first("count")).toBe(before);
  });
});

describe("GET /api/v1/users/{user}/tokens", () => {
  it("shows neither token nor hash", async () => {
    const { name } = await createUser();
    const { token } = await createToken(name);
    const text = await (await send("GET", `users/${name}/tokens`)).text();
    expect(text).not.toContain("moorage_");
    expect(text).not.toContain(token.slice("moorage_".length));
    expect(text).not.toContain(hashAccessToken(token, secretsOf(env).TOKEN_KEY));
    expect(text).not.toContain("hash");
  });

  it("tells when it was last used, when it ends and when it was revoked", async () => {
    const { name } = await createUser({ grants: ["a:pull"] });
    const { id, authorization } = await createToken(name, { expiresInDays: 1 });
    expect((await tokensOf(name)).map((token) => [token.id, token.lastUsedAt, token.revokedAt])).toEqual([
      [id, null, null],
    ]);
    await pulls(authorization, "a");
    await send("DELETE", `users/${name}/tokens/${id}`);
    const [token] = await tokensOf(name);
    for (const time of [token?.createdAt, token?.lastUsedAt, token?.expiresAt, token?.revokedAt]) {
      expect(time).toMatch(/^\d{4}-\d\d-\d\dT/);
    }
  });

  it("pages by n and Link, the oldest first, those of this user alone", async () => {
    const { name } = await createUser();
    await createToken((await createUser()).name);
    const ids: string[] = [];
    for (let number = 0; number < 5; number++) ids.push((await createToken(name)).id);
    const found: string[] = [];
    for (let next: string | null = `users/${name}/tokens?n=2`; next !== null;) {
      const response: Response = await send("GET", next);
      const { tokens } = await read(response, 200, accessTokensSchema);
      found.push(...tokens.map(({ id }) => id));
      next = nextOf(response);
    }
    expect(found).toEqual(ids.toSorted());
  });

  it("is empty after the last, and where there is none", async () => {
    const { name } = await createUser();
    expect(await tokensOf(name)).toEqual([]);
    const { id } = await createToken(name);
    const after = await send("GET", `users/${name}/tokens?after=${id}`);
    expect((await read(after, 200, accessTokensSchema)).tokens).toEqual([]);
  });

  it.each(["n=0", "n=101", "after=x", "hash=1"])("refuses ?%s", async (query) => {
    const { name } = await createUser();
    await refused(await send("GET", `users/${name}/tokens?${query}`), 400, "INVALID_REQUEST");
  });
});

describe("DELETE /api/v1/users/{user}/tokens/{token}", () => {
  it("revokes it at once in this isolate, and once for all", async () => {
    const { name } = await createUser({ grants: ["a:pull"] });
    const { id, authorization, token } = await createToken(name);
    expect([await pulls(authorization, "a"), await pulls(`Bearer ${token}`, "a")]).toEqual([404, 404]);
    for (let time = 0; time < 2; time++) {
      expect((await send("DELETE", `users/${name}/tokens/${id}`)).status).toBe(204);
      expect([await pulls(authorization, "a"), await pulls(`Bearer ${token}`, "a")]).toEqual([401, 401]);
    }
    expect((await auditOf(id)).map(({ action }) => action)).toEqual(["token.create", "token.revoke"]);
  });

  it("says at /token why nothing is given any more, also to a refresh token of it", async () => {
    const { name } = await createUser({ grants: ["a:pull"] });
    const { id, authorization } = await createToken(name);
    const registry = registryWith(env, freshAddress());
    const asked = await registry.as(authorization).request("GET", "/token?offline_token=true");
    const { refresh_token: refreshToken } = await asked.json<{ refresh_token: string }>();
    await send("DELETE", `users/${name}/tokens/${id}`);
    const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: refreshToken }).toString();
    const answers = [
      await registry.as(authorization).request("GET", "/token"),
      await registry.as(null).request("POST", "/token", { body }),
    ];
    for (const answer of answers) expect(await refused(answer, 401, "UNAUTHORIZED")).toContain("revoked");
  });

  it("leaves the others of its user as they are", async () => {
    const { name } = await createUser({ grants: ["a:pull"] });
    const [one, other] = [await createToken(name), await createToken(name)];
    await send("DELETE", `users/${name}/tokens/${one.id}`);
    expect([await pulls(one.authorization, "a"), await pulls(other.authorization, "a")]).toEqual([401, 404]);
  });

  it("does not know another user's, nor one that is not there, and notes nothing", async () => {
    const [owner, other] = [await createUser({ grants: ["a:pull"] }), await createUser()];
    const { id, authorization } = await createToken(owner.name);
    const absent = crypto.randomUUID();
    await refused(await send("DELETE", `users/${other.name}/tokens/${id}`), 404, "NOT_FOUND");
    await refused(await send("DELETE", `users/${freshName()}/tokens/${id}`), 404, "NOT_FOUND");
    await refused(await send("DELETE", `users/${owner.name}/tokens/${absent}`), 404, "NOT_FOUND");
    expect(await pulls(authorization, "a")).toBe(404);
    expect([(await auditOf(id)).length, (await auditOf(absent)).length]).toEqual([1, 0]);
  });

  it.each(["x", "%2e%2e%2f", "..%2f..%2fx", "%00"])("is refused for the id %s", async (id) => {
    const { name } = await createUser();
    await refused(await send("DELETE", `users/${name}/tokens/${id}`), 400, "INVALID_REQUEST");
  });
});

async function expire(id: string): Promise<void> {
  await env.DB.prepare("UPDATE access_tokens SET expires_at = ?2 WHERE id = ?1").bind(id, Date.now()).run();
}

describe("an access token", () => {
  it("is refused once its time is over", async () => {
    const { name } = await createUser({ grants: ["a:pull"] });
    const { id, authorization } = await createToken(name, { expiresInDays: 1 });
    await expire(id);
    expect(await pulls(authorization, "a")).toBe(401);
    const [token] = await tokensOf(name);
    expect(token).toMatchObject({ lastUsedAt: null, revokedAt: null });
  });

  it("is good with its own user's name alone", async () => {
    const [owner, other] = [await createUser({ grants: ["a:pull"] }), await createUser({ grants: ["a:pull"] })];
    const { token } = await createToken(owner.name);
    expect([await pulls(basic(owner.name, token), "a"), await pulls(basic(other.name, token), "a")]).toEqual([
      404, 401,
    ]);
    expect(await pulls(basic("admin", token), "a")).toBe(401);
  });

  it("leaves its bearers as long as they live, and gives no new ones, once it is revoked", async () => {
    const { name } = await createUser({ grants: ["a:pull"] });
    const { id, authorization } = await createToken(name);
    const bearer = await bearerFor(registryWith(env, freshAddress()), authorization, "repository:a:pull");
    await send("DELETE", `users/${name}/tokens/${id}`);
    expect(await pulls(bearer, "a")).toBe(404);
    await expect(bearerFor(registryWith(env, freshAddress()), authorization)).rejects.toThrow("401");
  });
});
