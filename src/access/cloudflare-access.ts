import { createHash } from "node:crypto";
import { z } from "zod";
import { type Config, configOf } from "../config.ts";
import { CREDENTIAL_KEPT_SECONDS, ID_TOKENS_KEPT_MAX } from "../limits.ts";
import { isIdToken, verifyIdToken } from "./id-token.ts";
import { Kept } from "./kept.ts";
import { loginOfEmail } from "./login.ts";
import type { Authority } from "./policy.ts";
import { accessRuleName, valuesOf } from "./trust-rule.ts";

/**
 * Whom Cloudflare Access let through (developers.cloudflare.com/cloudflare-one, «Validate JWTs»): a person in a
 * browser, by the e-mail address in a token that Access signs for each request. The header alone says nothing: the
 * Worker's own address, which Access may not guard, takes it from anybody.
 * D1: 1 for an address that this isolate has not seen in the last CREDENTIAL_KEPT_SECONDS, else 0; fetches the team's
 * keys if need be.
 * @returns null where this is off, where the token does not hold, and for an address that is nobody's
 */
export async function loginWithCloudflareAccess(env: Env, headers: Headers, nowMs: number): Promise<Authority | null> {
  const config = configOf(env);
  const token = config.ACCESS_TEAM_DOMAIN === null ? null : headers.get("cf-access-jwt-assertion");
  if (token === null || !isIdToken(token)) return null;
  const email = await knownEmail(config, token, nowMs);
  if (email === null) return null;
  if (config.ACCESS_ADMINS.includes(email)) return administratorOf(email);
  const login = await loginOfEmail(env, email, nowMs);
  return login.kind === "known" ? login.authority : null;
}

/** Named, so that the audit tells one administrator from another. */
function administratorOf(email: string): Authority {
  return {
    principal: { name: `oidc:${accessRuleName}:${email}`, tokenId: null },
    admin: true,
    grants: [],
    rules: null,
    proof: null,
  };
}

/** By the hash of a token and of what it was held against. */
const keptEmails = new Kept<string>(ID_TOKENS_KEPT_MAX);

/** A service token's has no address: for programs there are access tokens and trust rules. */
const claimsSchema = z.object({ email: z.email().max(254).toLowerCase() });

async function knownEmail({ ACCESS_TEAM_DOMAIN, ACCESS_AUD }: Config, token: string, nowMs: number) {
  if (ACCESS_TEAM_DOMAIN === null) return null;
  const key = createHash("sha256")
    .update(JSON.stringify([ACCESS_TEAM_DOMAIN, ACCESS_AUD, token]))
    .digest("base64url");
  const known = keptEmails.get(key, nowMs);
  if (known !== undefined) return known;
  const keysUrl = `${ACCESS_TEAM_DOMAIN}/cdn-cgi/access/certs`;
  const verified = await verifyIdToken(token, { issuer: ACCESS_TEAM_DOMAIN, keysUrl }, nowMs);
  if (verified.kind !== "verified") return null;
  if (!valuesOf(verified.claims["aud"]).some((audience) => ACCESS_AUD.includes(audience))) return null;
  const claims = claimsSchema.safeParse(verified.claims);
  if (!claims.success) return null;
  const { email } = claims.data;
  keptEmails.set(key, email, Math.min(nowMs + CREDENTIAL_KEPT_SECONDS * 1000, verified.expiresAtMs));
  return email;
}
