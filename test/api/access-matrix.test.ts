import { env } from "cloudflare:workers";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { app } from "../../src/app.ts";
import { anonymous } from "../../src/requester.ts";
import { image, push } from "../fixtures/artifacts.ts";
import { unknownDigest } from "../fixtures/content.ts";
import { IdIssuer, publish } from "../fixtures/id-tokens.ts";
import {
  bearerFor,
  freshAddress,
  makeAccessToken,
  makeRobot,
  makeUser,
  refreshTokenFor,
  revoke,
  signedBearer,
} from "../fixtures/principals.ts";
import { environmentWith, registryWith } from "../fixtures/registry.ts";
import { expectStatus, type RequestOptions, type RegistryClient } from "../support/client.ts";
import { asAdmin, basic } from "../support/credentials.ts";

/** Every route of the application, each kind of principal, each kind of repository. */

const run = crypto.randomUUID();

/** Of each kind one repository that is there, and one that is not; their names are of one length, as an answer's length tells. */
const repositories = {
  /** in the grants of those principals that have some */
  mine: { there: `mine-${run}/there`, absent: `mine-${run}/other` },
  /** private, in nobody's grants */
  theirs: { there: `theirs-${run}/there`, absent: `theirs-${run}/other` },
  /** ANONYMOUS_PULL */
  open: { there: `open-${run}/there`, absent: `open-${run}/other` },
} as const;
type Kind = keyof typeof repositories;
const kinds: readonly Kind[] = ["mine", "theirs", "open"];
const places = ["there", "absent"] as const;

const settings: Partial<Env> = { ANONYMOUS_PULL: `open-${run}/**` };
const environment = environmentWith(settings);
/** Each request from an address of its own, so that no brake on failed logins comes between. */
const registryFromAnywhere = (of: Env = environment): RegistryClient => registryWith(of, freshAddress());

/** A blob that is in all the repositories that are there. */
let blobDigest = "";

beforeAll(async () => {
  const pushed = image({ layers: [] });
  for (const kind of kinds) await push(registryFromAnywhere().repository(repositories[kind].there), pushed, "v1");
  blobDigest = pushed.blobs[0]?.descriptor.digest ?? "";
});

/** Those on a repository, and on the registry as a whole; `token` and `form` are GET and POST of /token. */
type RepositoryRight = "pull" | "push" | "delete";
type RegistryRight = "public" | "login" | "catalog" | "admin" | "token" | "form";

interface RowOf<Right> {
  /** as `app.routes` has them */
  readonly method: string;
  readonly path: string;
  readonly right: Right;
  readonly options?: RequestOptions;
}

interface RepositoryRow extends RowOf<RepositoryRight> {
  /** what goes in place of the path's parameters, and with it; nothing that changes what is stored */
  readonly target: (repository: string) => string;
  /** status, and code of an error, with which who is let in is answered: in a repository that is there, and in one that is not */
  readonly there: string;
  readonly absent: string;
}

interface RegistryRow extends RowOf<RegistryRight> {
  readonly target: string;
  /** with which who is let in is answered */
  readonly answer: string;
}

const unknown = unknownDigest();
/** Well formed, and nobody's. */
const upload = `0197b5a0-0000-7000-8000-000000000000.n0.${"A".repeat(22)}`;
const nobodysName = `user-${run}`;
const nobodysToken = crypto.randomUUID();

const inRepository = "/v2/:name{.+}";
const manifest = `${inRepository}/manifests/:reference`;
const blob = `${inRepository}/blobs/:digest{(?!uploads$)[^/]+}`;
const uploads = `${inRepository}/blobs/uploads`;
const session = `${uploads}/:upload`;
const sessionOf = (name: string): string => `/v2/${name}/blobs/uploads/${upload}`;

const repositoryRows: readonly RepositoryRow[] = [
  {
    method: "GET",
    path: manifest,
    right: "pull",
    target: (name) => `/v2/${name}/manifests/v1`,
    there: "200",
    absent: "404 MANIFEST_UNKNOWN",
  },
  {
    method: "PUT",
    path: manifest,
    right: "push",
    options: { body: "{" },
    target: (name) => `/v2/${name}/manifests/v1`,
    there: "400 MANIFEST_INVALID",
    absent: "400 MANIFEST_INVALID",
  },
  {
    method: "DELETE",
    path: manifest,
    right: "delete",
    target: (name) => `/v2/${name}/manifests/no-such-tag`,
    there: "404 MANIFEST_UNKNOWN",
    absent: "404 MANIFEST_UNKNOWN",
  },
  {
    method: "GET",
    path: blob,
    right: "pull",
    target: (name) => `/v2/${name}/blobs/${blobDigest}`,
    there: "200",
    absent: "404 BLOB_UNKNOWN",
  },
  {
    method: "DELETE",
    path: blob,
    right: "delete",
    target: (name) => `/v2/${name}/blobs/${unknown}`,
    there: "404 BLOB_UNKNOWN",
    absent: "404 BLOB_UNKNOWN",
  },
  {
    method: "GET",
    path: `${inRepository}/tags/list`,
    right: "pull",
    target: (name) => `/v2/${name}/tags/list`,
    there: "200",
    absent: "404 NAME_UNKNOWN",
  },
  {
    method: "GET",
    path: `${inRepository}/referrers/:digest`,
    right: "pull",
    target: (name) => `/v2/${name}/referrers/${unknown}`,
    there: "200",
    absent: "200",
  },
  {
    method: "POST",
    path: uploads,
    right: "push",
    target: (name) => `/v2/${name}/blobs/uploads`,
    there: "202",
    absent: "202",
  },
  {
    method: "POST",
    path: `${uploads}/`,
    right: "push",
    target: (name) => `/v2/${name}/blobs/uploads/`,
    there: "202",
    absent: "202",
  },
  {
    method: "PATCH",
    path: session,
    right: "push",
    options: { body: "bytes" },
    target: sessionOf,
    there: "404 BLOB_UPLOAD_UNKNOWN",
    absent: "404 BLOB_UPLOAD_UNKNOWN",
  },
  {
    method: "PUT",
    path: session,
    right: "push",
    options: { body: "bytes" },
    target: (name) => `${sessionOf(name)}?digest=${unknown}`,
    there: "404 BLOB_UPLOAD_UNKNOWN",
    absent: "404 BLOB_UPLOAD_UNKNOWN",
  },
  {
    method: "GET",
    path: session,
    right: "push",
    target: sessionOf,
    there: "404 BLOB_UPLOAD_UNKNOWN",
    absent: "404 BLOB_UPLOAD_UNKNOWN",
  },
  {
    method: "DELETE",
    path: session,
    right: "push",
    target: sessionOf,
    there: "404 BLOB_UPLOAD_UNKNOWN",
    absent: "404 BLOB_UPLOAD_UNKNOWN",
  },
];

const json = (value: unknown): RequestOptions => ({
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(value),
});
const users = "/api/v1/users";
const rules = "/api/v1/trust-rules";
const findings = "/api/v1/integrity/findings";
const exports = "/api/v1/index/exports";
const api = { right: "admin" } as const;

const registryRows: readonly RegistryRow[] = [
  { method: "GET", path: "/v2/", right: "login", target: "/v2/", answer: "200" },
  { method: "GET", path: "/v2", right: "login", target: "/v2", answer: "200" },
  { method: "GET", path: "/v2/_catalog", right: "catalog", target: "/v2/_catalog?n=1", answer: "200" },
  { method: "GET", path: "/token", right: "token", target: "/token?scope=registry:catalog:*", answer: "200" },
  { method: "POST", path: "/token", right: "form", target: "/token", answer: "400 UNSUPPORTED" },
  { method: "GET", path: "/healthz", right: "public", target: "/healthz", answer: "200" },
  { method: "GET", path: "/readyz", right: "public", target: "/readyz", answer: "200" },
  { method: "GET", path: "/metrics", right: "admin", target: "/metrics", answer: "200" },
  { method: "GET", path: "/api/v1/openapi.json", right: "public", target: "/api/v1/openapi.json", answer: "200" },
  { method: "GET", path: "/api/v1/whoami", right: "login", target: "/api/v1/whoami", answer: "200" },
  { ...api, method: "GET", path: "/api/v1/audit", target: "/api/v1/audit?n=1", answer: "200" },
  { ...api, method: "GET", path: users, target: `${users}?n=1`, answer: "200" },
  { ...api, method: "POST", path: users, target: users, options: json({}), answer: "400 INVALID_REQUEST" },
  { ...api, method: "GET", path: "/api/v1/integrity", target: "/api/v1/integrity", answer: "200" },
  { ...api, method: "GET", path: findings, target: `${findings}?n=1`, answer: "200" },
  { ...api, method: "GET", path: exports, target: exports, answer: "200" },
  ...[
    { method: "POST", path: "/api/v1/integrity/verify", target: "/api/v1/integrity/verify" },
    { method: "POST", path: exports, target: exports },
    { method: "POST", path: "/api/v1/index/rebuild", target: "/api/v1/index/rebuild" },
  ].map((row) => ({ ...api, ...row, options: json({ none: true }), answer: "400 INVALID_REQUEST" })),
  ...[
    { method: "POST", path: `${findings}/:finding/release`, target: `${findings}/999999/release` },
    { method: "DELETE", path: `${findings}/:finding/object`, target: `${findings}/999999/object` },
  ].map((row) => ({ ...api, ...row, answer: "404 NOT_FOUND" })),
  ...[
    { method: "GET", path: `${users}/:user`, target: `${users}/${nobodysName}` },
    { method: "PATCH", path: `${users}/:user`, target: `${users}/${nobodysName}`, options: json({ disabled: true }) },
    { method: "DELETE", path: `${users}/:user`, target: `${users}/${nobodysName}` },
    { method: "GET", path: `${users}/:user/tokens`, target: `${users}/${nobodysName}/tokens` },
    {
      method: "POST",
      path: `${users}/:user/tokens`,
      target: `${users}/${nobodysName}/tokens`,
      options: json({ name: "a token" }),
    },
    {
      method: "DELETE",
      path: `${users}/:user/tokens/:token`,
      target: `${users}/${nobodysName}/tokens/${nobodysToken}`,
    },
    { method: "GET", path: `${rules}/:rule`, target: `${rules}/none-${run}` },
    { method: "PATCH", path: `${rules}/:rule`, target: `${rules}/none-${run}`, options: json({ grants: [] }) },
    { method: "DELETE", path: `${rules}/:rule`, target: `${rules}/none-${run}` },
  ].map((row) => ({ ...api, ...row, answer: "404 NOT_FOUND" })),
  { ...api, method: "GET", path: rules, target: `${rules}?n=1`, answer: "200" },
  { ...api, method: "POST", path: rules, target: rules, options: json({}), answer: "400 INVALID_REQUEST" },
];

const rows = [...repositoryRows, ...registryRows];

/** 401: other credentials, or a token for more, would help. 403: they would not. */
type Outcome = "in" | 401 | 403;
/** pull, push, delete */
type OfRepository = readonly [Outcome, Outcome, Outcome];

interface Expected {
  readonly mine: OfRepository;
  readonly theirs: OfRepository;
  readonly open: OfRepository;
  readonly login: Outcome;
  readonly catalog: Outcome;
  readonly admin: Outcome;
  /** a 401 of it is always Basic's */
  readonly token: Outcome;
  /** scheme and error of WWW-Authenticate in each other 401 */
  readonly challenge: "Bearer" | "Bearer invalid_token" | "Bearer insufficient_scope" | "Basic";
}

interface Case {
  readonly who: string;
  /** the Authorization header; null: none */
  readonly says: () => Promise<string | null>;
  /** what is sent besides */
  readonly headers?: () => Promise<Readonly<Record<string, string>>>;
  readonly settings?: Partial<Env> & { readonly PREVIOUS_SIGNING_KEY?: string };
  readonly expected: Expected;
}

const all = ["in", "in", "in"] as const;
const none401 = [401, 401, 401] as const;
const none403 = [403, 403, 403] as const;
const pull401 = ["in", 401, 401] as const;
const pull403 = ["in", 403, 403] as const;

const mine = `mine-${run}/*`;
const allOfMine = [`${mine}:pull,push,delete`];
const bothOf = (kind: Kind, actions: string): readonly string[] =>
  places.map((place) => `repository:${repositories[kind][place]}:${actions}`);

/** Nothing was sent: it is asked who it is. At /token it has nobody's token. */
const unasked: Expected = {
  mine: none401,
  theirs: none401,
  open: pull401,
  login: 401,
  catalog: 401,
  admin: 401,
  token: "in",
  challenge: "Bearer",
};
/** Something was sent that is none of this registry's: nobody, who is not to be taken for logged in at /token. */
const nobody: Expected = { ...unasked, token: 401, challenge: "Bearer invalid_token" };
/** A name and a secret that do not belong together: not even what is public. */
const refusedOutright: Expected = {
  mine: none401,
  theirs: none401,
  open: none401,
  login: 401,
  catalog: 401,
  admin: 401,
  token: 401,
  challenge: "Basic",
};
/** Somebody who is known, and is no administrator. */
const known: Expected = {
  mine: none403,
  theirs: none403,
  open: pull403,
  login: "in",
  catalog: "in",
  admin: 403,
  token: "in",
  challenge: "Basic",
};
/** The administrator, and whom Cloudflare Access knows for one. */
const administrator: Expected = {
  mine: all,
  theirs: all,
  open: all,
  login: "in",
  catalog: "in",
  admin: "in",
  token: "in",
  challenge: "Basic",
};
/** A token of /token: for more there is another one; none administers, and none gives another. */
const bearer: Expected = {
  mine: none401,
  theirs: none401,
  open: pull401,
  login: "in",
  catalog: 401,
  admin: 403,
  token: 401,
  challenge: "Bearer insufficient_scope",
};

const robot = async (grants: readonly string[]): Promise<string> => (await makeRobot(grants)).token.authorization;

/** A user, by its access token: all of the same but for what it may do with its own. */
function userCase(actions: string, own: OfRepository): Case {
  return {
    who: `a user with ${actions}`,
    says: async () => robot([`${mine}:${actions}`]),
    expected: { ...known, mine: own },
  };
}

/** A bearer that was given for one thing, of somebody who may do everything with `mine`. */
function bearerCase(actions: string, own: OfRepository): Case {
  return {
    who: `a bearer for ${actions}`,
    says: async () => bearerFor(registryFromAnywhere(), await robot(allOfMine), ...bothOf("mine", actions)),
    expected: { ...bearer, mine: own },
  };
}

const hourMs = 3_600_000;
const somebody = { name: "user:x", tokenId: null };

/** Whose jobs a trust rule takes, and a team at Cloudflare Access. */
let issuer: IdIssuer;
let team: IdIssuer;
const teamName = `team-${run}`;
const audience = `https://registry-${run}.test`;
const ruleGrants = [`${mine}:pull,push`];
const idToken = async (aud: string): Promise<string> => issuer.sign({ aud });

const accessOn: Partial<Env> = {
  ACCESS_TEAM_DOMAIN: `${teamName}.cloudflareaccess.com`,
  ACCESS_AUD: "an-audience-tag",
  ACCESS_ADMINS: `admin-${run}@example.com`,
};
const accessHeader = async (email: string, aud = "an-audience-tag"): Promise<Readonly<Record<string, string>>> => ({
  "Cf-Access-Jwt-Assertion": await team.sign({ aud: [aud], email }),
});
const withEmail = async (grants: readonly string[]): Promise<string> => {
  const { id, name } = await makeUser(grants);
  const email = `${name}@example.com`;
  await env.DB.prepare("UPDATE users SET email = ?2 WHERE id = ?1").bind(id, email).run();
  return email;
};

beforeAll(async () => {
  issuer = await IdIssuer.at(`issuer-${run}.test`);
  team = await IdIssuer.at(`${teamName}.cloudflareaccess.com`);
  publish(issuer, team);
  const rule = { name: `rule-${run}`, issuer: issuer.url, audience, conditions: { sub: "a job" }, grants: ruleGrants };
  await expectStatus(await registryFromAnywhere().request("POST", rules, json(rule)), 201);
});
afterAll(() => vi.restoreAllMocks());

const cases: readonly Case[] = [
  { who: "nobody", says: async () => null, expected: unasked },
  { who: "an empty Authorization", says: async () => "", expected: unasked },
  { who: "an empty Basic", says: async () => basic("", ""), expected: unasked },
  { who: "a dummy bearer", says: async () => "Bearer QQ==", expected: { ...nobody, token: "in" } },
  { who: "a bearer without a token", says: async () => "Bearer", expected: nobody },
  { who: "an unknown scheme", says: async () => "Digest username=admin", expected: nobody },
  { who: "a Basic that is no base64", says: async () => "Basic ?!", expected: nobody },
  { who: "a Basic without a colon", says: async () => `Basic ${btoa("admin")}`, expected: nobody },
  {
    who: "a wrong password of the administrator",
    says: async () => basic("admin", "guess"),
    expected: refusedOutright,
  },
  { who: "an empty password of the administrator", says: async () => basic("admin", ""), expected: refusedOutright },
  { who: "an unknown user", says: async () => basic("stranger", "guess"), expected: refusedOutright },
  {
    who: "a user's password, which is for /token alone",
    says: async () => basic((await makeUser(allOfMine, { password: "of a person" })).name, "of a person"),
    expected: { ...refusedOutright, token: "in" },
  },
  {
    who: "a bearer that a user's password was given",
    says: async () => {
      const { name } = await makeUser(allOfMine, { password: "of a person" });
      return bearerFor(registryFromAnywhere(), basic(name, "of a person"), ...bothOf("mine", "pull,push"));
    },
    expected: { ...bearer, mine: ["in", "in", 401] },
  },
  {
    who: "an access token with another user's name",
    says: async () => basic((await makeUser([])).name, (await makeRobot(allOfMine)).token.secret),
    expected: refusedOutright,
  },
  {
    who: "an access token with the administrator's name",
    says: async () => basic("admin", (await makeRobot(allOfMine)).token.secret),
    expected: refusedOutright,
  },
  { who: "the administrator", says: async () => asAdmin, expected: administrator },
  {
    who: "the administrator's bearer for everything",
    says: async () =>
      bearerFor(registryFromAnywhere(), asAdmin, ...kinds.flatMap((kind) => bothOf(kind, "*")), "registry:catalog:*"),
    expected: { ...bearer, mine: all, theirs: all, open: all, catalog: "in" },
  },
  {
    who: "the administrator's bearer for one pull",
    says: async () => bearerFor(registryFromAnywhere(), asAdmin, ...bothOf("mine", "pull")),
    expected: { ...bearer, mine: pull401 },
  },
  {
    who: "the administrator's bearer for patterns, which no scope names",
    says: async () =>
      bearerFor(registryFromAnywhere(), asAdmin, "repository:**:*", `repository:${mine}:*`, "repository:*:pull"),
    expected: bearer,
  },
  userCase("pull", pull403),
  userCase("push", [403, "in", 403]),
  userCase("pull,push", ["in", "in", 403]),
  userCase("delete", [403, 403, "in"]),
  userCase("pull,push,delete", all),
  { who: "a user with nothing", says: async () => robot([]), expected: known },
  {
    who: "a user of other repositories",
    says: async () =>
      robot([
        `mine-${run}/ther:pull,push,delete`,
        `mine-${run}/there/**:pull,push,delete`,
        `mine-${run}/others:pull,push,delete`,
        `mine-${run}:pull,push,delete`,
        `*:pull,push,delete`,
        `there:pull,push,delete`,
      ]),
    expected: known,
  },
  {
    who: "a user with everything on every repository, who is no administrator",
    says: async () => robot(["**:pull,push,delete"]),
    expected: { ...known, mine: all, theirs: all, open: all },
  },
  {
    who: "an access token sent as a bearer",
    says: async () => `Bearer ${(await makeRobot([`${mine}:pull`])).token.secret}`,
    expected: { ...known, mine: pull403 },
  },
  {
    who: "an access token of nobody sent as a bearer",
    says: async () => `Bearer moorage_${"A".repeat(43)}`,
    expected: refusedOutright,
  },
  {
    who: "an access token that is narrowed to pull",
    says: async () => (await makeRobot(allOfMine, { grants: [`${mine}:pull`] })).token.authorization,
    expected: { ...known, mine: pull403 },
  },
  {
    who: "an access token whose own grants are more than its user's",
    says: async () => (await makeRobot([`${mine}:pull`], { grants: ["**:pull,push,delete"] })).token.authorization,
    expected: { ...known, mine: pull403 },
  },
  {
    who: "an access token that is narrowed to nothing",
    says: async () => (await makeRobot(allOfMine, { grants: [] })).token.authorization,
    expected: known,
  },
  {
    who: "an access token that has expired",
    says: async () => (await makeRobot(allOfMine, { expiresAtMs: Date.now() - 1 })).token.authorization,
    expected: refusedOutright,
  },
  {
    who: "an access token that is revoked",
    says: async () => (await makeRobot(allOfMine, { revoked: true })).token.authorization,
    expected: refusedOutright,
  },
  {
    who: "an access token of a disabled user",
    says: async () => (await makeAccessToken(await makeUser(allOfMine, { disabled: true }))).authorization,
    expected: refusedOutright,
  },
  bearerCase("pull", pull401),
  bearerCase("push", [401, "in", 401]),
  bearerCase("pull,push", ["in", "in", 401]),
  bearerCase("delete", [401, 401, "in"]),
  bearerCase("*", all),
  bearerCase("metadata,admin", none401),
  {
    who: "a bearer for nothing",
    says: async () => bearerFor(registryFromAnywhere(), await robot(allOfMine)),
    expected: bearer,
  },
  {
    who: "a bearer for the catalogue",
    says: async () => bearerFor(registryFromAnywhere(), await robot([`${mine}:pull`]), "registry:catalog:*"),
    expected: { ...bearer, catalog: "in" },
  },
  {
    who: "a bearer that was asked for everything and given pull",
    says: async () =>
      bearerFor(
        registryFromAnywhere(),
        await robot([`${mine}:pull`]),
        ...kinds.flatMap((kind) => bothOf(kind, "pull,push,delete")),
      ),
    expected: { ...bearer, mine: pull403, theirs: none403, open: pull403 },
  },
  {
    who: "a bearer of an access token that is narrowed to pull",
    says: async () => {
      const { token } = await makeRobot(allOfMine, { grants: [`${mine}:pull`] });
      return bearerFor(registryFromAnywhere(), token.authorization, ...bothOf("mine", "*"));
    },
    expected: { ...bearer, mine: pull403 },
  },
  {
    who: "a bearer of an access token that was revoked since, which lives on to its end",
    says: async () => {
      const { token } = await makeRobot(allOfMine);
      const given = await bearerFor(registryFromAnywhere(), token.authorization, ...bothOf("mine", "pull"));
      await revoke(token);
      return given;
    },
    expected: { ...bearer, mine: pull401 },
  },
  {
    who: "an anonymous bearer that was asked for everything",
    says: async () =>
      bearerFor(registryFromAnywhere(), null, ...kinds.flatMap((kind) => bothOf(kind, "*")), "registry:catalog:*"),
    expected: { ...bearer, catalog: "in", admin: 401 },
  },
  {
    who: "a bearer sent as the password of Basic",
    says: async () => {
      const given = await bearerFor(registryFromAnywhere(), asAdmin, ...bothOf("mine", "*"));
      return basic("admin", given.slice("Bearer ".length));
    },
    expected: refusedOutright,
  },
  {
    who: "a refresh token sent as a bearer",
    says: async () => `Bearer ${await refreshTokenFor(registryFromAnywhere(), asAdmin)}`,
    expected: nobody,
  },
  {
    who: "a refresh token sent as the password of Basic",
    says: async () => basic("admin", await refreshTokenFor(registryFromAnywhere(), asAdmin)),
    expected: refusedOutright,
  },
  {
    who: "a bearer for another host",
    says: async () => signedBearer(somebody, bothOf("mine", "*"), { audience: "localhost:81" }),
    expected: nobody,
  },
  {
    who: "a bearer that has ended",
    says: async () => signedBearer(somebody, bothOf("mine", "*"), { nowMs: Date.now() - hourMs }),
    expected: nobody,
  },
  {
    who: "a bearer of another SIGNING_KEY",
    says: async () => signedBearer(somebody, bothOf("mine", "*"), { environment: secretsWith(btoa("k".repeat(32))) }),
    expected: nobody,
  },
  {
    who: "a bearer of the SIGNING_KEY of before",
    says: async () => signedBearer(somebody, bothOf("mine", "*"), { environment: secretsWith(btoa("p".repeat(32))) }),
    settings: { PREVIOUS_SIGNING_KEY: btoa("p".repeat(32)) },
    expected: { ...bearer, mine: all },
  },
  {
    who: "an anonymous bearer that says more than the policy",
    says: async () => signedBearer(anonymous, bothOf("mine", "pull")),
    expected: { ...bearer, mine: pull401, admin: 401 },
  },
  {
    who: "a job's ID token as the password of Basic",
    says: async () => basic("anything", await idToken(audience)),
    expected: { ...known, mine: ["in", "in", 403] },
  },
  {
    who: "a job's ID token as a bearer, which is for /token alone",
    says: async () => `Bearer ${await idToken(audience)}`,
    expected: { ...nobody, token: "in" },
  },
  {
    who: "a bearer that a job's ID token was given",
    says: async () => bearerFor(registryFromAnywhere(), basic("", await idToken(audience)), ...bothOf("mine", "*")),
    expected: { ...bearer, mine: ["in", "in", 403] },
  },
  {
    who: "an ID token for another audience",
    says: async () => basic("ci", await idToken("https://elsewhere.test")),
    expected: refusedOutright,
  },
  {
    who: "an ID token with the administrator's name",
    says: async () => basic("admin", await idToken("https://elsewhere.test")),
    expected: refusedOutright,
  },
  {
    who: "an administrator of Cloudflare Access, where it is off",
    says: async () => null,
    headers: async () => accessHeader(`admin-${run}@example.com`),
    expected: unasked,
  },
  {
    who: "an administrator of Cloudflare Access",
    says: async () => null,
    headers: async () => accessHeader(`admin-${run}@example.com`),
    settings: accessOn,
    expected: administrator,
  },
  {
    who: "a user who comes through Cloudflare Access",
    says: async () => null,
    headers: async () => accessHeader(await withEmail([`${mine}:pull`])),
    settings: accessOn,
    expected: { ...known, mine: pull403 },
  },
  {
    who: "a stranger who comes through Cloudflare Access",
    says: async () => null,
    headers: async () => accessHeader(`stranger-${run}@example.com`),
    settings: accessOn,
    expected: unasked,
  },
  {
    who: "an administrator at another application of Cloudflare Access",
    says: async () => null,
    headers: async () => accessHeader(`admin-${run}@example.com`, "another"),
    settings: accessOn,
    expected: unasked,
  },
  {
    who: "a dummy bearer through Cloudflare Access",
    says: async () => "Bearer QQ==",
    headers: async () => accessHeader(`admin-${run}@example.com`),
    settings: accessOn,
    expected: { ...nobody, token: "in" },
  },
];

function secretsWith(signingKey: string): object {
  return { ADMIN_PASSWORD: env.ADMIN_PASSWORD, TOKEN_KEY: env.TOKEN_KEY, SIGNING_KEY: signingKey };
}

function outcomeInRepository(expected: Expected, right: RepositoryRight, kind: Kind): Outcome {
  const [pull, push_, remove] = expected[kind];
  return { pull, push: push_, delete: remove }[right];
}

function outcomeInRegistry(expected: Expected, right: RegistryRight): Outcome {
  return right === "public" || right === "form" ? "in" : expected[right];
}

/** Of a refusal: its status, its code, and where it sends the client. */
function refusalFor(outcome: 401 | 403, { challenge }: Expected, right: RepositoryRight | RegistryRight): string {
  if (outcome === 403) return "403 DENIED";
  return `401 UNAUTHORIZED ${right === "token" ? "Basic" : challenge}`;
}

const errorsSchema = z.object({ errors: z.tuple([z.object({ code: z.string() })]) });

interface Answer {
  /** status, code of an error, scheme and error of a challenge */
  readonly summary: string;
  /** all that was answered, but for what a request alone has */
  readonly whole: string;
}

/** @param name of the repository that was asked for: what an answer repeats of the question tells nothing */
async function answerOf(response: Response, name: string): Promise<Answer> {
  const text = await response.text();
  const code = response.ok || text === "" ? [] : [errorsSchema.parse(JSON.parse(text)).errors[0].code];
  const header = response.headers.get("WWW-Authenticate");
  const [scheme] = header?.split(" ") ?? [];
  const error = /error="([a-z_]+)"/.exec(header ?? "")?.[1];
  const summary = [String(response.status), ...code, scheme, error].filter((part) => part !== undefined).join(" ");
  const requestId = response.headers.get("X-Request-Id") ?? "";
  const whole = JSON.stringify([response.status, [...response.headers], text])
    .replaceAll(name, "<name>")
    .replaceAll(requestId, "<request>");
  return { summary, whole };
}

/** What HEAD answers in place of GET: it has no body, thus no code. */
function inMethod(method: string, summary: string): string {
  return method === "HEAD" ? summary.replace(/ [A-Z_]{3,}/, "") : summary;
}

const methodsOf = ({ method }: { readonly method: string }): readonly string[] =>
  method === "GET" ? ["GET", "HEAD"] : [method];

const rowName = ({ method, path }: { readonly method: string; readonly path: string }): string => `${method} ${path}`;

describe("the table of routes", () => {
  it("has a row for every route of the application, and no other", () => {
    const routes = new Set(app.routes.filter(({ method }) => method !== "ALL").map(rowName));
    expect(rows.map(rowName).toSorted()).toEqual([...routes].toSorted());
  });

  it("has no route that answers every method: those for all are the middleware", () => {
    const paths = new Set(app.routes.filter(({ method }) => method === "ALL").map(({ path }) => path));
    expect([...paths]).toEqual(["/*", "/api/v1/*"]);
  });

  it("states what each route asks: where nothing is public, nobody gets in but where nothing is asked", async () => {
    const strict = environmentWith({ ANONYMOUS_PULL: "" });
    for (const row of rows) {
      const open = row.right === "token" || row.right === "form" || row.right === "public";
      const target = typeof row.target === "string" ? row.target : row.target(repositories.mine.there);
      const response = await registryFromAnywhere(strict).as(null).request(row.method, target, row.options);
      expect({ row: rowName(row), asked: response.status === 401 }).toEqual({ row: rowName(row), asked: !open });
      await response.body?.cancel();
    }
  });
});

describe.each(cases)("$who", ({ says, headers, settings: own, expected }) => {
  const registry = environmentWith({ ...settings, ...own });
  const asker = async (): Promise<(method: string, target: string, options?: RequestOptions) => Promise<Response>> => {
    const authorization = await says();
    const besides = await headers?.();
    return async (method, target, options = {}) =>
      registryFromAnywhere(registry)
        .as(authorization)
        .request(method, target, { ...options, headers: { ...options.headers, ...besides } });
  };

  it.each(kinds)("in a repository that is %s", async (kind) => {
    const ask = await asker();
    const found: Record<string, string> = {};
    const wanted: Record<string, string> = {};
    for (const row of repositoryRows) {
      const outcome = outcomeInRepository(expected, row.right, kind);
      for (const method of methodsOf(row)) {
        const answers: Answer[] = [];
        for (const place of places) {
          const name = `${method} ${row.path} ${place}`;
          const repository = repositories[kind][place];
          const answer = await answerOf(await ask(method, row.target(repository), row.options), repository);
          answers.push(answer);
          found[name] = answer.summary;
          wanted[name] = inMethod(method, outcome === "in" ? row[place] : refusalFor(outcome, expected, row.right));
        }
        // Who is refused learns nothing of whether it is there, to the letter.
        if (outcome !== "in") expect(answers[0]?.whole).toBe(answers[1]?.whole);
      }
    }
    expect(found).toEqual(wanted);
  });

  it("in the registry as a whole", async () => {
    const ask = await asker();
    const found: Record<string, string> = {};
    const wanted: Record<string, string> = {};
    for (const row of registryRows) {
      const outcome = outcomeInRegistry(expected, row.right);
      for (const method of methodsOf(row)) {
        const name = `${method} ${row.path}`;
        found[name] = (await answerOf(await ask(method, row.target, row.options), run)).summary;
        wanted[name] = inMethod(method, outcome === "in" ? row.answer : refusalFor(outcome, expected, row.right));
      }
    }
    expect(found).toEqual(wanted);
  });
});

describe("what the table has not", () => {
  const callers = [
    { who: "nobody", authorization: null },
    { who: "the administrator", authorization: asAdmin },
  ];

  it.each(callers)("is a 405 to $who, where the path is one of it", async ({ authorization }) => {
    const paths = Map.groupBy(rows, ({ path }) => path);
    for (const [path, ofPath] of paths) {
      const [row] = ofPath;
      const target = typeof row?.target === "string" ? row.target : row?.target(repositories.mine.there);
      const taken = new Set(ofPath.flatMap(methodsOf));
      for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].filter((each) => !taken.has(each))) {
        const response = await registryFromAnywhere()
          .as(authorization)
          .request(method, target ?? "");
        const answer = await answerOf(response, "");
        expect({ path, method, answer: answer.summary }).toEqual({ path, method, answer: "405 UNSUPPORTED" });
        expect(new Set(response.headers.get("Allow")?.split(", "))).toEqual(taken);
      }
    }
  });

  it.each(callers)("is a 404 to $who anywhere else", async ({ authorization }) => {
    const { there } = repositories.theirs;
    for (const target of ["/", "/v1/", `/v2/${there}`, `/v2/${there}/blobs`, "/v2/_oci", "/api/v1/", "/api/v2/users"]) {
      for (const method of ["GET", "POST", "DELETE"]) {
        const answer = await answerOf(await registryFromAnywhere().as(authorization).request(method, target), "");
        expect({ method, target, answer: answer.summary }).toEqual({ method, target, answer: "404 UNSUPPORTED" });
      }
    }
  });
});
