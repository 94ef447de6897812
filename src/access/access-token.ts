import { createHmac } from "node:crypto";

/**
 * A credential of a user, for programs: `moorage_` and 256 random bits. It can't be guessed, so what is stored is one
 * keyed hash of it, and to look it up costs no more than that: a slow hash is for secrets that people choose.
 */
export const accessTokenPrefix = "moorage_";

const SECRET_BYTES = 32;

export function newAccessToken(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(SECRET_BYTES));
  return accessTokenPrefix + bytes.toBase64({ alphabet: "base64url", omitPadding: true });
}

export function isAccessToken(text: string): boolean {
  return /^moorage_[A-Za-z0-9_-]{43}$/.test(text);
}

/** @param key TOKEN_KEY: whoever reads the database alone can't even try a token against it */
export function hashAccessToken(token: string, key: Uint8Array): string {
  return createHmac("sha256", key).update(`access-token\n${token}`).digest("base64url");
}
