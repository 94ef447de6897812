import { calculateJwkThumbprint, importJWK } from "jose";
import { secretsOf } from "./secrets.ts";

/** The keys of registry tokens. */
export interface SigningKeys {
  readonly current: { readonly id: string; readonly privateKey: CryptoKey };
  /** by key id: the current one's, and that of before a rotation */
  readonly publicKeys: ReadonlyMap<string, CryptoKey>;
}

const known = new WeakMap<object, SigningKeys>();

/**
 * The keys, derived from their secrets once an isolate. A key's id is its thumbprint (RFC 7638), so a rotation needs
 * nothing but the secrets: the new SIGNING_KEY, and the old one as PREVIOUS_SIGNING_KEY for as long as its tokens live.
 * @throws BadSecret
 */
export async function signingKeys(env: object): Promise<SigningKeys> {
  const made = known.get(env);
  if (made !== undefined) return made;
  // Kept when they are there, never the promise: that is the request's which makes it, and ends with it.
  const keys = await makeKeys(env);
  known.set(env, keys);
  return keys;
}

async function makeKeys(env: object): Promise<SigningKeys> {
  const { SIGNING_KEY, PREVIOUS_SIGNING_KEY } = secretsOf(env);
  const current = await deriveKeys(SIGNING_KEY);
  const previous = PREVIOUS_SIGNING_KEY === undefined ? [] : [await deriveKeys(PREVIOUS_SIGNING_KEY)];
  return { current, publicKeys: new Map([...previous, current].map(({ id, publicKey }) => [id, publicKey])) };
}

/** What stands before the seed in a PKCS #8 Ed25519 key, RFC 8410 section 10.3. */
const pkcs8Start = Uint8Array.fromHex("302e020100300506032b657004220420");

async function deriveKeys(seed: Uint8Array<ArrayBuffer>) {
  const pkcs8 = new Uint8Array([...pkcs8Start, ...seed]);
  const privateKey = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", true, ["sign"]);
  const exported = await crypto.subtle.exportKey("jwk", privateKey);
  if (exported instanceof ArrayBuffer || exported.x === undefined) throw new Error("the key has no public half");
  const jwk = { kty: "OKP", crv: "Ed25519", x: exported.x };
  const publicKey = await importJWK(jwk, "EdDSA");
  if (publicKey instanceof Uint8Array) throw new Error("the public half is no key");
  return { id: await calculateJwkThumbprint(jwk), privateKey, publicKey };
}
