import { BEARER_MAX_CHARACTERS } from "../limits.ts";

/** What an `Authorization` header brings. */
export type Credentials =
  | { readonly kind: "none" }
  | { readonly kind: "basic"; readonly user: string; readonly password: string }
  | { readonly kind: "bearer"; readonly token: string }
  /** a scheme that is not known here, or one whose value can't be read */
  | { readonly kind: "malformed" };

/** Longer ones are no credentials of this registry. */
const HEADER_MAX_CHARACTERS = BEARER_MAX_CHARACTERS + "Bearer ".length;

/**
 * RFC 9110 section 11.4: schemes are case-insensitive. RFC 7617 for Basic: UTF-8, parted at the first colon; an empty
 * user and password is what some clients send for nobody.
 */
export function parseAuthorization(header: string | undefined): Credentials {
  if (header === undefined || header.trim() === "") return { kind: "none" };
  const match = /^\s*([A-Za-z]+)[ \t]+(\S+)\s*$/.exec(header.slice(0, HEADER_MAX_CHARACTERS + 1));
  if (match === null || header.length > HEADER_MAX_CHARACTERS) return { kind: "malformed" };
  const [, scheme = "", value = ""] = match;
  switch (scheme.toLowerCase()) {
    case "bearer":
      return { kind: "bearer", token: value };
    case "basic":
      return parseBasic(value);
    default:
      return { kind: "malformed" };
  }
}

function parseBasic(value: string): Credentials {
  const text = decode(value);
  const colon = text?.indexOf(":") ?? -1;
  if (text === null || colon < 0) return { kind: "malformed" };
  const user = text.slice(0, colon);
  const password = text.slice(colon + 1);
  return user === "" && password === "" ? { kind: "none" } : { kind: "basic", user, password };
}

function decode(base64: string): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Uint8Array.fromBase64(base64));
  } catch {
    return null;
  }
}
