import { z } from "zod";
import {
  RULE_CLAIM_MAX_CHARACTERS,
  RULE_CLAIMS_MAX,
  RULE_PATTERN_MAX_CHARACTERS,
  RULE_PATTERNS_MAX,
  RULE_TEXT_MAX_CHARACTERS,
} from "../limits.ts";
import { type Grants, grantsSchema } from "./grants.ts";
import { opennessOf } from "./public-issuers.ts";

/** Claim -> patterns, of which one must match; each claim must. */
export type Conditions = Readonly<Record<string, readonly string[]>>;

/** Whose OpenID Connect tokens stand for what. */
export interface TrustRule {
  readonly name: string;
  /** as the tokens have it in `iss`, to the letter */
  readonly issuer: string;
  /** as the tokens have it in `aud`, alone or among others */
  readonly audience: string;
  readonly conditions: Conditions;
  readonly grants: Grants;
}

/** The claims of a token whose signature holds. */
export type Claims = Readonly<Record<string, unknown>>;

/** The name of the rule that people who come through Cloudflare Access have in their principals; no rule may take it. */
export const accessRuleName = "cloudflare-access";

/** Without colon: a principal is `oidc:<rule>:<subject>`, and a subject has colons of its own. */
const nameGrammar = /^[a-z0-9]+(?:[._-][a-z0-9]+)*$/;

export const ruleNameSchema = z
  .string()
  .max(64)
  .regex(nameGrammar, "is not a name such as github-main: lower-case letters and digits, parted by . _ or -")
  .refine((name) => name !== accessRuleName, "is the name of Cloudflare Access itself");

export const issuerSchema = z
  .string()
  .max(RULE_TEXT_MAX_CHARACTERS)
  .refine(
    isIssuer,
    "is not an issuer: an https URL without query, such as https://token.actions.githubusercontent.com",
  );

const patternSchema = z.string().min(1, "is empty").max(RULE_PATTERN_MAX_CHARACTERS);

const claimSchema = z.string().min(1, "is empty").max(RULE_CLAIM_MAX_CHARACTERS);

/** Claims that say nothing of whose a token is: on a public issuer everybody chooses the audience. */
const ofAll = new Set(["aud", "iss", "exp", "iat", "nbf", "jti", "azp", "email_verified"]);

const recordSchema = z
  .record(
    claimSchema,
    z.union([patternSchema.transform((pattern) => [pattern]), z.array(patternSchema).min(1).max(RULE_PATTERNS_MAX)]),
  )
  .refine(
    (conditions) => Object.keys(conditions).length <= RULE_CLAIMS_MAX,
    `names more than ${RULE_CLAIMS_MAX} claims`,
  )
  .refine(
    (conditions) =>
      Object.entries(conditions).some(
        ([claim, patterns]) => !ofAll.has(claim) && patterns.every((pattern) => /[^*]/.test(pattern)),
      ),
    "at least one claim that says whose a token is must have patterns other than *: a rule without would trust everybody of its issuer",
  );

/** A record passes such a key over, and a rule with a condition less would trust more than whoever wrote it meant. */
export const conditionsSchema = z.preprocess((value, context) => {
  if (typeof value === "object" && value !== null && Object.hasOwn(value, "__proto__")) {
    context.addIssue({ code: "custom", message: "__proto__ can be no claim" });
  }
  return value;
}, recordSchema);

/** What a rule says, but for its name. */
export const ruleShape = {
  issuer: issuerSchema,
  audience: z.string().min(1, "is empty").max(RULE_TEXT_MAX_CHARACTERS),
  conditions: conditionsSchema,
  grants: grantsSchema,
} as const;

/** RFC 8414 section 2: https, no query, no fragment. http for an issuer on this machine alone. */
function isIssuer(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, username, password, search, hash } = new URL(text);
  if (username !== "" || password !== "" || search !== "" || hash !== "" || malformed.test(text)) return false;
  return protocol === "https:" || (protocol === "http:" && isLoopback(hostname));
}

/** What a URL's parser mends, drops, or takes for the name of a user. */
const malformed = /[?#\\\s\p{Cc}]|^[^/]*\/\/[^/]*@/u;

export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "127.0.0.1" || hostname === "[::1]";
}

/** Why a rule does not take a token; null: it does. */
export function misfitOf(rule: TrustRule, claims: Claims): string | null {
  // Whoever wrote it: no rule is made so, but two changes at once could leave one.
  const openness = opennessOf(rule.issuer, rule.conditions);
  if (openness !== null) return openness;
  if (!valuesOf(claims["aud"]).includes(rule.audience)) return "its audience is another";
  const failed = Object.entries(rule.conditions).find(([claim, patterns]) => {
    const values = valuesOf(readClaim(claims, claim));
    return !values.some((value) => patterns.some((pattern) => matchesText(value, pattern)));
  });
  return failed === undefined ? null : `the claim ${failed[0]} does not match`;
}

/**
 * A claim by its name, or by a path of names with dots between. Names have dots of their own (`kubernetes.io`), so every
 * way of parting the path is tried; one that can be read in two ways names nothing.
 */
export function readClaim(claims: Claims, path: string): unknown {
  const found = readings(claims, path.split("."));
  return found.length === 1 ? found[0] : undefined;
}

function readings(value: unknown, parts: readonly string[]): unknown[] {
  if (parts.length === 0) return [value];
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [];
  return parts.flatMap((_part, index) => {
    const name = parts.slice(0, index + 1).join(".");
    return Object.hasOwn(value, name) ? readings(Reflect.get(value, name), parts.slice(index + 1)) : [];
  });
}

/** The texts of a claim: of a list those of its members. An object, and null, are none. */
export function valuesOf(claim: unknown): readonly string[] {
  const members: readonly unknown[] = Array.isArray(claim) ? claim : [claim];
  return members.flatMap((member) => {
    if (typeof member === "string") return [member];
    return typeof member === "number" || typeof member === "boolean" ? [String(member)] : [];
  });
}

/**
 * Whether a text is of a pattern, in which `*` stands for any letters, or none. In a time that grows with their lengths
 * alone, as a regular expression of many stars would not.
 */
export function matchesText(text: string, pattern: string): boolean {
  const [first = "", ...rest] = pattern.split("*");
  const last = rest.pop();
  if (last === undefined) return text === pattern;
  if (!text.startsWith(first)) return false;
  let offset = first.length;
  for (const piece of rest) {
    const found = text.indexOf(piece, offset);
    if (found < 0) return false;
    offset = found + piece.length;
  }
  return text.length - last.length >= offset && text.endsWith(last);
}
