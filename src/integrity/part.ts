import { secretsOf } from "../access/secrets.ts";

/** A part of a copy of the index: lines of JSON, gzipped; encrypted where it says who may do what. */

/**
 * @param env of whose TOKEN_KEY a sealed part's key is made: without it the keyed hashes of access tokens, which are in
 * such a part, would be worth nothing either
 */
export async function encodePart(lines: readonly string[], env: object | null): Promise<Uint8Array> {
  const text = new Blob([lines.join("\n")]);
  const packed = await bytesOf(text.stream().pipeThrough(new CompressionStream("gzip")));
  if (env === null) return packed;
  const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES));
  const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, await sealingKey(env), packed);
  const whole = new Uint8Array(IV_BYTES + sealed.byteLength);
  whole.set(iv);
  whole.set(new Uint8Array(sealed), IV_BYTES);
  return whole;
}

/** A part that was sealed with another TOKEN_KEY, or is not as it was written. */
export class PartUnreadable extends Error {
  override readonly name = "PartUnreadable";
}

/** @throws PartUnreadable */
export async function decodePart(bytes: Uint8Array<ArrayBuffer>, env: object | null): Promise<readonly string[]> {
  try {
    const packed = env === null ? bytes : await unseal(bytes, await sealingKey(env));
    const text = await bytesOf(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip")));
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(text).split("\n");
  } catch (error) {
    throw new PartUnreadable("a part of the export can't be read", { cause: error });
  }
}

/** NIST SP 800-38D section 8.2. */
const IV_BYTES = 12;

async function unseal(bytes: Uint8Array<ArrayBuffer>, key: CryptoKey): Promise<Uint8Array<ArrayBuffer>> {
  const iv = bytes.subarray(0, IV_BYTES);
  return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, key, bytes.subarray(IV_BYTES)));
}

async function sealingKey(env: object): Promise<CryptoKey> {
  const secret = await crypto.subtle.importKey("raw", secretsOf(env).TOKEN_KEY, "HKDF", false, ["deriveKey"]);
  const info = new TextEncoder().encode("export of the index");
  const derivation = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info };
  return crypto.subtle.deriveKey(derivation, secret, { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
}

async function bytesOf(stream: ReadableStream): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
