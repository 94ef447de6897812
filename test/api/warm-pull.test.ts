import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { forgetLogins } from "../../src/access/login.ts";
import { app } from "../../src/app.ts";
import { CREDENTIAL_KEPT_SECONDS } from "../../src/limits.ts";
import { registry } from "../../src/registry.ts";
import { warmPull } from "../../src/warm-pull.ts";
import { type Artifact, image, push } from "../fixtures/artifacts.ts";
import { bearerFor, freshAddress, makeRobot, revoke, signedBearer } from "../fixtures/principals.ts";
import { environmentWith, registryWith } from "../fixtures/registry.ts";
import { asAdmin, basic } from "../support/credentials.ts";

/** What memory answers without the way of all requests, beside what that way says: they may not be told apart. */

const run = crypto.randomUUID();
const open = `public/${run}`;
const closed = `private/${run}`;
const environment = environmentWith({ ANONYMOUS_PULL: "public/**" });

let pushed: Artifact;
let reader = "";
let writer = "";
let readersToken = "";
let readersBareToken = "";
let strangersToken = "";
let writersToken = "";
let newToken = "";

beforeAll(async () => {
  pushed = image();
  const admin = registryWith(environment, freshAddress());
  for (const name of [open, closed]) await push(admin.repository(name), pushed, "v1");
  const { token } = await makeRobot([`private/**:pull`]);
  readersToken = token.authorization;
  readersBareToken = `Bearer ${token.secret}`;
  strangersToken = basic("somebody", token.secret);
  newToken = (await makeRobot(["private/**:pull"])).token.authorization;
  reader = await bearerFor(admin, token.authorization, `repository:${closed}:pull`);
  const { token: other } = await makeRobot([`private/**:pull,push`]);
  writersToken = other.authorization;
  writer = await bearerFor(admin, other.authorization, `repository:${closed}:pull,push`);
  for (const [name, authorization] of [
    [open, null],
    [closed, reader],
  ] as const) {
    const puller = registryWith(environment, freshAddress()).as(authorization).repository(name);
    await (await puller.getManifest(pushed.descriptor.digest)).arrayBuffer();
    await (await puller.getBlob(blobDigest())).arrayBuffer();
  }
});

function blobDigest(): string {
  return pushed.blobs[0]?.descriptor.digest ?? "";
}

interface Asked {
  readonly method?: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
}

type Serve = (request: Request, env: Env, context: ExecutionContext) => Promise<Response | null> | Response | null;

async function ask(serve: Serve, { method = "GET", path, headers = {} }: Asked) {
  const context = createExecutionContext();
  const request = new Request(`http://localhost${path}`, { method, headers: { ...freshAddress(), ...headers } });
  const response = await serve(request, environment, context);
  if (response === null) return null;
  const body = new Uint8Array(await response.arrayBuffer());
  await waitOnExecutionContext(context);
  const told = Object.fromEntries([...response.headers].filter(([name]) => name !== "x-request-id"));
  return { status: response.status, told, body };
}

const manifest = (name: string): string => `/v2/${name}/manifests/${pushed.descriptor.digest}`;
const blob = (name: string): string => `/v2/${name}/blobs/${blobDigest()}`;

describe("is answered at once, as the application would:", () => {
  it.each([
    ["GET of a manifest", () => ({ path: manifest(open) })],
    ["HEAD of a manifest", () => ({ path: manifest(open), method: "HEAD" })],
    ["GET of a blob", () => ({ path: blob(open) })],
    ["HEAD of a blob", () => ({ path: blob(open), method: "HEAD" })],
    ["by a bearer that may pull", () => ({ path: blob(closed), headers: { authorization: reader } })],
    ["by an access token that may", () => ({ path: blob(closed), headers: { authorization: readersToken } })],
    ["by the same as a bearer", () => ({ path: blob(closed), headers: { authorization: readersBareToken } })],
    [
      "by a bearer that is none, of what is public",
      () => ({ path: blob(open), headers: { authorization: "Bearer QQ==" } }),
    ],
  ] satisfies readonly (readonly [string, () => Asked])[])("%s", async (_, asked) => {
    const warm = await ask(warmPull, asked());
    expect(warm?.status).toBe(200);
    expect(warm).toEqual(await ask(app.fetch, asked()));
  });
});

describe("is left to the application, and answered as it says:", () => {
  it.each([
    ["nobody, of what is private", () => ({ path: blob(closed) })],
    [
      "a bearer that is none, of what is private",
      () => ({ path: blob(closed), headers: { authorization: "Bearer QQ==" } }),
    ],
    ["a bearer of another repository", () => ({ path: blob(`${closed}x`), headers: { authorization: reader } })],
    ["a bearer that may push", () => ({ path: blob(closed), headers: { authorization: writer } })],
    ["the administrator", () => ({ path: blob(closed), headers: { authorization: asAdmin } })],
    ["an access token that is not known yet", () => ({ path: blob(closed), headers: { authorization: newToken } })],
    ["an access token of another name", () => ({ path: blob(closed), headers: { authorization: strangersToken } })],
    ["an access token that may push", () => ({ path: blob(closed), headers: { authorization: writersToken } })],
    ["a condition", () => ({ path: blob(open), headers: { "if-none-match": `"${blobDigest()}"` } })],
    ["a range", () => ({ path: blob(open), headers: { range: "bytes=1-2" } })],
    ["a query", () => ({ path: `${blob(open)}?ns=docker.io` })],
    ["by tag", () => ({ path: `/v2/${open}/manifests/v1` })],
    ["another method", () => ({ path: blob(open), method: "OPTIONS" })],
    ["a slash more", () => ({ path: blob(open).replace("/blobs", "//blobs") })],
    ["a slash at its end", () => ({ path: `${blob(open)}/` })],
    ["a name in capitals", () => ({ path: blob(open).replace("public", "Public") })],
    ["a name that is coded", () => ({ path: blob(open).replace("public/", "public%2f") })],
    ["a path that goes up", () => ({ path: blob(open).replace("public/", "public/x/..%2f") })],
    ["a manifest's digest as a blob's", () => ({ path: blob(open).replace(blobDigest(), pushed.descriptor.digest) })],
  ] satisfies readonly (readonly [string, () => Asked])[])("%s", async (_, asked) => {
    expect(await ask(warmPull, asked())).toBeNull();
    const [served, said] = [await ask(registry.fetch, asked()), await ask(app.fetch, asked())];
    expect({ status: served?.status, told: served?.told }).toEqual({ status: said?.status, told: said?.told });
  });
});

it.each([
  ["a blob, for nobody", () => blob(open), () => ({})],
  ["a manifest, for nobody", () => manifest(open), () => ({})],
  ["a blob, for a bearer", () => blob(closed), () => ({ authorization: reader })],
  ["a manifest, for a bearer", () => manifest(closed), () => ({ authorization: reader })],
  ["a manifest, for an access token", () => manifest(closed), () => ({ authorization: readersToken })],
] as const)("asks neither D1, nor R2, nor a Durable Object for %s", async (_, pathOf, headersOf) => {
  const nothing = new Proxy(environment, {
    get: (bindings, name): unknown =>
      name === "DB" || name === "BLOBS" || name === "UPLOADS" ? {} : Reflect.get(bindings, name),
  });
  const context = createExecutionContext();
  const answer = await warmPull(
    new Request(`http://localhost${pathOf()}`, { headers: { ...freshAddress(), ...headersOf() } }),
    nothing,
    context,
  );
  expect(answer?.status).toBe(200);
  await waitOnExecutionContext(context);
});

it("leaves to the application a bearer that is not new, until the isolate has asked after its holder", async () => {
  const { user, token } = await makeRobot(["private/**:pull"]);
  const principal = { name: `user:${user.name}`, tokenId: token.id };
  const old = { nowMs: Date.now() - CREDENTIAL_KEPT_SECONDS * 1000 };
  const authorization = await signedBearer(principal, [`repository:${closed}:pull`], old);
  const asked = { path: blob(closed), headers: { authorization } };
  expect(await ask(warmPull, asked)).toBeNull();
  expect(await ask(app.fetch, asked)).toMatchObject({ status: 200 });
  expect(await ask(warmPull, asked)).toMatchObject({ status: 200 });
  await revoke(token);
  forgetLogins();
  expect(await ask(warmPull, asked)).toBeNull();
  expect(await ask(app.fetch, asked)).toMatchObject({ status: 401 });
  expect(await ask(warmPull, asked)).toBeNull();
});

const withoutTokenKey: Serve = async (request, _, context) =>
  registry.fetch(request, environmentWith({ ANONYMOUS_PULL: "public/**", TOKEN_KEY: "" }), context);

it("serves nothing where a secret is missing", async () => {
  const request = { path: blob(open) };
  expect((await ask(withoutTokenKey, request))?.status).toBe(503);
  expect(env.TOKEN_KEY).not.toBe("");
});
