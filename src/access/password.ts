import { timingSafeEqual } from "node:crypto";
import { PASSWORD_ITERATIONS } from "../limits.ts";

/** Hashes of the passwords that people choose: `pbkdf2-sha256$<iterations>$<salt>$<hash>`, base64url. */

const HASH_BITS = 256;
const SALT_BYTES = 16;

export async function hashPassword(password: string): Promise<string> {
  const salt = crypto.getRandomValues(new Uint8Array(SALT_BYTES));
  const hash = await derive(password, salt, PASSWORD_ITERATIONS);
  return ["pbkdf2-sha256", PASSWORD_ITERATIONS, encode(salt), encode(hash)].join("$");
}

/**
 * @param stored null: there is no such user, or it has no password; it takes as long to say so
 */
export async function isPassword(password: string, stored: string | null): Promise<boolean> {
  const [, iterations = "", salt = "", hash = ""] =
    /^pbkdf2-sha256\$(\d{1,7})\$([\w-]+)\$([\w-]+)$/.exec(stored ?? nobodys) ?? [];
  const expected = decode(hash);
  const derived = await derive(password, decode(salt), Number(iterations));
  return expected.byteLength === derived.byteLength && timingSafeEqual(expected, derived) && stored !== null;
}

const nobodys = `pbkdf2-sha256$${String(PASSWORD_ITERATIONS)}$${"A".repeat(22)}$${"A".repeat(43)}`;

async function derive(password: string, salt: Uint8Array<ArrayBuffer>, iterations: number): Promise<Uint8Array> {
  const base = await crypto.subtle.importKey("raw", new TextEncoder().encode(password), "PBKDF2", false, [
    "deriveBits",
  ]);
  return new Uint8Array(
    await crypto.subtle.deriveBits({ name: "PBKDF2", hash: "SHA-256", salt, iterations }, base, HASH_BITS),
  );
}

function encode(bytes: Uint8Array): string {
  return bytes.toBase64({ alphabet: "base64url", omitPadding: true });
}

function decode(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromBase64(text, { alphabet: "base64url" });
}
