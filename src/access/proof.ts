import { createHmac } from "node:crypto";
import type { Secrets } from "./secrets.ts";

/**
 * What a token of this registry says of the password that it was given for: another password has another proof, and so
 * has that of another user who takes the name. It tells nothing of the password.
 */

const adminProofs = new WeakMap<Secrets, string>();

export function adminProof(secrets: Secrets): string {
  const known = adminProofs.get(secrets);
  if (known !== undefined) return known;
  const proof = hmac(secrets, `admin\n${secrets.ADMIN_PASSWORD}`);
  adminProofs.set(secrets, proof);
  return proof;
}

/** @param hash of the password, with its salt; null: there is none, so that nothing could be given for it */
export function passwordProof(secrets: Secrets, hash: string | null): string | null {
  return hash === null ? null : hmac(secrets, `password\n${hash}`);
}

function hmac(secrets: Secrets, text: string): string {
  return createHmac("sha256", secrets.TOKEN_KEY).update(`refresh-token\n${text}`).digest("base64url").slice(0, 22);
}
