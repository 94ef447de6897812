import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { access } from "../access/access.ts";
import { isAccessToken } from "../access/access-token.ts";
import { type Credentials, parseAuthorization } from "../access/authorization-header.ts";
import { signBearer } from "../access/bearer.ts";
import { attemptLogin } from "../access/brakes.ts";
import { refuseForeignPage } from "../access/foreign-page.ts";
import { isIdToken } from "../access/id-token.ts";
import {
  adminName,
  type Attempt,
  type Login,
  loginWithKey,
  loginWithPassword,
  loginWithToken,
} from "../access/login.ts";
import { type Authority, permissionsOf } from "../access/policy.ts";
import { anonymous } from "../requester.ts";
import { loginWithRefreshToken, signRefreshToken } from "../access/refresh-token.ts";
import { refuseLogin } from "../access/refuse-login.ts";
import { parseScopes } from "../access/scope.ts";
import { signingKeys } from "../access/signing-keys.ts";
import { loginWithIdToken } from "../access/workload-identity.ts";
import { configOf } from "../config.ts";
import type { RepositoryEnv } from "../env.ts";
import { json } from "../http/text.ts";
import { BEARER_LIFE_SECONDS, BEARER_MAX_CHARACTERS, FORM_MAX_BYTES } from "../limits.ts";
import { OciError } from "../oci/errors.ts";
import { divideScopes } from "./divide-scopes.ts";
import { noteLogin } from "./note-login.ts";

/**
 * The token endpoint of the distribution project's token specification, in both of its forms: GET with Basic (docker,
 * containerd, skopeo, oras, crane, helm), and POST with a form, as OAuth 2 has it (containerd first of all, and whoever
 * holds a refresh token). Without credentials it gives nobody's token, never a 401: so the clients pull what is public.
 */
export const token = new Hono<RepositoryEnv>();

/** D1: 1 to note the login, where it was not noted lately; 1 for the login itself but the administrator's. */
token.get("/token", access("public"), async (c) => {
  const credentials = parseAuthorization(c.req.header("authorization"));
  return answer(c, await authorityOf(c, loginGiven(credentials)), {
    scopes: c.req.queries("scope") ?? [],
    offline: c.req.query("offline_token") === "true",
  });
});

/** As GET. */
token.post("/token", access("public"), bodyLimit({ maxSize: FORM_MAX_BYTES, onError: tooLarge }), async (c) => {
  // Before anything is counted: a form of another site's page would brake its visitor's whole network.
  refuseForeignPage(c.req.raw, "log in");
  const form = new URLSearchParams(await c.req.text());
  return answer(c, await authorityOf(c, loginOfForm(form)), {
    scopes: form.getAll("scope"),
    offline: form.get("access_type") === "offline",
    refreshToken: form.get("grant_type") === "refresh_token" ? form.get("refresh_token") : null,
  });
});

type TokenContext = Context<RepositoryEnv>;

interface TokenRequest {
  /** each may hold several, parted by spaces */
  readonly scopes: readonly string[];
  /** a refresh token is wanted */
  readonly offline: boolean;
  /** the one that was sent: it goes on */
  readonly refreshToken?: string | null;
}

/** What was given to log in with; null: nothing. */
interface GivenLogin {
  readonly user: string;
  readonly login: (env: Env, attempt: Attempt) => Promise<Login>;
}

function loginGiven(credentials: Credentials): GivenLogin | null {
  switch (credentials.kind) {
    case "none":
      return null;
    case "basic":
      return loginByName(credentials.user, credentials.password);
    case "bearer":
      return loginByBearer(credentials.token);
    case "malformed":
      return { user: "", login: async () => unreadable };
    default:
      return credentials satisfies never;
  }
}

/** Nobody guesses so: not counted. */
const unreadable: Login = { kind: "unknown", reason: "the Authorization header can't be read", blameless: true };

/** A bearer that is of no kind that could be exchanged is nobody's, as Homebrew's is: it gets nobody's token. */
function loginByBearer(bearer: string): GivenLogin | null {
  if (isIdToken(bearer)) return { user: "", login: async (env, attempt) => exchangeIdToken(env, bearer, attempt) };
  if (isAccessToken(bearer)) return { user: "", login: async (env, attempt) => loginWithToken(env, bearer, attempt) };
  return null;
}

/** An empty name and password is what some clients send for nobody, in a form as in Basic. */
function loginOfForm(form: URLSearchParams): GivenLogin | null {
  const grantType = form.get("grant_type");
  if (grantType === "password") {
    const [user, password] = [form.get("username") ?? "", form.get("password") ?? ""];
    return user === "" && password === "" ? null : loginByName(user, password);
  }
  if (grantType === "refresh_token") {
    const refreshToken = form.get("refresh_token") ?? "";
    return {
      user: "",
      login: async (env, { address, nowMs }) =>
        attemptLogin(address, nowMs, async () => loginWithRefreshToken(env, refreshToken, nowMs)),
    };
  }
  throw new OciError(
    "UNSUPPORTED",
    { reason: "grant_type is password or refresh_token", grantType: grantType?.slice(0, 64) ?? null },
    { status: 400 },
  );
}

/** A job's ID token says itself whose it is. The slow hash comes last, and only for what looks like nothing else. */
function loginByName(user: string, password: string): GivenLogin {
  return {
    user,
    login: async (env, attempt) => {
      if (isIdToken(password)) return exchangeIdToken(env, password, attempt);
      if (user === adminName || isAccessToken(password)) return loginWithKey(env, user, password, attempt);
      const { address, nowMs } = attempt;
      return attemptLogin(address, nowMs, async () => loginWithPassword(env, user, password));
    },
  };
}

async function exchangeIdToken(env: Env, idToken: string, { address, nowMs, lookup }: Attempt): Promise<Login> {
  return attemptLogin(address, nowMs, async () => loginWithIdToken(env, idToken, nowMs, lookup));
}

const nobody: Authority = { principal: anonymous, admin: false, grants: [], rules: null, proof: null };

async function authorityOf(c: TokenContext, given: GivenLogin | null): Promise<Authority> {
  if (given === null) return nobody;
  const { requester } = c.var;
  const nowMs = Date.now();
  const login = await given.login(c.env, { address: requester.address, nowMs, lookup: "fresh" });
  if (login.kind === "unknown") throw await refuseLogin(c.env, requester, given.user, login);
  const { authority } = login;
  noteLogin(c.env, c.executionCtx, { ...requester, principal: authority.principal }, nowMs);
  return authority;
}

async function answer(c: TokenContext, authority: Authority, request: TokenRequest): Promise<Response> {
  const asked = parseScopes(request.scopes);
  const permissions = permissionsOf(authority, configOf(c.env).ANONYMOUS_PULL);
  const { principal, rules, proof } = authority;
  const nowMs = Date.now();
  const { host } = new URL(c.req.url);
  const claims = { principal, rules, proof, ...divideScopes(asked, permissions) };
  const bearer = await signBearer(await signingKeys(c.env), claims, host, nowMs);
  if (bearer.length > BEARER_MAX_CHARACTERS) {
    const reason =
      "a token of all that is asked for would be longer than a request's header; ask for fewer repositories";
    throw new OciError("DENIED", { reason, repositories: asked.repositories.size }, { status: 400 });
  }
  const refreshToken =
    request.refreshToken ?? (request.offline ? await signRefreshToken(c.env, authority, nowMs) : null);
  return json(
    {
      token: bearer,
      access_token: bearer,
      token_type: "Bearer",
      expires_in: BEARER_LIFE_SECONDS,
      issued_at: new Date(nowMs).toISOString(),
      ...(refreshToken === null ? {} : { refresh_token: refreshToken }),
    },
    // RFC 6749 section 5.1: no cache keeps a token.
    { "Cache-Control": "no-store", Pragma: "no-cache" },
  );
}

function tooLarge(): never {
  throw new OciError("UNSUPPORTED", `the form has at most ${String(FORM_MAX_BYTES)} bytes`, { status: 413 });
}
