import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { expectError } from "../conformance/error-envelope.ts";
import { image, push } from "../fixtures/artifacts.ts";
import { randomBytes, streamOf } from "../fixtures/content.ts";
import { claimsOf, freshAddress, makeRobot, makeUser, tokenAnswer } from "../fixtures/principals.ts";
import { environmentWith, registryWith, serve } from "../fixtures/registry.ts";
import { locationOf, type RegistryClient, utf8 } from "../support/client.ts";
import { basic } from "../support/credentials.ts";

/**
 * How each client logs in and gets its tokens, request by request as its source sends them. test/clients/ has the
 * programs themselves, where they can be installed.
 */

const run = crypto.randomUUID();
const environment = environmentWith({ ANONYMOUS_PULL: `${run}/open` });
const registry: RegistryClient = registryWith(environment, freshAddress());
const app = `${run}/app`;
const open = `${run}/open`;
const formHeaders = { "Content-Type": "application/x-www-form-urlencoded; charset=utf-8" };

let user = "";
let secret = "";
let digest = "";

beforeAll(async () => {
  const robot = await makeRobot([`${run}/*:pull,push,delete`]);
  user = robot.user.name;
  secret = robot.token.secret;
  for (const name of [app, open]) {
    const pushed = await push(registry.repository(name), image(), "v1");
    digest = pushed.blobs[1]?.descriptor.digest ?? "";
  }
});

/** RFC 9110 section 11.6.1, read as docker/distribution's challenge parser does: names of any case, quoted values. */
function challengeOf(response: Response): {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
} {
  expect(response.status).toBe(401);
  const header = response.headers.get("WWW-Authenticate") ?? "";
  const [scheme = ""] = header.split(" ", 1);
  const parameters = [...header.slice(scheme.length).matchAll(/\s*,?\s*([A-Za-z_]+)="([^"]*)"/g)];
  return {
    scheme: scheme.toLowerCase(),
    parameters: new Map(parameters.map(([, name = "", value = ""]) => [name.toLowerCase(), value])),
  };
}

const nobody = (): RegistryClient => registry.as(null);

async function tokenOf(response: Response): Promise<string> {
  expect({ status: response.status, text: await response.clone().text() }).toMatchObject({ status: 200 });
  return tokenAnswer.parse(await response.json()).token;
}

const bearer = (token: string): RegistryClient => registry.as(`Bearer ${token}`);

describe("every client's ping", () => {
  it("GET /v2/ is a 401 with realm and service, though there is something public", async () => {
    const { scheme, parameters } = challengeOf(await nobody().ping());
    expect(scheme).toBe("bearer");
    expect(parameters.get("realm")).toBe("http://localhost/token");
    expect(parameters.get("service")).toBe("localhost");
    expect(parameters.has("scope")).toBe(false);
  });

  it("GET /v2/ with the token that it got without a scope is a 200: that is a login which worked", async () => {
    const response = await registry.as(basic(user, secret)).request("GET", "/token", {
      query: { account: user, client_id: "docker", offline_token: "true", service: "localhost" },
    });
    expect((await bearer(await tokenOf(response)).ping()).status).toBe(200);
  });
});

describe("what every client reads", () => {
  it("the challenge in any order and case: one Bearer, its values quoted, no challenge beside it", async () => {
    const response = await nobody().repository(app).getManifest("v1");
    const { scheme, parameters } = challengeOf(response);
    expect(scheme).toBe("bearer");
    expect([...parameters.keys()]).toEqual(["realm", "service", "scope"]);
    // A reader that splits at commas, or at spaces, finds neither in a value but between actions, or scopes.
    expect(parameters.get("realm")).not.toMatch(/[ ,"]/);
    expect(response.headers.get("WWW-Authenticate")).not.toMatch(/Basic|Negotiate/);
  });

  it("the answer in either name of the token, a life of at least 60 s, a time that Go can read", async () => {
    const response = await registry.as(basic(user, secret)).request("GET", "/token");
    const answer = tokenAnswer.parse(await response.json());
    for (const token of [answer.token, answer.access_token]) expect((await bearer(token).ping()).status).toBe(200);
    // c/image and moby raise a shorter one to 60 s, and would go on with a token that has ended.
    expect(answer.expires_in).toBeGreaterThanOrEqual(60);
    expect(answer.issued_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
  });

  it("a token that was good for less: a 401 with the scope to ask for, of GET and HEAD, in the envelope", async () => {
    const given = await registry
      .as(basic(user, secret))
      .request("GET", "/token", { query: { scope: `repository:${run}/other:pull` } });
    const client = bearer(await tokenOf(given)).repository(app);
    for (const response of [await client.getManifest("v1"), await client.headManifest("v1"), await client.listTags()]) {
      const { parameters } = challengeOf(response);
      expect(parameters.get("scope")).toBe(`repository:${app}:pull`);
      expect(parameters.get("error")).toBe("insufficient_scope");
      expect(response.headers.get("Content-Type")).toBe("application/json");
      expect(response.headers.get("Docker-Distribution-API-Version")).toBe("registry/2.0");
    }
    await expectError(await client.getManifest("v1"), 401, "UNAUTHORIZED");
  });

  it.each(["pull", "push", "pull,push", "push,pull", "push,pull,delete", "delete,pull", "*", "pull,*"])(
    "a scope for %s, of which it is given what there is",
    async (actions) => {
      const response = await registry
        .as(basic(user, secret))
        .request("GET", "/token", { query: { scope: `repository:${app}:${actions}` } });
      const client = bearer(await tokenOf(response)).repository(app);
      const may = (right: string): boolean => actions.includes(right) || actions.includes("*");
      expect((await client.getManifest("v1")).status).toBe(may("pull") ? 200 : 401);
      expect((await client.startUpload()).status).toBe(may("push") ? 202 : 401);
      expect((await client.deleteManifest("none")).status).toBe(may("delete") ? 404 : 401);
    },
  );

  it("scopes that are repeated, parted by spaces, both, doubled, or empty", async () => {
    const [one, other] = [`repository:${app}:pull`, `repository:${run}/other:pull,push`];
    for (const scope of [
      [one, other],
      [`${one} ${other}`],
      [`${other}  ${one}`, one],
      [one, "", other, ""],
      [` ${one}`, `${other} `],
    ]) {
      const response = await registry.as(basic(user, secret)).request("GET", "/token", { query: { scope } });
      const client = bearer(await tokenOf(response));
      expect((await client.repository(app).getManifest("v1")).status).toBe(200);
      expect((await client.repository(`${run}/other`).startUpload()).status).toBe(202);
    }
  });

  it("a login with an empty scope, or with none: a token that is good for the ping and nothing else", async () => {
    for (const query of [{}, { scope: "" }, { scope: "", account: user }, { scope: "repository:" }]) {
      const response = await registry.as(basic(user, secret)).request("GET", "/token", { query });
      const client = bearer(await tokenOf(response));
      expect((await client.ping()).status).toBe(200);
      expect((await client.ping("HEAD")).status).toBe(200);
      expect((await client.repository(app).getManifest("v1")).status).toBe(401);
    }
  });

  it("a form that comes in chunks, without a length, and with any Content-Type", async () => {
    const form = new URLSearchParams({ grant_type: "password", username: user, password: secret }).toString();
    for (const type of ["application/x-www-form-urlencoded", "text/plain", null]) {
      const headers: Record<string, string> = { ...freshAddress(), ...(type === null ? {} : { "Content-Type": type }) };
      const request = new Request("http://localhost/token", {
        method: "POST",
        body: streamOf(utf8(form), 20),
        headers,
      });
      await tokenOf(await serve(request, environment));
    }
  });

  it("GET where POST is refused: a client that tried a form which it has not, gets its token all the same", async () => {
    const fallback = new Set([400, 401, 404, 405]);
    for (const form of ["", "grant_type=urn:x", "grant_type=password&username=nobody&password="]) {
      const refused = await registryWith(environment, freshAddress())
        .as(null)
        .request("POST", "/token", { body: form, headers: formHeaders });
      expect(fallback.has(refused.status)).toBe(true);
    }
    await tokenOf(await registry.as(basic(user, secret)).request("GET", "/token"));
  });

  it("a refused scope is no refused login: the token is given, and says no by a 403 and not by another 401", async () => {
    const other = `elsewhere-${run}/app`;
    const response = await registry
      .as(basic(user, secret))
      .request("GET", "/token", { query: { scope: `repository:${other}:pull,push` } });
    const client = bearer(await tokenOf(response)).repository(other);
    // Another 401 would be asked about at /token again, and again.
    await expectError(await client.getManifest("v1"), 403, "DENIED");
    await expectError(await client.startUpload(), 403, "DENIED");
    expect((await client.headManifest("v1")).status).toBe(403);
  });

  it("the realm is to the letter: other spellings of it are no endpoint", async () => {
    for (const target of ["/token/", "/v2/token", "/v2/auth", "/TOKEN", "/token//"]) {
      const { status } = await registry.as(basic(user, secret)).request("GET", target);
      expect({ target, status }).toEqual({ target, status: 404 });
    }
  });
});

describe("docker login (moby, classic store)", () => {
  const query = { account: "", client_id: "docker", offline_token: "true", service: "localhost" };

  it("GET with account, client_id and offline_token: a refresh token is kept in the password's place", async () => {
    const response = await registry
      .as(basic(user, secret))
      .request("GET", "/token", { query: { ...query, account: user } });
    const answer = tokenAnswer.required().parse(await response.json());
    // It raises lifetimes below 60 s to 60 s: a shorter one would be used beyond its end.
    expect(answer.expires_in).toBeGreaterThanOrEqual(60);
    const form = new URLSearchParams({
      client_id: "docker",
      grant_type: "refresh_token",
      refresh_token: answer.refresh_token,
      scope: `repository:${app}:pull,push`,
      service: "localhost",
    });
    const again = await nobody().request("POST", "/token", { body: form.toString(), headers: formHeaders });
    expect(
      (
        await bearer(await tokenOf(again))
          .repository(app)
          .startUpload()
      ).status,
    ).toBe(202);
  });

  it("POST with grant_type=password and access_type=offline", async () => {
    const form = new URLSearchParams({
      access_type: "offline",
      client_id: "docker",
      grant_type: "password",
      password: secret,
      scope: "",
      service: "localhost",
      username: user,
    });
    const response = await nobody().request("POST", "/token", { body: form.toString(), headers: formHeaders });
    expect(tokenAnswer.required().parse(await response.json()).refresh_token).not.toBe("");
  });

  it("a wrong password is a 401 with a message in the envelope, which it prints", async () => {
    const response = await registryWith(environment, freshAddress())
      .as(basic(user, "guess"))
      .request("GET", "/token", { query: { ...query, account: user } });
    const [error] = await expectError(response, 401, "UNAUTHORIZED");
    expect(error?.message).toMatch(/^authentication required: wrong user name/);
  });

  it("pulls what is public with a token that it got without credentials", async () => {
    const { parameters } = challengeOf(await nobody().ping());
    const response = await nobody().request("GET", parameters.get("realm") ?? "", {
      query: { scope: `repository:${open}:pull`, service: parameters.get("service") ?? "" },
    });
    const client = bearer(await tokenOf(response)).repository(open);
    expect((await client.headManifest("v1")).status).toBe(200);
    expect((await client.getBlob(digest)).status).toBe(200);
  });

  it("pushes with a mount: two repositories in one token by repeated scope", async () => {
    const target = `${run}/docker-target`;
    const scopes = [`repository:${app}:pull`, `repository:${target}:pull,push`];
    const response = await registry
      .as(basic(user, secret))
      .request("GET", "/token", { query: { account: user, scope: scopes, service: "localhost" } });
    const client = bearer(await tokenOf(response)).repository(target);
    const [blob] = (await push(registry.repository(app), image())).blobs;
    expect((await client.mountBlob(blob?.descriptor.digest ?? "", app)).status).toBe(201);
    expect((await client.headBlob(blob?.descriptor.digest ?? "")).status).toBe(200);
  });
});

describe("containerd, nerdctl, Docker's containerd store", () => {
  it("POST first, with client_id=containerd-client", async () => {
    const form = new URLSearchParams({
      grant_type: "password",
      service: "localhost",
      client_id: "containerd-client",
      scope: `repository:${app}:pull repository:${app}:pull,push`,
      username: user,
      password: secret,
    });
    const response = await nobody().request("POST", "/token", { body: form.toString(), headers: formHeaders });
    expect(
      (
        await bearer(await tokenOf(response))
          .repository(app)
          .startUpload()
      ).status,
    ).toBe(202);
  });

  it("POST with a refresh token as its secret, which has no user name", async () => {
    const given = await registry
      .as(basic(user, secret))
      .request("GET", "/token", { query: { offline_token: "true", service: "localhost" } });
    const form = new URLSearchParams({
      client_id: "containerd-client",
      grant_type: "refresh_token",
      refresh_token: tokenAnswer.required().parse(await given.json()).refresh_token,
      scope: `repository:${app}:pull`,
      service: "localhost",
    });
    const response = await nobody().request("POST", "/token", { body: form.toString(), headers: formHeaders });
    expect(
      (
        await bearer(await tokenOf(response))
          .repository(app)
          .getManifest("v1")
      ).status,
    ).toBe(200);
  });

  it("falls back to GET after a 401, 400, 404 or 405 to POST: a refused login has such a status", async () => {
    const form = new URLSearchParams({ grant_type: "password", username: user, password: "guess" });
    const response = await registryWith(environment, freshAddress())
      .as(null)
      .request("POST", "/token", { body: form.toString(), headers: formHeaders });
    expect([400, 401, 404, 405]).toContain(response.status);
  });

  it("mount: the 401 names both scopes, and without from it begins an upload", async () => {
    const target = `${run}/containerd-target`;
    const one = await registry
      .as(basic(user, secret))
      .request("GET", "/token", { query: { scope: `repository:${target}:pull,push` } });
    const client = bearer(await tokenOf(one));
    const refused = await client.repository(target).mountBlob(digest, app);
    expect(challengeOf(refused).parameters.get("scope")?.split(" ")).toEqual([
      `repository:${target}:pull,push`,
      `repository:${app}:pull`,
    ]);
    expect((await client.repository(target).startUpload()).status).toBe(202);
  });

  it("its expired bearer is a 401 with invalid_token, after which it asks for another", async () => {
    const { parameters } = challengeOf(await registry.as("Bearer of.long.ago").repository(app).getManifest("v1"));
    expect(parameters.get("error")).toBe("invalid_token");
    expect(parameters.get("scope")).toBe(`repository:${app}:pull`);
  });
});

describe("buildkit", () => {
  it("POST with the scopes of several repositories, space-joined, sorted", async () => {
    const form = new URLSearchParams({
      client_id: "buildkit-client",
      grant_type: "password",
      password: secret,
      scope: `repository:${app}:pull,push repository:${run}/cache:pull,push repository:${open}:pull`,
      service: "localhost",
      username: user,
    });
    const response = await nobody().request("POST", "/token", { body: form.toString(), headers: formHeaders });
    const client = bearer(await tokenOf(response));
    for (const name of [app, `${run}/cache`]) expect((await client.repository(name).startUpload()).status).toBe(202);
  });
});

describe("podman, skopeo, buildah", () => {
  it("GET with account and repeated scope, by Basic", async () => {
    const response = await registry.as(basic(user, secret)).request("GET", "/token", {
      query: {
        account: user,
        scope: [`repository:${app}:pull,push`, `repository:${open}:pull`],
        service: "localhost",
      },
    });
    expect(
      (
        await bearer(await tokenOf(response))
          .repository(app)
          .startUpload()
      ).status,
    ).toBe(202);
  });

  it("login asks GET /v2/ with the token, and a wrong password is told at the token", async () => {
    const { parameters } = challengeOf(await nobody().ping());
    const answer = await registry
      .as(basic(user, secret))
      .request("GET", parameters.get("realm") ?? "", { query: { account: user, service: "localhost" } });
    expect((await bearer(await tokenOf(answer)).ping()).status).toBe(200);
  });

  it("after a 202 to a mount sends DELETE with the same token", async () => {
    const target = `${run}/podman-target`;
    const response = await registry.as(basic(user, secret)).request("GET", "/token", {
      query: { scope: [`repository:${target}:pull,push`, `repository:${app}:pull`] },
    });
    const client = bearer(await tokenOf(response)).repository(target);
    const begun = await client.mountBlob(`sha256:${"0".repeat(64)}`, app);
    expect(begun.status).toBe(202);
    expect((await client.cancelUpload(locationOf(begun))).status).toBe(204);
  });
});

describe("crane, cosign, ko, kaniko, flux (ggcr)", () => {
  it("GET by Basic with the scope in its order push,pull", async () => {
    const response = await registry
      .as(basic(user, secret))
      .request("GET", "/token", { query: { scope: `repository:${app}:push,pull`, service: "localhost" } });
    const client = bearer(await tokenOf(response)).repository(app);
    expect((await client.startUpload()).status).toBe(202);
    expect((await client.getManifest("v1")).status).toBe(200);
  });

  it("catalog: the scope registry:catalog:*", async () => {
    const response = await registry
      .as(basic(user, secret))
      .request("GET", "/token", { query: { scope: "registry:catalog:*", service: "localhost" } });
    const listed = await bearer(await tokenOf(response)).listRepositories();
    const { repositories } = z.object({ repositories: z.array(z.string()) }).parse(await listed.json());
    expect(repositories).toContain(app);
    expect(repositories).toContain(open);
  });

  it("an identity token is a refresh token, by POST", async () => {
    const given = await registry.as(basic(user, secret)).request("GET", "/token", { query: { offline_token: "true" } });
    const form = new URLSearchParams({
      scope: `repository:${app}:pull`,
      service: "localhost",
      grant_type: "refresh_token",
      refresh_token: tokenAnswer.required().parse(await given.json()).refresh_token,
      client_id: "go-containerregistry",
    });
    const response = await nobody().request("POST", "/token", { body: form.toString(), headers: formHeaders });
    expect(
      (
        await bearer(await tokenOf(response))
          .repository(app)
          .getManifest("v1")
      ).status,
    ).toBe(200);
  });

  it("mount with from and origin asks for both repositories once the 401 names them", async () => {
    const target = `${run}/crane-target`;
    const client = registry.as(basic(user, secret));
    const first = await tokenOf(
      await client.request("GET", "/token", { query: { scope: `repository:${target}:push,pull` } }),
    );
    const [blob] = (await push(registry.repository(app), image())).blobs;
    const query = { mount: blob?.descriptor.digest ?? "", from: app, origin: "localhost" };
    const refused = await bearer(first).repository(target).startUpload(query);
    const scope = challengeOf(refused).parameters.get("scope") ?? "";
    const second = await tokenOf(await client.request("GET", "/token", { query: { scope: scope.split(" ") } }));
    expect((await bearer(second).repository(target).startUpload(query)).status).toBe(201);
  });

  it("pulls public content with no credentials at all, by an anonymous token", async () => {
    const response = await nobody().request("GET", "/token", {
      query: { scope: `repository:${open}:pull`, service: "localhost" },
    });
    expect(
      (
        await bearer(await tokenOf(response))
          .repository(open)
          .getManifest("v1")
      ).status,
    ).toBe(200);
  });
});

describe("oras, helm, notation (oras-go)", () => {
  it("GET by Basic with scopes of its own making, `*` among the actions", async () => {
    const response = await registry
      .as(basic(user, secret))
      .request("GET", "/token", { query: { service: "localhost", scope: `repository:${app}:*` } });
    expect(
      (
        await bearer(await tokenOf(response))
          .repository(app)
          .deleteManifest("none")
      ).status,
    ).toBe(404);
  });

  it("sends the Authorization of the POST again with the PUT", async () => {
    const response = await registry
      .as(basic(user, secret))
      .request("GET", "/token", { query: { scope: `repository:${app}:pull,push` } });
    await bearer(await tokenOf(response))
      .repository(app)
      .pushBlob(randomBytes(10));
  });

  it("a refresh token by POST, with its own client_id", async () => {
    const given = await registry.as(basic(user, secret)).request("GET", "/token", { query: { offline_token: "true" } });
    const form = new URLSearchParams({
      grant_type: "refresh_token",
      service: "localhost",
      client_id: "oras-go",
      scope: `repository:${app}:delete,pull repository:${open}:pull`,
      refresh_token: tokenAnswer.required().parse(await given.json()).refresh_token,
    });
    const response = await nobody().request("POST", "/token", { body: form.toString(), headers: formHeaders });
    expect(
      (
        await bearer(await tokenOf(response))
          .repository(app)
          .getManifest("v1")
      ).status,
    ).toBe(200);
  });
});

async function regctlToken(scope: string): Promise<string> {
  const form = new URLSearchParams({
    scope,
    service: "localhost",
    client_id: "regclient",
    grant_type: "password",
    username: user,
    password: secret,
  });
  return tokenOf(await nobody().request("POST", "/token", { body: form.toString(), headers: formHeaders }));
}

describe("regctl", () => {
  it("POST first; the anonymous mount's 401 names the source, then it links", async () => {
    const target = `${run}/regctl-target`;
    const [blob] = (await push(registry.repository(app), image())).blobs;
    const mount = blob?.descriptor.digest ?? "";
    const refused = await bearer(await regctlToken(`repository:${target}:pull,push`))
      .repository(target)
      .mountBlob(mount);
    const scope = challengeOf(refused).parameters.get("scope") ?? "";
    expect(
      (
        await bearer(await regctlToken(scope))
          .repository(target)
          .mountBlob(mount)
      ).status,
    ).toBe(201);
  });
});

describe("Homebrew", () => {
  it("its dummy bearer is nobody, who pulls what is public", async () => {
    const client = registry.as("Bearer QQ==").repository(open);
    expect((await client.getManifest("v1")).status).toBe(200);
    expect((await client.getBlob(digest)).status).toBe(200);
    expect((await registry.as("Bearer QQ==").repository(app).getManifest("v1")).status).toBe(401);
    expect((await registry.as("Bearer QQ==").ping()).status).toBe(401);
  });
});

describe("curl and scripts", () => {
  it("Basic on any endpoint, without a token", async () => {
    const client = registry.as(basic(user, secret));
    expect((await client.ping()).status).toBe(200);
    expect((await client.repository(app).listTags()).status).toBe(200);
    expect((await client.listRepositories()).status).toBe(200);
  });

  it("an access token as a bearer, on any endpoint and at /token", async () => {
    const client = registry.as(`Bearer ${secret}`);
    expect((await client.ping()).status).toBe(200);
    expect((await client.repository(app).getManifest("v1")).status).toBe(200);
    const token = await tokenOf(await client.request("GET", "/token"));
    expect(claimsOf(`Bearer ${token}`)).toMatchObject({ sub: `user:${user}` });
  });

  it("a person's password gets a token, with which it goes on", async () => {
    const { name } = await makeUser([`${run}/*:pull`], { password: "of a person" });
    const token = await tokenOf(
      await registry
        .as(basic(name, "of a person"))
        .request("GET", "/token", { query: { scope: `repository:${app}:pull` } }),
    );
    expect((await bearer(token).repository(app).getManifest("v1")).status).toBe(200);
  });
});
