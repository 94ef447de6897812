import { errors, jwtVerify, SignJWT } from "jose";
import { z } from "zod";
import { BEARER_KEPT_MAX_CHARACTERS, BEARER_LIFE_SECONDS, BEARERS_KEPT_MAX } from "../limits.ts";
import { isRepositoryName, type RepositoryName } from "../oci/repository.ts";
import { type RepositoryRight, grantableRights } from "./grants.ts";
import { Kept } from "./kept.ts";
import type { CatalogFilter, Holder } from "./policy.ts";
import type { Scopes } from "./scope.ts";
import type { SigningKeys } from "./signing-keys.ts";

/** What a bearer token says: signed, so that a request with it asks nobody; see `standing.ts` for one that is older. */
export interface BearerClaims extends Holder {
  /** what was asked for and is allowed */
  readonly granted: Scopes;
  /** what was asked for and is not allowed: to ask again would change nothing */
  readonly refused: Scopes;
  /** of those of which no push was granted: to which the holder could push with another token */
  readonly pushable: readonly RepositoryName[];
  /** the patterns to list by, where the catalogue was granted */
  readonly catalog: CatalogFilter | null;
}

/** What is signed and holds. */
export interface VerifiedBearer extends BearerClaims {
  /** a whole second, ms since 1970 */
  readonly issuedAtMs: number;
}

/** Tells these from whatever else is signed, RFC 8725 section 3.11. */
const TYPE = "moorage-bearer+jwt";
const ISSUER = "moorage";

const rights = z.array(z.enum(grantableRights));
const accessSchema = z.array(z.object({ type: z.literal("repository"), name: z.string(), actions: rights }));
const claimsSchema = z.object({
  sub: z.string(),
  exp: z.number(),
  iat: z.number(),
  tid: z.string().optional(),
  rules: z.object({ issuer: z.string(), marks: z.array(z.string()) }).optional(),
  proof: z.string().optional(),
  access: accessSchema,
  refused: accessSchema.optional(),
  pushable: z.array(z.string()).optional(),
  catalog: z.array(z.array(z.string())).optional(),
  uncatalogued: z.boolean().optional(),
});

/**
 * Signs a token; `access` is in the form of the distribution project's token specification.
 * @param audience host and port of the registry: a token of one is not good for another
 */
export async function signBearer(
  keys: SigningKeys,
  claims: BearerClaims,
  audience: string,
  nowMs: number,
): Promise<string> {
  const { principal, rules, proof, granted, refused, pushable, catalog } = claims;
  const issuedAt = Math.floor(nowMs / 1000);
  const payload = {
    ...(principal.tokenId === null ? {} : { tid: principal.tokenId }),
    ...(rules === null ? {} : { rules: { issuer: rules.issuer, marks: [...rules.marks] } }),
    ...(proof === null ? {} : { proof }),
    access: accessOf(granted),
    ...(refused.repositories.size === 0 ? {} : { refused: accessOf(refused) }),
    ...(pushable.length === 0 ? {} : { pushable: [...pushable] }),
    ...(catalog === null ? {} : { catalog: catalog.map((patterns) => [...patterns]) }),
    ...(refused.catalog ? { uncatalogued: true } : {}),
  };
  return new SignJWT(payload)
    .setProtectedHeader({ alg: "EdDSA", kid: keys.current.id, typ: TYPE })
    .setIssuer(ISSUER)
    .setAudience(audience)
    .setSubject(principal.name)
    .setJti(crypto.randomUUID())
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + BEARER_LIFE_SECONDS)
    .sign(keys.current.privateKey);
}

interface Verified {
  readonly bearer: VerifiedBearer;
  readonly expiresAtMs: number;
}

/** By audience and token, for as long as its keys are those: a client sends one token with each of many requests. */
const verified = new WeakMap<SigningKeys, Kept<VerifiedBearer>>();

/**
 * A signature is checked once an isolate, the token's time at each request.
 * @returns null for whatever is no token of this registry that holds now; why is not told apart
 */
export async function verifyBearer(
  keys: SigningKeys,
  token: string,
  audience: string,
  nowMs: number,
): Promise<VerifiedBearer | null> {
  const kept = verified.get(keys) ?? new Kept(BEARERS_KEPT_MAX);
  verified.set(keys, kept);
  const key = `${audience} ${token}`;
  const known = kept.get(key, nowMs);
  if (known !== undefined) return known;
  const fresh = await verify(keys, token, audience, nowMs);
  if (fresh === null) return null;
  if (token.length <= BEARER_KEPT_MAX_CHARACTERS) kept.set(key, fresh.bearer, fresh.expiresAtMs);
  return fresh.bearer;
}

async function verify(keys: SigningKeys, token: string, audience: string, nowMs: number): Promise<Verified | null> {
  try {
    const { payload } = await jwtVerify(
      token,
      ({ kid }) => {
        const key = keys.publicKeys.get(kid ?? "");
        if (key === undefined) throw new errors.JWKSNoMatchingKey();
        return key;
      },
      {
        algorithms: ["EdDSA"],
        typ: TYPE,
        issuer: ISSUER,
        audience,
        requiredClaims: ["exp", "iat", "sub"],
        maxTokenAge: BEARER_LIFE_SECONDS,
        currentDate: new Date(nowMs),
      },
    );
    const claims = claimsSchema.parse(payload);
    return {
      bearer: {
        principal: { name: claims.sub, tokenId: claims.tid ?? null },
        rules: claims.rules ?? null,
        proof: claims.proof ?? null,
        issuedAtMs: claims.iat * 1000,
        granted: scopesOf(claims.access, claims.catalog !== undefined),
        refused: scopesOf(claims.refused ?? [], claims.uncatalogued ?? false),
        pushable: (claims.pushable ?? []).filter(isRepositoryName),
        catalog: claims.catalog ?? null,
      },
      expiresAtMs: Math.min(claims.exp, claims.iat + BEARER_LIFE_SECONDS) * 1000,
    };
  } catch (error) {
    if (error instanceof errors.JOSEError || error instanceof z.ZodError) return null;
    throw error;
  }
}

function accessOf(scopes: Scopes) {
  return [...scopes.repositories].map(([name, actions]) => ({
    type: "repository" as const,
    name,
    actions: [...actions],
  }));
}

function scopesOf(access: z.infer<typeof accessSchema>, catalog: boolean): Scopes {
  const repositories = access.flatMap(({ name, actions }) =>
    isRepositoryName(name) ? [[name, new Set<RepositoryRight>(actions)] as const] : [],
  );
  return { repositories: new Map(repositories), catalog };
}
