import { createHmac } from "node:crypto";
import { errors, jwtVerify, SignJWT } from "jose";
import { z } from "zod";
import { REFRESH_LIFE_SECONDS } from "../limits.ts";
import { isSameSecret } from "./constant-time.ts";
import { adminName, administratorLogin, type Login, loginOfToken, loginOfUser, userNameOf } from "./login.ts";
import type { Holder } from "./policy.ts";
import { adminProof, passwordProof } from "./proof.ts";
import { type Secrets, secretsOf } from "./secrets.ts";
import { findAccessToken, findUser } from "./store.ts";

/**
 * What docker keeps in place of a password (`access_type=offline`, `offline_token=true`). Nothing is stored for it: it
 * says whose login it stands for, and ends with that login: with the access token, or with the password.
 */

const TYPE = "moorage-refresh+jwt";
const claimsSchema = z.object({ sub: z.string(), tid: z.string().optional(), proof: z.string().optional() });

/** @returns null where the principal has no login that could be asked after later, as one of another issuer's token */
export async function signRefreshToken(env: Env, holder: Holder, nowMs: number): Promise<string | null> {
  const { principal, proof } = holder;
  if (principal.tokenId === null && proof === null) return null;
  return new SignJWT({
    ...(principal.tokenId === null ? {} : { tid: principal.tokenId }),
    ...(proof === null ? {} : { proof }),
  })
    .setProtectedHeader({ alg: "HS256", typ: TYPE })
    .setSubject(principal.name)
    .setIssuedAt(Math.floor(nowMs / 1000))
    .setExpirationTime(Math.floor(nowMs / 1000) + REFRESH_LIFE_SECONDS)
    .sign(keyOf(secretsOf(env)));
}

/** The login that a refresh token stands for, as it is now. D1: 1; 0 for the administrator. */
export async function loginWithRefreshToken(env: Env, token: string, nowMs: number): Promise<Login> {
  const secrets = secretsOf(env);
  const claims = await readClaims(secrets, token, nowMs);
  if (claims === null) return ended;
  if (claims.tid !== undefined) {
    const row = await findAccessToken(env.DB, "id", claims.tid, nowMs);
    return row === null ? ended : loginOfToken(row, nowMs);
  }
  const name = userNameOf(claims.sub);
  const user = name === null ? null : await findUser(env.DB, "name", name);
  const expected = claims.sub === adminName ? adminProof(secrets) : passwordProof(secrets, user?.password ?? null);
  if (expected === null || !isSameSecret(claims.proof ?? "", expected)) return ended;
  return user === null ? administratorLogin(secrets) : loginOfUser(secrets, user);
}

const ended: Login = { kind: "unknown", reason: "this refresh token has ended; log in again" };

async function readClaims(secrets: Secrets, token: string, nowMs: number) {
  try {
    const { payload } = await jwtVerify(token, keyOf(secrets), {
      algorithms: ["HS256"],
      typ: TYPE,
      requiredClaims: ["exp", "sub"],
      currentDate: new Date(nowMs),
    });
    return claimsSchema.parse(payload);
  } catch (error) {
    if (error instanceof errors.JOSEError || error instanceof z.ZodError) return null;
    throw error;
  }
}

/** A key of its own, so that nothing else that TOKEN_KEY makes can be taken for a token's signature. */
function keyOf(secrets: Secrets): Uint8Array {
  return new Uint8Array(createHmac("sha256", secrets.TOKEN_KEY).update("refresh-token-key").digest());
}
