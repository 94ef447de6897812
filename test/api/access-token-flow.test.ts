import { fc, test } from "@fast-check/vitest";
import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { BEARER_LIFE_SECONDS, FORM_MAX_BYTES, SCOPES_MAX } from "../../src/limits.ts";
import { expectError } from "../conformance/error-envelope.ts";
import { image, push } from "../fixtures/artifacts.ts";
import { streamOf } from "../fixtures/content.ts";
import {
  claimsOf,
  freshAddress,
  HOST,
  makeAccessToken,
  makeRobot,
  makeUser,
  tokenAnswer,
} from "../fixtures/principals.ts";
import { environmentWith, registryWith, serve, streamed } from "../fixtures/registry.ts";
import { type Query, type RegistryClient, utf8 } from "../support/client.ts";
import { asAdmin, basic } from "../support/credentials.ts";

/** GET and POST /token, as the distribution project's token specification and RFC 6749 have them. */

const run = crypto.randomUUID();
const environment = environmentWith({ ANONYMOUS_PULL: `${run}-open/*` });
const registry = (): RegistryClient => registryWith(environment, freshAddress());
const team = (name: string): string => `${run}/${name}`;
const open = `${run}-open/app`;

const granted = z.object({
  access: z.array(z.object({ type: z.literal("repository"), name: z.string(), actions: z.array(z.string()) })),
  catalog: z.array(z.array(z.string())).optional(),
});

/** What a token says, by repository. */
function accessOf(token: string): Readonly<Record<string, readonly string[]>> {
  const { access, catalog } = granted.parse(claimsOf(`Bearer ${token}`));
  const entries = access.map(({ name, actions }): [string, readonly string[]] => [name, actions.toSorted()]);
  return { ...Object.fromEntries(entries), ...(catalog === undefined ? {} : { catalog: catalog.flat() }) };
}

async function answerOf(response: Response): Promise<z.infer<typeof tokenAnswer>> {
  expect({ status: response.status, text: await response.clone().text() }).toMatchObject({ status: 200 });
  return tokenAnswer.parse(await response.json());
}

const get = async (authorization: string | null, query: Query = {}): Promise<Response> =>
  registry().as(authorization).request("GET", "/token", { query });

type Form = Readonly<Record<string, string>>;
const post = async (form: Form, authorization: string | null = null): Promise<Response> =>
  registry()
    .as(authorization)
    .request("POST", "/token", {
      body: new URLSearchParams(form).toString(),
      headers: { "Content-Type": "application/x-www-form-urlencoded; charset=utf-8" },
    });

const got = async (authorization: string | null, ...scopes: readonly string[]) =>
  accessOf((await answerOf(await get(authorization, { service: HOST, scope: scopes }))).token);

let robot = "";
let robotName = "";
let robotSecret = "";

beforeAll(async () => {
  const made = await makeRobot([`${run}/*:pull,push`, `${run}/bin/*:pull,push,delete`]);
  robot = made.token.authorization;
  robotName = made.user.name;
  robotSecret = made.token.secret;
  await push(registry().repository(open), image({ layers: [] }), "v1");
});

const pullPush = ["pull", "push"];

/** Both forms of a request for the same scopes, by the same principal. */
const forms = [
  { form: "GET, with repeated scope", ask: async (scopes: readonly string[]) => got(robot, ...scopes) },
  { form: "GET, with scopes parted by spaces", ask: async (scopes: readonly string[]) => got(robot, scopes.join(" ")) },
  {
    form: "POST, with scopes parted by spaces",
    ask: async (scopes: readonly string[]) =>
      accessOf(
        (
          await answerOf(
            await post({
              grant_type: "password",
              username: robotName,
              password: robotSecret,
              scope: scopes.join(" "),
            }),
          )
        ).token,
      ),
  },
];

describe.each(forms)("by $form", ({ ask }) => {
  it.each<readonly [string, readonly string[], Readonly<Record<string, readonly string[]>>]>([
    ["nothing where nothing is asked", [], {}],
    ["one right", [`repository:${team("a")}:pull`], { [team("a")]: ["pull"] }],
    ["two rights, in either order", [`repository:${team("a")}:push,pull`], { [team("a")]: pullPush }],
    ["what is allowed of what is asked", [`repository:${team("a")}:pull,push,delete`], { [team("a")]: pullPush }],
    ["what `*` stands for, as far as it is allowed", [`repository:${team("a")}:*`], { [team("a")]: pullPush }],
    ["nothing of another's", [`repository:${run}-other/a:pull,push`], {}],
    [
      "several repositories, each with its own",
      [
        `repository:${team("a")}:pull,push`,
        `repository:${team("b")}:pull`,
        `repository:${team("bin/c")}:delete`,
        `repository:${run}-other/a:pull`,
      ],
      { [team("a")]: pullPush, [team("b")]: ["pull"], [team("bin/c")]: ["delete"] },
    ],
    [
      "one repository that is named twice, once",
      [`repository:${team("a")}:pull`, `repository:${team("a")}:push`],
      { [team("a")]: pullPush },
    ],
    ["nothing for an unknown action", [`repository:${team("a")}:admin,metadata,Pull,PULL,write,`], {}],
    [
      "nothing for an unknown type, name or placeholder, and the rest all the same",
      [
        "repository:${name}:pull",
        "repository:user/image:pull",
        "repository:UPPER:pull",
        "repository:a/../b:pull",
        "repository::pull",
        "repository:",
        "repository",
        ":",
        "plugin:x:pull",
        "aws",
        "registry:other:*",
        `Repository:${team("b")}:pull`,
        `repository:${team("a")}:pull`,
      ],
      { [team("a")]: ["pull"] },
    ],
    ["the same for a resource with a class", [`repository(plugin):${team("a")}:pull`], { [team("a")]: ["pull"] }],
    ["what everybody may pull, without a grant", [`repository:${open}:pull,push`], { [open]: ["pull"] }],
    ["nothing for a pattern: a scope names repositories", [`repository:${run}/*:pull`, "repository:**:pull"], {}],
    ["nothing with a host in the name, which is no name", [`repository:${HOST}:5000/${team("a")}:pull`], {}],
  ])("gives %s", async (_what, scopes, expected) => {
    expect(await ask(scopes)).toEqual(expected);
  });

  it("gives the catalogue by the patterns that may be pulled", async () => {
    const expected = { catalog: [`${run}/*`, `${run}/bin/*`, `${run}-open/*`] };
    expect(await ask(["registry:catalog:*"])).toEqual(expected);
    expect(await ask(["registry:catalog:pull"])).toEqual({});
  });
});

const somePattern = fc.constantFrom("a", "b", "bin/c", "*", "**", "a*", "bin/*", "**/c", "A/..");
const someRights = fc.uniqueArray(fc.constantFrom("pull", "push", "delete"), { minLength: 1 });
const someGrants = fc.array(
  fc.tuple(somePattern, someRights).filter(([pattern]) => !pattern.startsWith("A")),
  { maxLength: 3 },
);
const someScopes = fc.array(
  fc.tuple(
    fc.constantFrom("a", "b", "ab", "bin/c", "bin/c/d", "c", "*", "A"),
    fc.array(fc.constantFrom("pull", "push", "delete", "*", "admin", "Pull"), { minLength: 1, maxLength: 3 }),
  ),
  { maxLength: 4 },
);
type Some = readonly (readonly [pattern: string, rights: readonly string[]])[];

const expressionOf = (pattern: string): RegExp =>
  new RegExp(`^${pattern.replaceAll(/\*\*?/g, (stars) => (stars === "*" ? "[^/]*" : ".*"))}$`);

/** By the letter of the grammar: `*` is one part or a piece of it, `**` any number of them. */
function grants(list: Some, name: string, right: string): boolean {
  return list.some(([pattern, rights]) => rights.includes(right) && expressionOf(pattern).test(name));
}

describe("whatever is granted and asked", () => {
  test.prop([someGrants, fc.option(someGrants), someScopes], { numRuns: 60 })(
    "a bearer has what is asked for and allowed, no more and no less",
    async (own, narrowed, scopes) => {
      const under = crypto.randomUUID();
      const textsOf = (list: Some): string[] =>
        list.map(([pattern, rights]) => `${under}/${pattern}:${rights.join(",")}`);
      const { token } = await makeRobot(textsOf(own), narrowed === null ? {} : { grants: textsOf(narrowed) });
      const expected: Record<string, string[]> = {};
      for (const [name, actions] of scopes) {
        if (name === "*" || name === "A") continue;
        const asked = actions.includes("*") ? ["pull", "push", "delete"] : actions;
        for (const right of ["delete", "pull", "push"].filter((each) => asked.includes(each))) {
          if (!grants(own, name, right) || (narrowed !== null && !grants(narrowed, name, right))) continue;
          const rights = (expected[`${under}/${name}`] ??= []);
          if (!rights.includes(right)) rights.push(right);
          rights.sort((one, other) => one.localeCompare(other));
        }
      }
      const texts = scopes.map(([name, actions]) => `repository:${under}/${name}:${actions.join(",")}`);
      expect(await got(token.authorization, ...texts)).toEqual(expected);
    },
  );
});

describe("the answer", () => {
  it("has the fields that clients read, and is no cache's", async () => {
    const before = Date.now();
    const response = await get(robot, { scope: `repository:${team("a")}:pull`, service: HOST });
    expect(response.headers.get("Content-Type")).toBe("application/json");
    expect(response.headers.get("Cache-Control")).toBe("no-store");
    const answer = await answerOf(response);
    expect(answer.access_token).toBe(answer.token);
    expect(answer.expires_in).toBe(BEARER_LIFE_SECONDS);
    expect(BEARER_LIFE_SECONDS).toBeLessThanOrEqual(300);
    // RFC 3339, as Go's time.Time reads it.
    expect(answer.issued_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(Date.parse(answer.issued_at)).toBeGreaterThanOrEqual(before);
    expect(answer.refresh_token).toBeUndefined();
  });

  it("is signed for the time that it says", async () => {
    const { token } = await answerOf(await get(robot));
    const { iat, exp } = z.object({ iat: z.number(), exp: z.number() }).parse(claimsOf(`Bearer ${token}`));
    expect(exp - iat).toBe(BEARER_LIFE_SECONDS);
  });

  it("is never the same token twice", async () => {
    const [one, other] = [await answerOf(await get(robot)), await answerOf(await get(robot))];
    expect(one.token).not.toBe(other.token);
  });

  it("has a token that fits into a header with the most and longest repositories that may be asked for", async () => {
    const names = Array.from({ length: SCOPES_MAX }, (_, index) => `${run}/${String(index)}`.padEnd(255, "x"));
    const body = new URLSearchParams({
      grant_type: "password",
      username: "admin",
      password: "the administrator of a test",
      scope: names.map((name) => `repository:${name}:pull,push,delete`).join(" "),
    }).toString();
    const { token } = await answerOf(await registry().as(null).request("POST", "/token", { body }));
    expect(
      (
        await registry()
          .as(`Bearer ${token}`)
          .repository(names.at(-1) ?? "")
          .startUpload()
      ).status,
    ).toBe(202);
  });
});

describe("parameters", () => {
  it("account, client_id and service are taken and change nothing", async () => {
    const scope = `repository:${team("a")}:pull`;
    for (const query of [
      { account: "somebody-else", client_id: "docker", service: "another.example" },
      { account: "admin" },
      { service: "" },
      { client_id: "x".repeat(1000) },
    ]) {
      const { token } = await answerOf(await get(robot, { ...query, scope }));
      expect(claimsOf(`Bearer ${token}`)).toMatchObject({ sub: `user:${robotName}`, aud: HOST });
      expect(accessOf(token)).toEqual({ [team("a")]: ["pull"] });
    }
  });

  it("account alone, without a password, is nobody's", async () => {
    const { token } = await answerOf(await get(null, { account: "admin", scope: `repository:${team("a")}:pull` }));
    expect(claimsOf(`Bearer ${token}`)).toMatchObject({ sub: "anonymous", access: [] });
  });

  it("username and password in the query of GET are no login", async () => {
    const { token } = await answerOf(await get(null, { username: robotName, password: robotSecret }));
    expect(claimsOf(`Bearer ${token}`)).toMatchObject({ sub: "anonymous" });
  });

  it("offline_token=true gives a refresh token; anything else does not", async () => {
    expect((await answerOf(await get(robot, { offline_token: "true" }))).refresh_token).toBeDefined();
    for (const query of [{ offline_token: "false" }, { offline_token: "1" }, {}]) {
      expect((await answerOf(await get(robot, query))).refresh_token).toBeUndefined();
    }
  });

  it("offline_token gives nobody a refresh token", async () => {
    expect((await answerOf(await get(null, { offline_token: "true" }))).refresh_token).toBeUndefined();
  });
});

describe("without credentials", () => {
  it.each([
    { what: "none", authorization: null },
    { what: "an empty Authorization", authorization: "" },
    { what: "an empty Basic", authorization: basic("", "") },
  ])("$what gives an anonymous token with what the policy grants, never a 401", async ({ authorization }) => {
    expect(await got(authorization, `repository:${open}:pull,push`, `repository:${team("a")}:pull`)).toEqual({
      [open]: ["pull"],
    });
    expect(await got(authorization)).toEqual({});
    expect(await got(authorization, "registry:catalog:*")).toEqual({ catalog: [`${run}-open/*`] });
  });

  it("where nothing is public gives a token with nothing", async () => {
    const response = await registryWith(environmentWith({}), freshAddress())
      .as(null)
      .request("GET", "/token", { query: { scope: [`repository:${open}:pull`, "registry:catalog:*"] } });
    const { token } = await answerOf(response);
    expect(accessOf(token)).toEqual({});
  });

  it("the token pulls what is public", async () => {
    const { token } = await answerOf(await get(null, { scope: `repository:${open}:pull` }));
    expect((await registry().as(`Bearer ${token}`).repository(open).getManifest("v1")).status).toBe(200);
  });
});

describe("POST", () => {
  const login = { grant_type: "password", username: "", password: "" };

  it("with access_type=offline gives a refresh token, which goes on to give tokens", async () => {
    const form = { ...login, username: robotName, password: robotSecret, client_id: "x", service: HOST };
    const { refresh_token: refreshToken = "" } = await answerOf(await post({ ...form, access_type: "offline" }));
    expect(refreshToken).not.toBe("");
    expect((await answerOf(await post(form))).refresh_token).toBeUndefined();
    const scope = `repository:${team("a")}:pull,push,delete`;
    const again = await answerOf(
      await post({ grant_type: "refresh_token", refresh_token: refreshToken, client_id: "x", service: HOST, scope }),
    );
    expect(accessOf(again.token)).toEqual({ [team("a")]: pullPush });
    expect(claimsOf(`Bearer ${again.token}`)).toMatchObject({ sub: `user:${robotName}` });
    expect(again.refresh_token).toBe(refreshToken);
  });

  it("gives back no refresh token that was not asked by it", async () => {
    const form = { ...login, username: robotName, password: robotSecret };
    expect((await answerOf(await post({ ...form, refresh_token: "of nobody" }))).refresh_token).toBeUndefined();
  });

  it("takes the administrator, a user's password, and an access token", async () => {
    const user = await makeUser([`${run}/*:pull`], { password: "pässword with: a colon&=+ 🔑" });
    const token = await makeAccessToken(user);
    const scope = `repository:${team("a")}:pull`;
    for (const [username, password, sub] of [
      ["admin", "the administrator of a test", "admin"],
      [user.name, "pässword with: a colon&=+ 🔑", `user:${user.name}`],
      [user.name, token.secret, `user:${user.name}`],
    ] as const) {
      const answer = await answerOf(await post({ ...login, username, password, scope }));
      expect(claimsOf(`Bearer ${answer.token}`)).toMatchObject({ sub });
      expect(accessOf(answer.token)).toEqual({ [team("a")]: ["pull"] });
    }
  });

  it.each([
    { what: "a wrong password", username: "admin", password: "guess" },
    { what: "an unknown user", username: "stranger", password: "guess" },
    { what: "no user", username: "", password: "guess" },
    { what: "an access token of nobody", username: "stranger", password: `moorage_${"A".repeat(43)}` },
  ])("with $what is a 401 in the envelope", async ({ username, password }) => {
    await expectError(await post({ ...login, username, password }), 401, "UNAUTHORIZED");
  });

  it.each(["", "client_credentials", "PASSWORD", "authorization_code", "x".repeat(500)])(
    "with grant_type %j is a 400",
    async (grantType) => {
      await expectError(await post({ ...login, grant_type: grantType }), 400, "UNSUPPORTED");
    },
  );

  it("without a form is a 400", async () => {
    await expectError(await registry().as(null).request("POST", "/token"), 400, "UNSUPPORTED");
    await expectError(await registry().as(null).request("POST", "/token", { body: "{}" }), 400, "UNSUPPORTED");
    await expectError(await registry().as(null).request("POST", "/token", { body: "%%%&&&==" }), 400, "UNSUPPORTED");
  });

  it("with a form that is too large is a 413, of known length and of unknown", async () => {
    const body = utf8(`grant_type=password&x=${"x".repeat(FORM_MAX_BYTES)}`);
    await expectError(await registry().as(null).request("POST", "/token", { body }), 413, "UNSUPPORTED");
    await expectError(await serve(streamed("POST", "/token", streamOf(body)), environment), 413, "UNSUPPORTED");
  });

  it("takes no credentials of the header in the form's place", async () => {
    await expectError(await post({}, asAdmin), 400, "UNSUPPORTED");
    await expectError(await post({ ...login, username: "admin", password: "guess" }, asAdmin), 401, "UNAUTHORIZED");
  });
});

/** Of as many repositories. */
const scopes = (count: number): readonly string[] =>
  Array.from({ length: count }, (_, index) => `repository:${team(String(index))}:pull`);

describe("bounds", () => {
  it(`${String(SCOPES_MAX)} repositories in one token are taken, one more is a 400`, async () => {
    expect(Object.keys(await got(robot, ...scopes(SCOPES_MAX)))).toHaveLength(SCOPES_MAX);
    for (const response of [
      await get(robot, { scope: scopes(SCOPES_MAX + 1) }),
      await get(null, { scope: scopes(SCOPES_MAX + 1) }),
      await post({
        grant_type: "password",
        username: robotName,
        password: robotSecret,
        scope: scopes(SCOPES_MAX + 1).join(" "),
      }),
    ]) {
      await expectError(response, 400, "DENIED");
    }
    expect(await got(robot, ...scopes(SCOPES_MAX), ...scopes(SCOPES_MAX))).toEqual(
      await got(robot, ...scopes(SCOPES_MAX)),
    );
  });
});

describe("a user's password", () => {
  it("is taken at /token alone", async () => {
    const user = await makeUser([`${run}/*:pull`], { password: "of a person" });
    const authorization = basic(user.name, "of a person");
    for (const response of [
      await registry().as(authorization).ping(),
      await registry().as(authorization).repository(team("a")).listTags(),
      await registry().as(authorization).listRepositories(),
    ]) {
      const [error] = await expectError(response, 401, "UNAUTHORIZED");
      expect(JSON.stringify(error?.detail)).toContain("/token");
    }
    expect(await got(authorization, `repository:${team("a")}:pull`)).toEqual({ [team("a")]: ["pull"] });
  });

  it("of a user without one is nobody's, be it empty", async () => {
    const user = await makeUser([]);
    for (const password of ["", "null", "undefined", "x"]) {
      await expectError(await get(basic(user.name, password)), 401, "UNAUTHORIZED");
      await expectError(await post({ grant_type: "password", username: user.name, password }), 401, "UNAUTHORIZED");
    }
  });

  it("is told apart from its beginning, and from what it begins", async () => {
    const user = await makeUser([], { password: "exactly this" });
    for (const password of ["exactly thi", "exactly this ", "Exactly this"]) {
      await expectError(await get(basic(user.name, password)), 401, "UNAUTHORIZED");
    }
    expect((await get(basic(user.name, "exactly this"))).status).toBe(200);
  });
});

describe("credentials that do not hold", () => {
  it.each([
    { what: "an unknown scheme", authorization: "Digest x" },
    { what: "Basic without a colon", authorization: `Basic ${btoa("admin")}` },
    { what: "Basic of the administrator with an empty password", authorization: basic("admin", "") },
  ])("$what is a 401 at /token: who says something is not to be taken for nobody", async ({ authorization }) => {
    await expectError(await get(authorization), 401, "UNAUTHORIZED");
  });

  it("a dummy bearer gets nobody's token, as an empty name and password do in a form", async () => {
    for (const response of [
      await get("Bearer QQ=="),
      await post({ grant_type: "password", service: HOST, username: "", password: "" }),
    ]) {
      expect(claimsOf(`Bearer ${(await answerOf(response)).token}`)).toMatchObject({ sub: "anonymous" });
    }
  });

  it("what would be too long for a header is refused, not given", async () => {
    const names = Array.from({ length: 64 }, (_, index) => `${"x".repeat(250)}${String(index)}`);
    const { token } = await makeRobot(["**:pull"]);
    const scope = names.map((name) => `repository:${name}:pull,push,delete`);
    await expectError(await get(token.authorization, { scope }), 400, "DENIED");
    expect((await get(token.authorization, { scope: scope.slice(32) })).status).toBe(200);
  });

  it("a bearer of /token gives no other bearer: its life would have no end", async () => {
    const { token } = await answerOf(await get(asAdmin));
    await expectError(await get(`Bearer ${token}`), 401, "UNAUTHORIZED");
    await expectError(await get(basic("admin", token)), 401, "UNAUTHORIZED");
  });
});

describe("other methods at /token", () => {
  it.each(["PUT", "PATCH", "DELETE"])("%s is a 405", async (method) => {
    const response = await registry().as(null).request(method, "/token");
    expect([response.status, response.headers.get("Allow")]).toEqual([405, "GET, HEAD, POST"]);
  });
});

describe("Basic on every endpoint", () => {
  it("deletes tags, manifests and blobs", async () => {
    const { token } = await makeRobot([`${run}/*:pull,push,delete`]);
    const repository = registry().as(token.authorization).repository(team("deleted"));
    const pushed = await push(repository, image(), "v1", "v2");
    expect((await repository.deleteManifest("v1")).status).toBe(202);
    expect((await repository.deleteManifest(pushed.descriptor.digest)).status).toBe(202);
    expect((await repository.deleteBlob(pushed.blobs[0]?.descriptor.digest ?? "")).status).toBe(202);
  });
});
