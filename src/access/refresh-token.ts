import { createHmac } from "node:crypto";
import { errors, jwtVerify, SignJWT } from "jose";
import { z } from "zod";
import { REFRESH_LIFE_SECONDS } from "../limits.ts";
import { isSameSecret } from "./constant-time.ts";
import { findLogin, type Login } from "./login.ts";
import type { Holder } from "./policy.ts";
import { type Secrets, secretsOf } from "./secrets.ts";

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
  const claims = await readClaims(secretsOf(env), token, nowMs);
  if (claims === null) return ended;
  const { sub: name, tid: tokenId = null, proof } = claims;
  const found = await findLogin(env, { name, tokenId }, nowMs);
  if (found === null) return ended;
  if (tokenId === null && (found.proof === null || !isSameSecret(proof ?? "", found.proof))) return ended;
  return found.login;
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
