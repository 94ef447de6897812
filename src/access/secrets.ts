import { z } from "zod";
import { parsedOnce } from "../environment.ts";

/** 256 bits, as `openssl rand -base64 32` prints them; base64url and hex do too. */
const key = z.string().transform((text, context): Uint8Array<ArrayBuffer> => {
  const bytes = decodeKey(text.trim());
  if (bytes?.byteLength === KEY_BYTES) return bytes;
  context.addIssue({ code: "custom", message: "is not 32 bytes in base64; make one with: openssl rand -base64 32" });
  return z.NEVER;
});

const KEY_BYTES = 32;

const schema = z.object({
  /** Of the user `admin`, who may do everything. */
  ADMIN_PASSWORD: z.string().regex(/\S/, "is empty"),
  /** Signs the tokens of /token: the seed of an Ed25519 key. */
  SIGNING_KEY: key,
  /** The SIGNING_KEY of before a rotation: its tokens are good until they end. */
  PREVIOUS_SIGNING_KEY: z
    .string()
    .transform((text) => (text === "" ? undefined : text))
    .pipe(key.optional())
    .optional(),
  /** An R2 API token of the bucket that may read objects: signs the redirects that REDIRECT_MIN_BYTES asks for. */
  R2_ACCESS_KEY_ID: z.string().optional(),
  R2_SECRET_ACCESS_KEY: z.string().optional(),
  /** Keys the hashes by which access tokens are stored, and signs refresh tokens. Another one ends them all. */
  TOKEN_KEY: key,
});

export type Secrets = Readonly<z.infer<typeof schema>>;

/** The secrets without which nothing is served. */
export const requiredSecrets = ["ADMIN_PASSWORD", "SIGNING_KEY", "TOKEN_KEY"] as const;
export const secretNames: readonly string[] = Object.keys(schema.shape);

/** A secret that is missing or wrong; its value is in no message. */
export class BadSecret extends Error {
  override readonly name = "BadSecret";
  readonly secret: string;
  readonly reason: string;

  constructor(secret: string, reason: string) {
    super(`secret ${secret} ${reason}`);
    this.secret = secret;
    this.reason = reason;
  }
}

/** @throws BadSecret the first one that is missing or wrong */
export const secretsOf = parsedOnce(schema, (name, reason) => new BadSecret(name, reason));

/** With what Node has too: the local run judges its secrets by this before it starts. */
function decodeKey(text: string): Uint8Array<ArrayBuffer> | null {
  if (/^[0-9a-f]{64}$/i.test(text)) {
    return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  }
  try {
    return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
  } catch {
    return null;
  }
}
