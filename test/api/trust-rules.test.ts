import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { FORM_MAX_BYTES } from "../../src/limits.ts";
import { rulesSchema, ruleSchema, type ToldTrustRule } from "../../src/trust-rules/rule.ts";
import { auditOf, createToken, createUser, nextOf, read, refused, send } from "../fixtures/management.ts";
import { bearerFor, freshAddress } from "../fixtures/principals.ts";
import { registryWith } from "../fixtures/registry.ts";
import { asAdmin, basic } from "../support/credentials.ts";

const github = "https://token.actions.githubusercontent.com";

/** The body of a rule that is as it should be, but for what is given. */
function ruleWith(fields: Readonly<Record<string, unknown>> = {}) {
  return {
    name: freshRule(),
    issuer: "https://issuer.example",
    audience: "https://registry.example",
    conditions: { repository: ["my-org/my-app"] },
    grants: ["my-org/my-app:pull,push"],
    ...fields,
  };
}

function freshRule(): string {
  return `rule-${crypto.randomUUID()}`;
}

async function createRule(fields: Readonly<Record<string, unknown>> = {}): Promise<ToldTrustRule> {
  return read(await send("POST", "trust-rules", ruleWith(fields)), 201, ruleSchema.strict());
}

async function show(name: string): Promise<ToldTrustRule> {
  return read(await send("GET", `trust-rules/${name}`), 200, ruleSchema.strict());
}

describe("POST /api/v1/trust-rules", () => {
  it("creates a rule, which is shown as it was written, and noted with its change", async () => {
    const name = freshRule();
    const said = {
      issuer: github,
      audience: "https://registry.example",
      conditions: { repository: ["my-org/my-app"], ref: ["refs/heads/main", "refs/tags/v*"] },
      grants: ["my-org/*:push,pull"],
    };
    const response = await send("POST", "trust-rules", { name, ...said });
    expect(response.headers.get("Location")).toBe(`/api/v1/trust-rules/${name}`);
    const rule = await read(response, 201, ruleSchema.strict());
    const told = { ...said, grants: ["my-org/*:pull,push"] };
    expect(rule).toMatchObject({ name, ...told });
    expect(await show(name)).toEqual(rule);
    expect(await auditOf(name)).toEqual([{ action: "rule.create", principal: "admin", detail: told }]);
  });

  it("takes one pattern in place of a list", async () => {
    const { name } = await createRule({ conditions: { sub: "a job" } });
    expect((await show(name)).conditions).toEqual({ sub: ["a job"] });
  });

  it("takes no name twice, changes nothing then and notes nothing", async () => {
    const rule = await createRule();
    const reason = await refused(
      await send("POST", "trust-rules", ruleWith({ name: rule.name, grants: [] })),
      409,
      "CONFLICT",
    );
    expect(reason).toContain("name");
    expect(await show(rule.name)).toEqual(rule);
    expect(await auditOf(rule.name)).toHaveLength(1);
  });

  it("is one winner of many at once, who is noted once", async () => {
    const name = freshRule();
    const statuses = await Promise.all(
      Array.from({ length: 8 }, async () => (await send("POST", "trust-rules", ruleWith({ name }))).status),
    );
    expect([201, 409].map((status) => statuses.filter((each) => each === status).length)).toEqual([1, 7]);
    expect(await auditOf(name)).toHaveLength(1);
  });

  it.each([
    "cloudflare-access",
    "",
    "Upper",
    "two words",
    "a/b",
    "..",
    "a..b",
    "a:b",
    "oidc:a",
    "a%2fb",
    "-a",
    "é",
    "a\n",
    "a".repeat(65),
  ])("refuses the name %j", async (name) => {
    const response = await send("POST", "trust-rules", ruleWith({ name }));
    expect(await refused(response, 400, "INVALID_REQUEST")).toMatch(/^name: /);
  });

  it.each([
    "",
    "issuer.example",
    "//issuer.example",
    "http://issuer.example",
    "http://10.0.0.1",
    "http://127.0.0.2:8080",
    "http://localhost.example",
    "http://localhost@issuer.example",
    "http://[fd00::1]",
    "ftp://issuer.example",
    "file:///etc/issuer",
    "data:application/json,{}",
    "javascript:0",
    "https://",
    "https://somebody@issuer.example",
    "https://:secret@issuer.example",
    "https://@issuer.example",
    "https://issuer.example?tenant=1",
    "https://issuer.example?",
    "https://issuer.example#",
    "https:\\\\issuer.example",
    "https://issuer.example/a b",
    " https://issuer.example",
    "https://issuer.example\n",
    "https://issuer.example\u0000",
    `https://issuer.example/${"a".repeat(512)}`,
  ])("refuses the issuer %j", async (issuer) => {
    const response = await send("POST", "trust-rules", ruleWith({ issuer }));
    expect(await refused(response, 400, "INVALID_REQUEST")).toMatch(/^issuer: /);
  });

  it.each([
    "https://issuer.example/",
    "https://Issuer.example/Tenant",
    "https://issuer.example:8443/realms/a@b",
    "https://10.96.0.1",
    "https://kubernetes.default.svc.cluster.local",
    "http://localhost:8080",
    "http://127.0.0.1:8080",
    "http://[::1]:8080/realm",
  ])("takes the issuer %j, to the letter", async (issuer) => {
    const { name } = await createRule({ issuer });
    expect((await show(name)).issuer).toBe(issuer);
  });

  it.each<[string, unknown]>([
    ["no conditions", undefined],
    ["no claim", {}],
    ["a claim of any value", { repository: "*" }],
    ["claims of any value", { repository: ["**"], ref: ["*", "***"] }],
    ["a value or any", { repository: ["my-org/my-app", "*"] }],
    ["no pattern", { repository: [] }],
    ["an empty pattern", { repository: [""] }],
    ["an empty pattern among others", { repository: ["my-org/my-app", ""] }],
    ["an empty claim", { "": "x" }],
    ["a number", { repository_id: 74 }],
    ["a yes", { protected: true }],
    ["null", { repository: null }],
    ["a claim in a claim as an object", { "kubernetes.io": { namespace: "ci" } }],
    ["a list", ["repository"]],
    ["a long claim", { ["a".repeat(129)]: "x" }],
    ["a long pattern", { repository: "a".repeat(513) }],
    ["many patterns", { repository: Array.from({ length: 51 }, () => "x") }],
    ["many claims", Object.fromEntries(Array.from({ length: 21 }, (_none, index) => [`claim${String(index)}`, "x"]))],
  ])("refuses conditions with %s", async (_what, conditions) => {
    const name = freshRule();
    const response = await send("POST", "trust-rules", ruleWith({ name, conditions }));
    expect(await refused(response, 400, "INVALID_REQUEST")).toMatch(/^conditions/);
    expect(await auditOf(name)).toEqual([]);
  });

  it("drops no condition in silence: one that could not be kept is refused", async () => {
    const rule = JSON.stringify(ruleWith({ conditions: { sub: "a job", claim: "x" } })).replace(
      '"claim"',
      '"__proto__"',
    );
    await refused(await send("POST", "trust-rules", rule), 400, "INVALID_REQUEST");
  });

  it.each<[string, Readonly<Record<string, unknown>>]>([
    ["no issuer", { issuer: undefined }],
    ["no audience", { audience: undefined }],
    ["an empty audience", { audience: "" }],
    ["several audiences", { audience: ["a", "b"] }],
    ["a long audience", { audience: "a".repeat(513) }],
    ["no grants", { grants: undefined }],
    ["grants that are no list", { grants: "a:pull" }],
    ["a reserved right", { grants: ["a:admin"] }],
    ["a grant that is none", { grants: ["a"] }],
    ["more grants than there may be", { grants: Array.from({ length: 101 }, () => "a:pull") }],
    ["an unknown field", { admin: true }],
    ["another unknown field", { jwks_uri: "https://elsewhere.example/keys" }],
  ])("refuses a rule with %s", async (_what, fields) => {
    const name = freshRule();
    await refused(await send("POST", "trust-rules", ruleWith({ name, ...fields })), 400, "INVALID_REQUEST");
    await refused(await send("GET", `trust-rules/${name}`), 404, "NOT_FOUND");
    expect(await auditOf(name)).toEqual([]);
  });

  it("refuses a body of another type, and one that is too large", async () => {
    const value = JSON.stringify(ruleWith());
    await refused(
      await send("POST", "trust-rules", value, asAdmin, { "Content-Type": "text/plain" }),
      415,
      "INVALID_REQUEST",
    );
    const large = ruleWith({ conditions: { sub: "x".repeat(FORM_MAX_BYTES) } });
    await refused(await send("POST", "trust-rules", large), 413, "INVALID_REQUEST");
    await refused(await send("POST", "trust-rules", "{"), 400, "INVALID_REQUEST");
  });
});

describe("a rule for an issuer of which everybody can have a token", () => {
  it.each<[string, Readonly<Record<string, string | readonly string[]>>]>([
    [github, { ref: "refs/heads/main" }],
    [github, { environment: "production", ref: "refs/heads/main", repository_visibility: "private" }],
    [github, { repository: "*/my-app" }],
    [github, { repository: "my-org*" }],
    [github, { repository: "my-org/" }],
    [github, { repository: ["my-org/my-app", "*/my-app"] }],
    [github, { repository_owner: "my-*" }],
    [github, { sub: "repo:*" }],
    [github, { sub: "repo:my-org*" }],
    [github, { sub: "repo:*/my-app:ref:refs/heads/main" }],
    [github, { sub: "*:environment:production" }],
    [github, { job_workflow_ref: "my-org/workflows/.github/workflows/release.yml@refs/heads/main" }],
    [github, { Repository: "my-org/my-app" }],
    [`${github}/`, { ref: "refs/heads/main" }],
    ["https://gitlab.com", { ref: "main", ref_protected: "true" }],
    ["https://gitlab.com", { project_path: "my-group*" }],
    ["https://gitlab.com", { namespace_path: ["my-group", "my-group*"] }],
    ["https://gitlab.com", { sub: "project_path:*/my-project:ref_type:branch:ref:main" }],
  ])("must say whose: %s, %j", async (issuer, conditions) => {
    const name = freshRule();
    const response = await send("POST", "trust-rules", ruleWith({ name, issuer, conditions }));
    expect(await refused(response, 400, "INVALID_REQUEST")).toMatch(/^conditions: everybody can have a token of /);
    await refused(await send("GET", `trust-rules/${name}`), 404, "NOT_FOUND");
    const { name: of } = await createRule();
    await refused(await send("PATCH", `trust-rules/${of}`, { issuer, conditions }), 400, "INVALID_REQUEST");
    expect(await auditOf(of)).toHaveLength(1);
  });

  it.each<[string, Readonly<Record<string, string | readonly string[]>>]>([
    [github, { repository: "my-org/my-app" }],
    [github, { repository: ["my-org/*", "other/my-app"], ref: "refs/heads/*" }],
    [github, { repository_owner: "my-org" }],
    [github, { repository_owner_id: "65" }],
    [github, { repository: "*", repository_id: "74" }],
    [github, { sub: "repo:my-org/my-app:*" }],
    [`${github}/my-enterprise`, { ref: "refs/heads/main" }],
    ["https://gitlab.com", { project_path: "my-group/my-project" }],
    ["https://gitlab.com", { namespace_path: ["my-group", "my-group/*"] }],
    ["https://gitlab.example", { ref_protected: "true" }],
  ])("may say so: %s, %j", async (issuer, conditions) => {
    await createRule({ issuer, conditions });
  });

  it("can't be made by changing one half of another", async () => {
    const byRef = await createRule({ conditions: { ref: "refs/heads/main" } });
    const reason = await refused(
      await send("PATCH", `trust-rules/${byRef.name}`, { issuer: github }),
      400,
      "INVALID_REQUEST",
    );
    expect(reason).toMatch(/^conditions: everybody can have a token of /);
    const byOwner = await createRule({ issuer: github });
    const change = { conditions: { ref: "refs/heads/main" } };
    await refused(await send("PATCH", `trust-rules/${byOwner.name}`, change), 400, "INVALID_REQUEST");
    for (const rule of [byRef, byOwner]) {
      expect(await show(rule.name)).toEqual(rule);
      expect(await auditOf(rule.name)).toHaveLength(1);
    }
  });
});

describe("GET /api/v1/trust-rules", () => {
  it("pages by n and Link, in the order of names", async () => {
    const run = freshRule();
    const names = ["a", "b", "c", "d", "e"].map((letter) => `${run}-${letter}`);
    for (const name of names.toReversed()) await createRule({ name });
    const found: string[] = [];
    let next: string | null = `trust-rules?n=2&after=${run}`;
    while (next !== null && found.length < names.length) {
      const response: Response = await send("GET", next);
      const { rules } = await read(response, 200, rulesSchema.strict());
      expect(rules.length).toBeLessThanOrEqual(2);
      found.push(...rules.map(({ name }) => name));
      next = nextOf(response);
    }
    expect(found.slice(0, names.length)).toEqual(names);
  });

  it("ends without a Link", async () => {
    const last = await createRule({ name: `z${freshRule()}` });
    const response = await send("GET", `trust-rules?after=${last.name}`);
    expect(nextOf(response)).toBeNull();
    expect((await read(response, 200, rulesSchema)).rules.map(({ name }) => name)).not.toContain(last.name);
  });

  it.each(["n=0", "n=101", "n=ten", "n=1&n=2", "last=x", `after=${"a".repeat(65)}`])("refuses ?%s", async (query) => {
    await refused(await send("GET", `trust-rules?${query}`), 400, "INVALID_REQUEST");
  });
});

describe("GET /api/v1/trust-rules/{rule}", () => {
  it("does not know what is not there", async () => {
    expect(await refused(await send("GET", `trust-rules/${freshRule()}`), 404, "NOT_FOUND")).toContain(
      "no such trust rule",
    );
  });

  it.each(["UPPER", "a%2Fb", "%2e%2e%2f", "a%00", "a%3Ab", "cloudflare-access", "a".repeat(65)])(
    "is refused for %s, which can be no rule's name",
    async (name) => {
      await refused(await send("GET", `trust-rules/${name}`), 400, "INVALID_REQUEST");
    },
  );
});

describe("PATCH /api/v1/trust-rules/{rule}", () => {
  it("changes what is given and nothing else, and notes that", async () => {
    const rule = await createRule();
    const change = async (value: object): Promise<ToldTrustRule> =>
      read(await send("PATCH", `trust-rules/${rule.name}`, value), 200, ruleSchema.strict());
    expect(await change({ grants: ["b:pull"] })).toEqual({ ...rule, grants: ["b:pull"] });
    const conditions = { sub: ["a job", "another *"] };
    expect(await change({ conditions })).toEqual({ ...rule, grants: ["b:pull"], conditions });
    const both = { issuer: "https://other.example/", audience: "another" };
    expect(await change(both)).toEqual({ ...rule, grants: ["b:pull"], conditions, ...both });
    expect(await change({ grants: [] })).toMatchObject({ grants: [] });
    expect((await auditOf(rule.name)).map(({ action, detail }) => [action, detail]).slice(1)).toEqual([
      ["rule.change", { grants: ["b:pull"] }],
      ["rule.change", { conditions }],
      ["rule.change", both],
      ["rule.change", { grants: [] }],
    ]);
  });

  it("does not know what is not there, and notes nothing", async () => {
    for (const change of [{ grants: [] }, { conditions: { sub: "x" } }]) {
      const name = freshRule();
      await refused(await send("PATCH", `trust-rules/${name}`, change), 404, "NOT_FOUND");
      expect(await auditOf(name)).toEqual([]);
    }
  });

  it.each<[string, unknown]>([
    ["nothing", {}],
    ["a new name", { name: "other" }],
    ["an unknown field beside a known one", { grants: [], enabled: true }],
    ["no conditions", { conditions: {} }],
    ["conditions that are null", { conditions: null }],
    ["conditions of any value", { conditions: { sub: "*" } }],
    ["an issuer that is none", { issuer: "http://issuer.example" }],
    ["an empty audience", { audience: "" }],
    ["a reserved right", { grants: ["a:metadata"] }],
  ])("refuses %s", async (_what, value) => {
    const rule = await createRule();
    await refused(await send("PATCH", `trust-rules/${rule.name}`, value), 400, "INVALID_REQUEST");
    expect(await show(rule.name)).toEqual(rule);
    expect(await auditOf(rule.name)).toHaveLength(1);
  });
});

describe("DELETE /api/v1/trust-rules/{rule}", () => {
  it("takes the rule, once, and notes it", async () => {
    const { name } = await createRule();
    const response = await send("DELETE", `trust-rules/${name}`);
    expect([response.status, await response.text()]).toEqual([204, ""]);
    await refused(await send("GET", `trust-rules/${name}`), 404, "NOT_FOUND");
    await refused(await send("DELETE", `trust-rules/${name}`), 404, "NOT_FOUND");
    expect((await auditOf(name)).map(({ action }) => action)).toEqual(["rule.create", "rule.delete"]);
  });

  it("does not know what is not there, and notes nothing", async () => {
    const name = freshRule();
    await refused(await send("DELETE", `trust-rules/${name}`), 404, "NOT_FOUND");
    expect(await auditOf(name)).toEqual([]);
  });
});

describe("who is no administrator", () => {
  it("is refused on every route, and changes nothing", async () => {
    const rule = await createRule();
    const { name } = await createUser({ grants: ["**:pull,push,delete"] });
    const { authorization, token } = await createToken(name);
    const bearer = await bearerFor(registryWith(env, freshAddress()), authorization, "repository:a:*");
    const adminsBearer = await bearerFor(registryWith(env, freshAddress()), asAdmin, "registry:catalog:*");
    const routes: readonly [string, string, object?][] = [
      ["POST", "trust-rules", ruleWith()],
      ["GET", "trust-rules"],
      ["GET", `trust-rules/${rule.name}`],
      ["PATCH", `trust-rules/${rule.name}`, { grants: ["**:pull"] }],
      ["DELETE", `trust-rules/${rule.name}`],
    ];
    for (const [method, path, value] of routes) {
      for (const as of [authorization, `Bearer ${token}`, bearer, adminsBearer]) {
        await refused(await send(method, path, value, as), 403, "DENIED");
      }
      await refused(await send(method, path, value, null), 401, "UNAUTHORIZED");
      await refused(await send(method, path, value, basic("admin", "a guess")), 401, "UNAUTHORIZED");
    }
    expect(await show(rule.name)).toEqual(rule);
    expect(await auditOf(rule.name)).toHaveLength(1);
  });

  it("is whoever comes with a page of another site, even with the administrator's password", async () => {
    const rule = ruleWith();
    await refused(
      await send("POST", "trust-rules", rule, asAdmin, { Origin: "https://elsewhere.example" }),
      403,
      "DENIED",
    );
    await refused(await send("GET", `trust-rules/${rule.name}`), 404, "NOT_FOUND");
  });
});

describe("the OpenAPI document", () => {
  it("has the routes of trust rules, with the bounds that are held", async () => {
    const document = await (await send("GET", "openapi.json", undefined, null)).json();
    expect(document).toMatchObject({
      paths: {
        "/api/v1/trust-rules": { get: {}, post: {} },
        "/api/v1/trust-rules/{rule}": { get: {}, patch: {}, delete: {} },
      },
      components: {
        schemas: {
          NewTrustRule: {
            type: "object",
            additionalProperties: false,
            required: ["name", "issuer", "audience", "conditions", "grants"],
            properties: { name: { maxLength: 64 }, issuer: { maxLength: 512 }, grants: { maxItems: 100 } },
          },
          TrustRuleChange: { type: "object", additionalProperties: false, minProperties: 1 },
          TrustRule: { required: ["name", "issuer", "audience", "conditions", "grants", "createdAt"] },
        },
      },
    });
  });
});
