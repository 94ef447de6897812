import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, errors, jwtVerify } from "jose";
import { z } from "zod";
import { CLOCK_SKEW_SECONDS, ID_TOKEN_MAX_CHARACTERS, SUBJECT_MAX_CHARACTERS } from "../limits.ts";
import { type IssuerKeys, issuerKeys, type KeySource } from "./issuer-keys.ts";
import type { Claims } from "./trust-rule.ts";

/**
 * Signatures by key pairs alone. An issuer's public key is no secret: were HS256 taken, whoever read it could sign
 * (RFC 8725 section 2.1).
 */
const algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

/** A token whose signature and times hold. */
export interface VerifiedToken {
  readonly kind: "verified";
  readonly subject: string;
  readonly claims: Claims;
  /** ms since 1970 */
  readonly expiresAtMs: number;
}

/** The reason is for the audit: it may say what an outsider need not know. */
export type Verification =
  | VerifiedToken
  | { readonly kind: "refused"; readonly reason: string }
  /** nothing is said of the token: its issuer's keys are not to be had */
  | { readonly kind: "unverifiable"; readonly reason: string };

/** Three parts in base64url with dots between, the first of them JSON. Its signature may be empty: then it is refused. */
export function isIdToken(text: string): boolean {
  return text.length <= ID_TOKEN_MAX_CHARACTERS && /^eyJ[\w-]+\.eyJ[\w-]*\.[\w-]*$/.test(text);
}

/** Whose token it says that it is; null where it says no text, or can't be read. Nothing is verified. */
export function issuerOf(token: string): string | null {
  try {
    const issuer: unknown = decodeJwt(token).iss;
    return typeof issuer === "string" ? issuer : null;
  } catch (error) {
    if (error instanceof errors.JOSEError) return null;
    throw error;
  }
}

/** Verifies signature, issuer and times; the audience is the caller's to judge. Fetches the issuer's keys if need be. */
export async function verifyIdToken(token: string, source: KeySource, nowMs: number): Promise<Verification> {
  // Before anybody is asked for keys.
  const refusal = refusalOfHeader(token);
  if (refusal !== null) return { kind: "refused", reason: refusal };
  const first = await issuerKeys(source);
  const verified = await verifyWith(first, token, source, nowMs);
  if (verified !== "unknown key") return verified;
  // The issuer may have a new key.
  const second = await issuerKeys(source, first);
  const again = second === first ? verified : await verifyWith(second, token, source, nowMs);
  return again === "unknown key" ? { kind: "refused", reason: "its issuer has no key of its kid and alg" } : again;
}

function refusalOfHeader(token: string): string | null {
  try {
    const { alg } = decodeProtectedHeader(token);
    return alg !== undefined && algorithms.includes(alg) ? null : `its alg is none of ${algorithms.join(", ")}`;
  } catch {
    return "its header can't be read";
  }
}

const claimsSchema = z.looseObject({
  // It is part of a principal's name: nothing in it may break a line, or change how those around it are read.
  sub: z
    .string()
    .min(1)
    .max(SUBJECT_MAX_CHARACTERS)
    .regex(/^[^\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]*$/u),
  exp: z.number(),
  iat: z.number(),
});

async function verifyWith(
  { keys, failure }: IssuerKeys,
  token: string,
  { issuer }: KeySource,
  nowMs: number,
): Promise<Verification | "unknown key"> {
  if (keys === null) return { kind: "unverifiable", reason: failure ?? "its issuer has no keys" };
  try {
    // Made anew for each token: it keeps promises, which belong to the request that made them.
    const { payload } = await jwtVerify(token, createLocalJWKSet(keys), {
      algorithms,
      issuer,
      requiredClaims: ["exp", "iat", "sub"],
      clockTolerance: CLOCK_SKEW_SECONDS,
      currentDate: new Date(nowMs),
    });
    return judgeClaims(payload, nowMs);
  } catch (error) {
    if (error instanceof errors.JWKSNoMatchingKey) return "unknown key";
    return { kind: "refused", reason: reasonOf(error) };
  }
}

function judgeClaims(payload: Claims, nowMs: number): Verification {
  const claims = claimsSchema.safeParse(payload);
  if (!claims.success) {
    return { kind: "refused", reason: `its claim ${claims.error.issues[0]?.path.join(".") ?? ""} can't be` };
  }
  const { sub, exp, iat } = claims.data;
  if (exp * 1000 <= nowMs) return { kind: "refused", reason: "it has expired" };
  if (iat * 1000 > nowMs + CLOCK_SKEW_SECONDS * 1000) return { kind: "refused", reason: "it was issued in the future" };
  return { kind: "verified", subject: sub, claims: payload, expiresAtMs: exp * 1000 };
}

/** Whatever is wrong with a token, or with the key that it names, makes nobody of its sender, and no fault of ours. */
function reasonOf(error: unknown): string {
  if (error instanceof errors.JWTExpired) return "it has expired";
  if (error instanceof errors.JWTClaimValidationFailed) {
    return error.claim === "nbf" ? "it is not valid yet" : `its claim ${error.claim} is missing or another`;
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) return "its signature is not of its issuer's key";
  if (error instanceof errors.JWKSMultipleMatchingKeys) return "it names no key, and its issuer has several";
  if (error instanceof errors.JOSEError) return `it can't be read (${error.code})`;
  return "its issuer's key can't be used";
}
