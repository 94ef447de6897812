import { describe, expect } from "vitest";
import { z } from "zod";
import { expectStatus, imageManifest, type RegistryClient, utf8 } from "../support/client.ts";
import { basic } from "../support/credentials.ts";
import { type KeysBehaviour, OidcIssuer } from "../support/oidc-issuer.ts";
import { audience, clientOf, clientWith, identityTest, postJson } from "./workload-identity-test.ts";

const tokenSchema = z.object({
  token: z.string(),
  expires_in: z.number(),
  refresh_token: z.string().optional(),
});
const errorSchema = z.object({
  errors: z.tuple([z.object({ code: z.string(), detail: z.looseObject({ reason: z.string() }) })]),
});
const recordsSchema = z.object({
  records: z.array(
    z.looseObject({
      principal: z.string(),
      action: z.string(),
      outcome: z.string(),
      detail: z.looseObject({ reason: z.string().optional() }).nullable(),
    }),
  ),
});

/** A manifest with nothing in it but what it needs. */
async function pushArtifact(client: RegistryClient, name: string): Promise<void> {
  const repository = client.repository(name);
  const config = await repository.pushBlob(utf8("{}"), { mediaType: "application/vnd.oci.empty.v1+json" });
  const manifest = { schemaVersion: 2, mediaType: imageManifest, config, layers: [config] };
  await repository.pushManifest(manifest, { reference: "v1" });
}

async function statusOfLogin(client: RegistryClient): Promise<number> {
  return (await client.ping()).status;
}

async function reasonOf(response: Response): Promise<string> {
  const { errors } = errorSchema.parse(await response.json());
  return errors[0].detail.reason;
}

/** The newest record of what a principal did, or of what was refused to nobody known. */
async function newestAudit(administrator: RegistryClient, query: Record<string, string>) {
  const response = await expectStatus(await administrator.request("GET", "/api/v1/audit", { query }), 200);
  return recordsSchema.parse(await response.json()).records[0];
}

describe("an ID token", () => {
  identityTest("as the password of Basic, pushes and pulls within its grants", async ({ registry, issuer, trust }) => {
    await trust();
    const client = clientWith(registry, await issuer.sign({ aud: audience }));
    await pushArtifact(client, "team/app");
    await expectStatus(await client.repository("team/app").getManifest("v1"), 200);
  });

  identityTest("does nothing outside of its grants", async ({ registry, issuer, trust }) => {
    await trust({ grants: ["team/*:pull"] });
    const client = clientWith(registry, await issuer.sign({ aud: audience }));
    await expectStatus(await client.repository("team/app").startUpload(), 403);
    await expectStatus(await client.repository("team/app").deleteManifest("v1"), 403);
    await expectStatus(await client.repository("team/app/deeper").getManifest("v1"), 403);
    await expectStatus(await client.repository("other/app").getManifest("v1"), 403);
    await expectStatus(await client.request("GET", "/api/v1/trust-rules"), 403);
  });

  identityTest.for(["RS256", "ES256", "EdDSA"] as const)(
    "may be signed with %s",
    async (algorithm, { registry, issuer, trust }) => {
      await trust();
      const token = await issuer.sign({ aud: audience }, { algorithm });
      expect(await statusOfLogin(clientWith(registry, token))).toBe(200);
    },
  );

  identityTest("has any user name with it, the administrator's too", async ({ registry, issuer, trust }) => {
    await trust();
    const token = await issuer.sign({ aud: audience });
    const client = clientOf(registry, basic("admin", token));
    expect(await statusOfLogin(client)).toBe(200);
    await expectStatus(await client.request("GET", "/api/v1/users"), 403);
  });

  identityTest("may have several audiences", async ({ registry, issuer, trust }) => {
    await trust();
    const token = await issuer.sign({ aud: ["https://elsewhere.test", audience] });
    expect(await statusOfLogin(clientWith(registry, token))).toBe(200);
  });

  const exchanges = {
    "as the password of Basic": (client: RegistryClient, token: string) =>
      client.request("GET", "/token", { query: scope, headers: { Authorization: basic("ci", token) } }),
    "as Bearer": (client: RegistryClient, token: string) =>
      client.request("GET", "/token", { query: scope, headers: { Authorization: `Bearer ${token}` } }),
    "as the password of a form": (client: RegistryClient, token: string) =>
      client.request("POST", "/token", {
        headers: { "Content-Type": "application/x-www-form-urlencoded" },
        body: utf8(
          new URLSearchParams({
            grant_type: "password",
            username: "ci",
            password: token,
            access_type: "offline",
            scope: scope.scope,
          }).toString(),
        ),
      }),
  };
  const scope = { scope: "repository:team/app:pull,push", offline_token: "true" };

  identityTest.for(["as the password of Basic", "as Bearer", "as the password of a form"] as const)(
    "is exchanged at /token %s, for a bearer and no refresh token",
    async (way, { registry, issuer, trust, administrator }) => {
      const rule = await trust();
      const subject = crypto.randomUUID();
      await trust({ conditions: { sub: subject } });
      const token = await issuer.sign({ aud: audience, sub: "a job" });
      const response = await expectStatus(await exchanges[way](clientOf(registry, null), token), 200);
      const answer = tokenSchema.parse(await response.json());
      expect(answer.refresh_token).toBeUndefined();
      await pushArtifact(clientOf(registry, `Bearer ${answer.token}`), "team/app");
      const principal = `oidc:${rule}:a job`;
      await expect
        .poll(() => newestAudit(administrator, { principal, action: "login" }))
        .toMatchObject({ principal, outcome: "ok" });
      expect(await newestAudit(administrator, { principal, action: "manifest.push" })).toMatchObject({ principal });
    },
  );

  identityTest("logs in, and pushes, as docker does", async ({ registry, issuer, trust }) => {
    await trust();
    const client = clientOf(registry, null);
    const challenged = await expectStatus(await client.ping(), 401);
    const realm = /realm="[^"]+(\/token)",service="([^"]+)"/.exec(challenged.headers.get("WWW-Authenticate") ?? "");
    const idToken = await issuer.sign({ aud: audience });
    const bearerFor = async (scopes: Readonly<Record<string, string>>): Promise<RegistryClient> => {
      const query = { account: "ci", client_id: "docker", offline_token: "true", service: realm?.[2] ?? "", ...scopes };
      const headers = { Authorization: basic("ci", idToken) };
      const response = await expectStatus(await client.request("GET", realm?.[1] ?? "", { query, headers }), 200);
      const answer = tokenSchema.parse(await response.json());
      expect(answer.expires_in).toBeLessThanOrEqual(300);
      return clientOf(registry, `Bearer ${answer.token}`);
    };
    expect(await statusOfLogin(await bearerFor({}))).toBe(200);
    await pushArtifact(await bearerFor({ scope: "repository:team/app:pull,push" }), "team/app");
    const elsewhere = await bearerFor({ scope: "repository:other/app:pull,push" });
    await expectStatus(await elsewhere.repository("other/app").startUpload(), 403);
  });

  identityTest("is no refresh token, and its bearer buys no other", async ({ registry, issuer, trust }) => {
    await trust();
    const client = clientOf(registry, null);
    const idToken = await issuer.sign({ aud: audience });
    const response = await exchanges["as Bearer"](client, idToken);
    const { token: bearer } = tokenSchema.parse(await response.json());
    for (const token of [idToken, bearer]) {
      const form = new URLSearchParams({ grant_type: "refresh_token", refresh_token: token, service: registry.host });
      const headers = { "Content-Type": "application/x-www-form-urlencoded" };
      await expectStatus(await client.request("POST", "/token", { headers, body: utf8(form.toString()) }), 401);
    }
    for (const way of ["as Bearer", "as the password of Basic", "as the password of a form"] as const) {
      await expectStatus(await exchanges[way](client, bearer), 401);
    }
  });

  identityTest("is no bearer of other endpoints", async ({ registry, issuer, trust }) => {
    await trust();
    const client = clientOf(registry, `Bearer ${await issuer.sign({ aud: audience })}`);
    expect(await statusOfLogin(client)).toBe(401);
  });
});

/** A token that must not do, from an issuer that is trusted for the subject `a job`. */
type BadToken = (issuer: OidcIssuer, other: OidcIssuer) => string | Promise<string>;

const now = (): number => Math.floor(Date.now() / 1000);

const badTokens: Readonly<Record<string, BadToken>> = {
  "of another audience": (issuer) => issuer.sign({ aud: "https://elsewhere.test" }),
  "without audience": (issuer) => issuer.sign(),
  "whose audience begins like the rule's": (issuer) => issuer.sign({ aud: `${audience}.example` }),
  "of an issuer that no rule names": (_issuer, other) => other.sign({ aud: audience }),
  "in the name of the issuer, by another one's key": (issuer, other) => other.sign({ aud: audience, iss: issuer.url }),
  "of the issuer, in the name of another one": (issuer, other) => issuer.sign({ aud: audience, iss: other.url }),
  "without issuer": (issuer) => issuer.sign({ aud: audience, iss: undefined }),
  "of the issuer's name with a slash more": (issuer) => issuer.sign({ aud: audience, iss: `${issuer.url}/` }),
  "of the issuer's name in capitals": (issuer) => issuer.sign({ aud: audience, iss: issuer.url.toUpperCase() }),
  "of the issuer's name with a path": (issuer) => issuer.sign({ aud: audience, iss: `${issuer.url}/keys` }),
  "of the issuer's name with a user": (issuer) =>
    issuer.sign({ aud: audience, iss: issuer.url.replace("://", "://somebody@") }),
  "whose issuer is a list": (issuer) => issuer.sign({ aud: audience, iss: [issuer.url] }),
  "whose issuer is an object": (issuer) => issuer.sign({ aud: audience, iss: { url: issuer.url } }),
  "whose issuer is a number": (issuer) => issuer.sign({ aud: audience, iss: 1 }),
  "of this registry itself": (issuer) => issuer.sign({ aud: audience, iss: "moorage" }),
  "for no audience": (issuer) => issuer.sign({ aud: [] }),
  "whose audience is an object": (issuer) => issuer.sign({ aud: { [audience]: audience } }),
  "that has expired": (issuer) => issuer.sign({ aud: audience, iat: now() - 600, nbf: now() - 600, exp: now() - 1 }),
  "that never expires": (issuer) => issuer.sign({ aud: audience, exp: undefined }),
  "whose end is a text": (issuer) => issuer.sign({ aud: audience, exp: String(now() + 300) }),
  "that is not valid yet": (issuer) => issuer.sign({ aud: audience, nbf: now() + 120, exp: now() + 300 }),
  "that was issued in the future": (issuer) => issuer.sign({ aud: audience, iat: now() + 120, exp: now() + 300 }),
  "that was issued at no time": (issuer) => issuer.sign({ aud: audience, iat: undefined }),
  "that was issued at a text": (issuer) => issuer.sign({ aud: audience, iat: String(now()) }),
  "that is not valid before a text": (issuer) => issuer.sign({ aud: audience, nbf: String(now()) }),
  "without subject": (issuer) => issuer.sign({ aud: audience, sub: undefined }),
  "with an empty subject": (issuer) => issuer.sign({ aud: audience, sub: "" }),
  "whose subject is a list": (issuer) => issuer.sign({ aud: audience, sub: ["a job"] }),
  "whose subject breaks the line": (issuer) => issuer.sign({ aud: audience, sub: "a job\nadmin" }),
  "whose subject turns the text around": (issuer) => issuer.sign({ aud: audience, sub: "a job\u202E" }),
  "whose subject has no end": (issuer) => issuer.sign({ aud: audience, sub: `a job${"!".repeat(600)}` }),
  "without signature (alg: none)": (issuer) => issuer.unsigned({ aud: audience }),
  "signed with the public key as secret (HS256)": (issuer) => issuer.signWithPublicKey({ aud: audience }),
  "of an unknown kid": (issuer) => issuer.sign({ aud: audience }, { header: { kid: "unknown" } }),
  "of another key's kid": (issuer) =>
    issuer.sign({ aud: audience }, { header: { kid: issuer.publicKey("ES256").kid ?? "" } }),
  "whose kid is a path": (issuer) => issuer.sign({ aud: audience }, { header: { kid: "../../keys" } }),
  "that brings its key along (jwk)": (issuer, other) =>
    other.sign(
      { aud: audience, iss: issuer.url },
      { header: { kid: issuer.publicKey("RS256").kid ?? "", jwk: other.publicKey("RS256") } },
    ),
  "that says where its key is (jku, x5u)": (issuer, other) =>
    other.sign({ aud: audience, iss: issuer.url }, { header: { jku: `${other.url}/keys`, x5u: `${other.url}/keys` } }),
  "that says an unknown critical header": (issuer) =>
    issuer.sign({ aud: audience }, { header: { crit: ["urn:test"], "urn:test": true } }),
  "whose claims were changed": async (issuer) => {
    const [header = "", , signature = ""] = (await issuer.sign({ aud: audience, sub: "another job" })).split(".");
    const payload = Buffer.from(JSON.stringify(issuer.claims({ aud: audience }))).toString("base64url");
    return `${header}.${payload}.${signature}`;
  },
  "whose signature was cut off": async (issuer) => (await issuer.sign({ aud: audience })).replace(/[^.]+$/, ""),
  "whose payload is no JSON": async (issuer) =>
    (await issuer.sign({ aud: audience })).replace(/\.[^.]+\./, `.${Buffer.from('{"iss').toString("base64url")}.`),
};

describe("a token is refused, on every endpoint and at /token,", () => {
  identityTest.for(Object.keys(badTokens))("%s", async (name, { registry, issuer, trust, onTestFinished }) => {
    const other = await OidcIssuer.start();
    onTestFinished(() => other.close());
    // A condition that every token of the issuer meets: what is wrong with one is what it says that it is.
    await trust({ conditions: { kind: "job" } });
    const token = (await badTokens[name]?.(issuer, other)) ?? "";
    const client = clientWith(registry, token);
    await expectStatus(await client.ping(), 401);
    await expectStatus(await client.repository("team/app").startUpload(), 401);
    await expectStatus(await client.request("GET", "/token"), 401);
    const asBearer = clientOf(registry, `Bearer ${token}`);
    await expectStatus(await asBearer.request("GET", "/token"), 401);
    expect(other.asked).toEqual([]);
  });

  identityTest(
    "and the audit says why, its sender is told less",
    async ({ registry, issuer, trust, administrator }) => {
      const rule = await trust({ conditions: { ref: "refs/heads/main" } });
      const client = clientWith(registry, await issuer.sign({ aud: audience, ref: "refs/heads/other" }));
      const response = await expectStatus(await client.request("GET", "/token"), 401);
      expect(await reasonOf(response)).toBe("no trust rule takes this token as it is");
      const { records } = recordsSchema.parse(
        await (
          await administrator.request("GET", "/api/v1/audit", { query: { action: "login", outcome: "refused" } })
        ).json(),
      );
      expect(records.map(({ detail }) => detail?.reason)).toContain(`${rule}: the claim ref does not match`);
    },
  );
});

describe("the conditions of a rule", () => {
  const claims = {
    repository: "my-org/app",
    ref: "refs/tags/v1.2",
    groups: ["readers", "writers"],
    protected: true,
    attempt: 2,
    nothing: null,
    nested: { deep: { "with.dots": "found" }, list: ["x"] },
    "https://claims.test/role": "builder",
    twice: { part: "one" },
    "twice.part": "two",
  };

  identityTest.for([
    [{ repository: "my-org/app" }, 200],
    [{ repository: "my-org/*" }, 200],
    [{ repository: ["other/*", "my-org/a*"] }, 200],
    [{ repository: "my-org" }, 401],
    [{ repository: "y-org/app" }, 401],
    [{ repository: "MY-ORG/app" }, 401],
    [{ repository: "my-org/app/*" }, 401],
    [{ repository: "my-org/ap" }, 401],
    [{ repository: "*org/app" }, 200],
    [{ ref: "refs/*" }, 200],
    [{ Ref: "refs/tags/v1.2" }, 401],
    [{ repository: "my-org/app", ref: "refs/tags/v*" }, 200],
    [{ repository: "my-org/app", ref: "refs/heads/*" }, 401],
    [{ ref: "refs/*/v*2" }, 200],
    [{ ref: "refs.tags*" }, 401],
    [{ environment: "production" }, 401],
    [{ repository: "my-org/app", environment: "*" }, 401],
    [{ groups: "writers" }, 200],
    [{ groups: ["admins", "read*"] }, 200],
    [{ groups: "admins" }, 401],
    [{ groups: "readers,writers" }, 401],
    [{ protected: "true" }, 200],
    [{ protected: "false" }, 401],
    [{ attempt: "2" }, 200],
    [{ nothing: ["null", "n*"] }, 401],
    [{ nested: ["[object Object]", "o*", "[*"] }, 401],
    [{ "nested.deep.with.dots": "found" }, 200],
    [{ "nested.list": "x" }, 200],
    [{ "nested.list.0": "x" }, 401],
    [{ "https://claims.test/role": "builder" }, 200],
    [{ "twice.part": ["one", "two"] }, 401],
    [{ "constructor.name": "Object" }, 401],
    [{ "repository.length": "10" }, 401],
  ] as const)("%j: %i", async ([conditions, status], { registry, issuer, trust }) => {
    await trust({ conditions });
    expect(await statusOfLogin(clientWith(registry, await issuer.sign({ ...claims, aud: audience })))).toBe(status);
  });

  identityTest("of several rules that take a token: their grants add up", async ({ registry, issuer, trust }) => {
    const everyRef = await trust({ name: `a-${crypto.randomUUID()}`, grants: ["team/*:pull"] });
    await trust({
      name: `b-${crypto.randomUUID()}`,
      conditions: { ref: "refs/heads/main" },
      grants: ["team/app:pull,push"],
    });
    const onMain = clientWith(registry, await issuer.sign({ aud: audience, ref: "refs/heads/main" }));
    await expectStatus(await onMain.repository("team/app").startUpload(), 202);
    await expectStatus(await onMain.repository("team/other").startUpload(), 403);
    await expectStatus(await onMain.repository("team/other").listTags(), 404);
    const elsewhere = clientWith(registry, await issuer.sign({ aud: audience, ref: "refs/heads/other" }));
    await expectStatus(await elsewhere.repository("team/app").startUpload(), 403);
    expect(everyRef < "b").toBe(true);
  });
});

describe("tokens as they are issued", () => {
  identityTest("by GitHub Actions", async ({ registry, issuer, trust }) => {
    await trust({
      conditions: { repository: "octo-org/octo-repo", ref: ["refs/heads/main", "refs/tags/v*"] },
      grants: ["octo/**:pull,push"],
    });
    const claims = {
      aud: audience,
      sub: "repo:octo-org/octo-repo:environment:prod",
      jti: crypto.randomUUID(),
      environment: "prod",
      ref: "refs/heads/main",
      sha: "0".repeat(40),
      repository: "octo-org/octo-repo",
      repository_owner: "octo-org",
      actor_id: "12",
      repository_visibility: "private",
      repository_id: "74",
      repository_owner_id: "65",
      run_id: "3",
      run_number: "10",
      run_attempt: "2",
      runner_environment: "github-hosted",
      actor: "octocat",
      workflow: "release",
      head_ref: "",
      base_ref: "",
      event_name: "push",
      ref_type: "branch",
      job_workflow_ref: "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
    };
    await pushArtifact(clientWith(registry, await issuer.sign(claims)), "octo/app");
    const ofAPull = await issuer.sign({ ...claims, ref: "refs/pull/7/merge", event_name: "pull_request" });
    expect(await statusOfLogin(clientWith(registry, ofAPull))).toBe(401);
    const ofAFork = await issuer.sign({ ...claims, repository: "somebody/octo-repo" });
    expect(await statusOfLogin(clientWith(registry, ofAFork))).toBe(401);
  });

  identityTest("by GitLab", async ({ registry, issuer, trust }) => {
    await trust({
      conditions: { namespace_path: ["my-group", "my-group/*"], ref_protected: "true" },
      grants: ["my-group/**:pull,push"],
    });
    const claims = {
      aud: audience,
      sub: "project_path:my-group/my-project:ref_type:branch:ref:main",
      jti: crypto.randomUUID(),
      namespace_id: "72",
      namespace_path: "my-group",
      project_id: "20",
      project_path: "my-group/my-project",
      user_id: "1",
      user_login: "sample-user",
      user_email: "sample-user@example.com",
      pipeline_id: "574",
      pipeline_source: "push",
      job_id: "302",
      ref: "main",
      ref_type: "branch",
      ref_path: "refs/heads/main",
      ref_protected: "true",
      groups_direct: ["my-group", "my-group/sub"],
      environment: "production",
      environment_protected: "false",
      runner_id: 1,
      runner_environment: "self-hosted",
      sha: "0".repeat(40),
    };
    await pushArtifact(clientWith(registry, await issuer.sign(claims)), "my-group/app");
    const unprotected = await issuer.sign({ ...claims, ref_protected: "false" });
    expect(await statusOfLogin(clientWith(registry, unprotected))).toBe(401);
    const ofASubgroup = await issuer.sign({ ...claims, namespace_path: "my-group/sub" });
    expect(await statusOfLogin(clientWith(registry, ofASubgroup))).toBe(200);
    const ofANeighbour = await issuer.sign({ ...claims, namespace_path: "my-group-2" });
    expect(await statusOfLogin(clientWith(registry, ofANeighbour))).toBe(401);
  });

  identityTest("by Kubernetes, for a service account", async ({ registry, issuer, trust }) => {
    await trust({
      conditions: { "kubernetes.io.namespace": "ci", "kubernetes.io.serviceaccount.name": "builder" },
      grants: ["cluster/**:pull,push"],
    });
    const kubernetes = {
      namespace: "ci",
      node: { name: "worker-1", uid: crypto.randomUUID() },
      pod: { name: "build-x7k2p", uid: crypto.randomUUID() },
      serviceaccount: { name: "builder", uid: crypto.randomUUID() },
      warnafter: now() + 3607,
    };
    const claims = { aud: [audience], sub: "system:serviceaccount:ci:builder", "kubernetes.io": kubernetes };
    await pushArtifact(clientWith(registry, await issuer.sign(claims)), "cluster/app");
    const elsewhere = { ...claims, "kubernetes.io": { ...kubernetes, namespace: "default" } };
    expect(await statusOfLogin(clientWith(registry, await issuer.sign(elsewhere)))).toBe(401);
  });
});

describe("an issuer's keys", () => {
  identityTest("are asked for once", async ({ registry, issuer, trust }) => {
    await trust();
    await Promise.all(
      Array.from({ length: 5 }, async () => {
        const token = await issuer.sign({ aud: audience, jti: crypto.randomUUID() });
        expect(await statusOfLogin(clientWith(registry, token))).toBe(200);
      }),
    );
    expect(issuer.asked).toEqual(["/.well-known/openid-configuration", "/keys"]);
  });

  identityTest("are asked for again where a key id is new, but not at once", async ({ registry, issuer, trust }) => {
    await trust();
    expect(await statusOfLogin(clientWith(registry, await issuer.sign({ aud: audience })))).toBe(200);
    await issuer.rotate();
    const token = await issuer.sign({ aud: audience });
    expect(await statusOfLogin(clientWith(registry, token))).toBe(401);
    expect(issuer.asked.filter((path) => path === "/keys")).toHaveLength(1);
    await expect.poll(() => statusOfLogin(clientWith(registry, token)), { timeout: 60_000, interval: 1000 }).toBe(200);
    expect(issuer.asked.filter((path) => path === "/keys")).toHaveLength(2);
  });

  const failures: readonly KeysBehaviour[] = [
    "trickles",
    "drips",
    "is huge",
    "is a gzip bomb",
    "redirects",
    "fails",
    "is no JSON",
    "has no keys",
  ];

  identityTest.for(failures)(
    "that can't be had (it %s) are not asked for at each login",
    async (behaviour, { registry, issuer, trust }) => {
      await trust();
      issuer.keysBehaviour = behaviour;
      const client = clientWith(registry, await issuer.sign({ aud: audience }));
      expect(await reasonOf(await expectStatus(await client.ping(), 401))).toMatch(/^this token can't be verified now/);
      await expectStatus(await client.ping(), 401);
      expect(issuer.asked).toEqual(["/.well-known/openid-configuration", "/keys"]);
    },
  );

  identityTest("that never come are waited for by nobody else", async ({ registry, issuer, trust, administrator }) => {
    await trust();
    issuer.keysBehaviour = "hangs";
    const client = clientWith(registry, await issuer.sign({ aud: audience }));
    const alike = Array.from({ length: 5 }, () => client.ping());
    const waiting = client.ping();
    await expect.poll(() => issuer.asked).toContain("/keys");
    const answered = await Promise.race([
      waiting.then(() => "who waits for the issuer"),
      administrator.ping().then(({ status }) => status),
    ]);
    expect(answered).toBe(200);
    await expectStatus(await waiting, 401);
    for (const response of await Promise.all(alike)) await expectStatus(response, 401);
    expect(issuer.asked).toEqual(["/.well-known/openid-configuration", "/keys"]);
  });

  identityTest("that could not be had are asked for again after a while", async ({ registry, issuer, trust }) => {
    await trust();
    issuer.keysBehaviour = "fails";
    const client = clientWith(registry, await issuer.sign({ aud: audience }));
    expect(await statusOfLogin(client)).toBe(401);
    issuer.keysBehaviour = "answers";
    await expect.poll(() => statusOfLogin(client), { timeout: 60_000, interval: 500 }).toBe(200);
    expect(issuer.asked.filter((path) => path === "/keys")).toHaveLength(2);
  });

  identityTest(
    "that can't be had are no fault of who logs in, and are noted once in a while",
    async ({ registry, issuer, trust, administrator }) => {
      await trust();
      issuer.keysBehaviour = "fails";
      const client = clientWith(registry, await issuer.sign({ aud: audience }));
      // More often than wrong passwords may be tried from one address.
      for (let login = 0; login < 15; login += 1) expect(await statusOfLogin(client)).toBe(401);
      const query = { action: "login", outcome: "refused" };
      const response = await expectStatus(await administrator.request("GET", "/api/v1/audit", { query }), 200);
      const { records } = recordsSchema.parse(await response.json());
      const reasons = records.map(({ detail }) => detail?.reason);
      expect(reasons.filter((reason) => reason === `${issuer.url}/keys answered 500`)).toHaveLength(1);
    },
  );

  identityTest("are not asked for once for each key id that somebody makes up", async ({ registry, issuer, trust }) => {
    await trust();
    await expectStatus(await clientWith(registry, await issuer.sign({ aud: audience })).ping(), 200);
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        const token = await issuer.sign({ aud: audience }, { header: { kid: crypto.randomUUID() } });
        await expectStatus(await clientWith(registry, token).ping(), 401);
      }),
    );
    expect(issuer.asked.filter((path) => path === "/keys").length).toBeLessThanOrEqual(2);
  });

  identityTest("may be among many that nobody here can use", async ({ registry, issuer, trust }) => {
    await trust();
    const others = Array.from({ length: 300 }, (_none, index) => ({ kty: "unheard-of", kid: `key-${String(index)}` }));
    issuer.publish = (keys) => [...others, ...keys, { kty: "oct", kid: "secret", k: "c2VjcmV0" }];
    expect(await statusOfLogin(clientWith(registry, await issuer.sign({ aud: audience })))).toBe(200);
  });

  identityTest.for([
    ["to encrypt", { use: "enc" }],
    ["for another algorithm", { alg: "PS256" }],
    ["not to verify", { key_ops: ["sign"] }],
    ["of another kind", { kty: "EC" }],
    ["that can't be read", { n: "!" }],
  ] as const)("are of no use where they are %s", async ([, change], { registry, issuer, trust }) => {
    await trust();
    issuer.publish = (keys) => keys.map((key) => (key.alg === "RS256" ? { ...key, ...change } : key));
    const client = clientWith(registry, await issuer.sign({ aud: audience }));
    await expectStatus(await client.ping(), 401);
    const token = await issuer.sign({ aud: audience }, { algorithm: "ES256" });
    expect(await statusOfLogin(clientWith(registry, token))).toBe(200);
  });

  identityTest("are of no use where two have the token's kid", async ({ registry, issuer, trust }) => {
    await trust();
    issuer.publish = (keys) => [...keys, ...keys];
    expect(await statusOfLogin(clientWith(registry, await issuer.sign({ aud: audience })))).toBe(401);
  });

  identityTest.for([
    ["another issuer's", { issuer: "https://token.actions.githubusercontent.com" }],
    ["with keys on http elsewhere", { jwks_uri: "http://localhost:9/keys" }],
    ["with keys of a neighbour on this machine", { jwks_uri: "https://localhost:9/keys" }],
    ["with keys that a user name goes to", { jwks_uri: "https://somebody@issuer.test/keys" }],
    ["with keys in a file", { jwks_uri: "file:///etc/passwd" }],
    ["with keys nowhere", { jwks_uri: undefined }],
  ] as const)("come from no OpenID configuration %s", async ([, configuration], { registry, issuer, trust }) => {
    await trust();
    issuer.configuration = configuration;
    expect(await statusOfLogin(clientWith(registry, await issuer.sign({ aud: audience })))).toBe(401);
    expect(issuer.asked).toEqual(["/.well-known/openid-configuration"]);
  });
});

describe("a trust rule", () => {
  identityTest("that is deleted lets nobody in", async ({ registry, issuer, trust, administrator }) => {
    const rule = await trust();
    const client = clientWith(registry, await issuer.sign({ aud: audience }));
    await expectStatus(await client.ping(), 200);
    await expectStatus(await administrator.request("DELETE", `/api/v1/trust-rules/${rule}`), 204);
    await expectStatus(await client.ping(), 401);
  });

  identityTest("that is made lets in who was refused", async ({ registry, issuer, trust, administrator }) => {
    const client = clientWith(registry, await issuer.sign({ aud: audience }));
    await expectStatus(await client.ping(), 401);
    const rule = await trust({ conditions: { sub: "another job" } });
    await expectStatus(await client.ping(), 401);
    const body = utf8(JSON.stringify({ conditions: { sub: "a *" } }));
    const headers = { "Content-Type": "application/json" };
    await expectStatus(await administrator.request("PATCH", `/api/v1/trust-rules/${rule}`, { headers, body }), 200);
    await expectStatus(await client.ping(), 200);
  });

  identityTest("can't be made with an ID token", async ({ registry, issuer, trust }) => {
    await trust({ grants: ["**:pull,push,delete"] });
    const client = clientWith(registry, await issuer.sign({ aud: audience }));
    const rule = { name: "mine", issuer: issuer.url, audience, conditions: { sub: "a job" }, grants: [] };
    await expectStatus(await postJson(client, "/api/v1/trust-rules", rule), 403);
  });
});
