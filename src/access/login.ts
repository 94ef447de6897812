import { CREDENTIALS_KEPT_MAX } from "../limits.ts";
import { hashAccessToken, isAccessToken } from "./access-token.ts";
import { attemptLogin } from "./brakes.ts";
import { isSameSecret } from "./constant-time.ts";
import { Kept } from "./kept.ts";
import { rightsKeptMs } from "./kept-time.ts";
import { isPassword } from "./password.ts";
import type { Grants } from "./grants.ts";
import type { Authority } from "./policy.ts";
import { adminProof, passwordProof } from "./proof.ts";
import { administrator, type Principal } from "../requester.ts";
import { secretsOf } from "./secrets.ts";
import { type AccessTokenRow, findAccessToken, findUser, type UserRow } from "./store.ts";

/** Who it is, or why it is nobody: a sentence for the one who sent the credentials. */
export type Login =
  | { readonly kind: "known"; readonly authority: Authority }
  | {
      readonly kind: "unknown";
      readonly reason: string;
      /** what the audit says instead: more than is for the sender to know */
      readonly noted?: string;
      /** it may not be the sender's fault: not counted as a guess */
      readonly blameless?: boolean;
      /** whose credentials they are, that do not hold any more */
      readonly of?: Principal;
    };

/** Credentials that are nobody's. */
export type UnknownLogin = Extract<Login, { kind: "unknown" }>;

export const wrongCredentials: Login = {
  kind: "unknown",
  reason: "wrong user name, password or access token (a person's password is taken at /token alone)",
};

export const adminName = administrator.name;

/**
 * Whether what this isolate has learnt of an access token lately will do. Not where a bearer is given for it: that one is
 * good as given for as long again, and a revocation is to take no longer than that.
 */
export type Lookup = "kept" | "fresh";

/** Where and when somebody tries to log in. */
export interface Attempt {
  readonly address: string | null;
  readonly nowMs: number;
  readonly lookup: Lookup;
}

/**
 * Whose access token it is, of those that this isolate has looked up lately; null for all else, and where it does not hold.
 * @param user the name that came with it; null where none did
 */
export function knownHolder(env: Env, user: string | null, token: string, nowMs: number): Authority | null {
  const row = keptTokens.get(hashAccessToken(token, secretsOf(env).TOKEN_KEY), nowMs);
  if (row === undefined || (user !== null && row.user.name !== user)) return null;
  return authorityIn(loginOfToken(row, nowMs));
}

/**
 * A user name and what came with it, on any endpoint: the administrator's password, or an access token.
 * D1: 1 batch for an access token that this isolate has not seen for as long as it keeps one (`rightsKeptMs`), else 0.
 */
export async function loginWithKey(env: Env, user: string, key: string, attempt: Attempt): Promise<Login> {
  const secrets = secretsOf(env);
  if (user === adminName) {
    return attemptLogin(attempt.address, attempt.nowMs, async () =>
      isSameSecret(key, secrets.ADMIN_PASSWORD) ? administratorLogin(adminProof(secrets)) : wrongCredentials,
    );
  }
  if (!isAccessToken(key)) return wrongCredentials;
  const row = await knownToken(env, hashAccessToken(key, secrets.TOKEN_KEY), attempt);
  return row === null || row.user.name !== user ? wrongCredentials : loginOfToken(row, attempt.nowMs);
}

/** An access token alone, sent as a bearer: it says itself whose it is. D1: as above. */
export async function loginWithToken(env: Env, token: string, attempt: Attempt): Promise<Login> {
  const row = await knownToken(env, hashAccessToken(token, secretsOf(env).TOKEN_KEY), attempt);
  return row === null ? wrongCredentials : loginOfToken(row, attempt.nowMs);
}

/**
 * A password that a person chose: at /token alone, where one slow hash is one login, not one request.
 * D1: 1.
 */
export async function loginWithPassword(env: Env, user: string, password: string): Promise<Login> {
  const row = await findUser(env.DB, "name", user);
  if (!(await isPassword(password, row?.password ?? null)) || row === null) return wrongCredentials;
  return loginOfUser(row, passwordProof(secretsOf(env), row.password));
}

function loginOfToken(row: AccessTokenRow, nowMs: number): Login {
  const of = { name: `${userPrefix}${row.user.name}`, tokenId: row.id };
  if (row.revoked) return { kind: "unknown", reason: "this access token is revoked", of };
  if (row.expiresAtMs !== null && row.expiresAtMs <= nowMs) {
    return { kind: "unknown", reason: "this access token has expired", of };
  }
  const { user } = row;
  return loginBy(user, of, row.grants === null ? [user.grants] : [user.grants, row.grants], null);
}

/** @param proof of the password; null where it is the e-mail address that somebody vouches for */
function loginOfUser(user: UserRow, proof: string | null): Login {
  return loginBy(user, { name: `${userPrefix}${user.name}`, tokenId: null }, [user.grants], proof);
}

function loginBy(user: UserRow, principal: Principal, grants: readonly Grants[], proof: string | null): Login {
  if (user.disabled) return { kind: "unknown", reason: "this user is disabled", of: principal };
  return { kind: "known", authority: { principal, admin: false, grants, rules: null, proof } };
}

function administratorLogin(proof: string): Login {
  return { kind: "known", authority: { principal: administrator, admin: true, grants: [], rules: null, proof } };
}

/** By principal; null for one that may do nothing any more. */
const keptAuthorities = new Kept<Authority | null>(CREDENTIALS_KEPT_MAX);

/** What `authorityOf` has found lately; undefined where it has not. */
export function knownAuthority(principal: Principal, nowMs: number): Authority | null | undefined {
  return keptAuthorities.get(keyOf(principal), nowMs);
}

/**
 * What a principal may do by now, whatever its token says; null for one that is not kept here. D1: 1; 0 for the
 * administrator.
 */
export async function authorityOf(env: Env, principal: Principal, nowMs: number): Promise<Authority | null> {
  const found = await findLogin(env, principal, nowMs);
  const authority = found === null ? null : authorityIn(found.login);
  const keptUntilMs = nowMs + rightsKeptMs(env);
  const endsAtMs = authority === null ? null : (found?.endsAtMs ?? null);
  keptAuthorities.set(keyOf(principal), authority, Math.min(keptUntilMs, endsAtMs ?? keptUntilMs));
  return authority;
}

/** The login that a token was given for, as it is now. */
interface FoundLogin {
  readonly login: Login;
  /** of its password, be it that it is disabled; null: it has none */
  readonly proof: string | null;
  /** ms since 1970; null: it does not end by itself */
  readonly endsAtMs: number | null;
}

/** @returns null where there is none any more, or none is kept here. D1: 1; 0 for the administrator */
export async function findLogin(env: Env, { name, tokenId }: Principal, nowMs: number): Promise<FoundLogin | null> {
  if (tokenId !== null) {
    const row = await findAccessToken(env.DB, "id", tokenId, nowMs);
    return row === null ? null : { login: loginOfToken(row, nowMs), proof: null, endsAtMs: row.expiresAtMs };
  }
  const secrets = secretsOf(env);
  if (name === adminName) {
    const proof = adminProof(secrets);
    return { login: administratorLogin(proof), proof, endsAtMs: null };
  }
  const userName = userNameOf(name);
  const user = userName === null ? null : await findUser(env.DB, "name", userName);
  if (user === null) return null;
  const proof = passwordProof(secrets, user.password);
  return { login: loginOfUser(user, proof), proof, endsAtMs: null };
}

function authorityIn(login: Login): Authority | null {
  return login.kind === "known" ? login.authority : null;
}

function keyOf({ name, tokenId }: Principal): string {
  return `${name} ${tokenId ?? ""}`;
}

/** Of a user's principal. */
const userPrefix = "user:";

/** @returns null for a principal that is no user of this registry */
function userNameOf(principal: string): string | null {
  return principal.startsWith(userPrefix) ? principal.slice(userPrefix.length) : null;
}

/** By hash, which is keyed with TOKEN_KEY: another deployment's key finds nothing here. */
const keptTokens = new Kept<AccessTokenRow>(CREDENTIALS_KEPT_MAX);

/**
 * Only tokens that there are: guesses are not kept, and so can't push out what is known. One that is known is no guess,
 * whatever others of its address do.
 */
async function knownToken(env: Env, hash: string, { address, nowMs, lookup }: Attempt): Promise<AccessTokenRow | null> {
  const known = keptTokens.get(hash, nowMs);
  if (known !== undefined && lookup === "kept") return known;
  const find = async (): Promise<AccessTokenRow | null> => findAccessToken(env.DB, "hash", hash, nowMs);
  const row = await (known === undefined ? attemptLogin(address, nowMs, find) : find());
  if (row === null) keptTokens.delete(hash);
  else keptTokens.set(hash, row, nowMs + rightsKeptMs(env));
  return row;
}

/** By address; of nobody too: only an address that somebody vouches for is asked after. */
const keptUsers = new Kept<UserRow | null>(CREDENTIALS_KEPT_MAX);

/** Somebody whose e-mail address is proven. D1: 1 for an address that this isolate has not seen lately, else 0. */
export async function loginOfEmail(env: Env, email: string, nowMs: number): Promise<Login> {
  const known = keptUsers.get(email, nowMs);
  const user = known === undefined ? await findUser(env.DB, "email", email) : known;
  if (known === undefined) keptUsers.set(email, user, nowMs + rightsKeptMs(env));
  return user === null ? { kind: "unknown", reason: "no user has this e-mail address" } : loginOfUser(user, null);
}

/** What this isolate has learnt of tokens and users is asked for again: one of them was changed here. */
export function forgetLogins(): void {
  keptTokens.clear();
  keptUsers.clear();
  keptAuthorities.clear();
}
