import { configOf } from "../config.ts";
import { isAccessToken } from "./access-token.ts";
import { parseAuthorization } from "./authorization-header.ts";
import { type VerifiedBearer, verifyBearer } from "./bearer.ts";
import { attemptLogin } from "./brakes.ts";
import { loginWithCloudflareAccess } from "./cloudflare-access.ts";
import { isIdToken } from "./id-token.ts";
import { loginWithKey, loginWithToken, type Login } from "./login.ts";
import {
  anonymousPermissions,
  type Authority,
  type Caller,
  permissionsOf,
  permissionsOfBoth,
  permissionsOfScopes,
} from "./policy.ts";
import { anonymous, type Requester } from "../requester.ts";
import { refuseLogin } from "./refuse-login.ts";
import { signingKeys } from "./signing-keys.ts";
import { knownStanding, type Standing, standingOf } from "./standing.ts";
import { loginWithIdToken } from "./workload-identity.ts";

/**
 * The caller of a request. A bearer that does not hold makes nobody of it: Homebrew sends `Bearer QQ==` for public
 * content. A password that does not is refused, so that nobody thinks to be logged in.
 * D1: 0; 1 for an access token, or an issuer of tokens, that this isolate has not seen lately, and for a bearer that is not
 * new, whose holder it has not asked after lately; 1 for a login that fails.
 * @throws OciError UNAUTHORIZED, TOOMANYREQUESTS
 */
export async function authenticate(
  env: Env,
  request: Request,
  { address, requestId }: Pick<Requester, "address" | "requestId">,
): Promise<Caller> {
  const config = configOf(env);
  const publicPatterns = config.ANONYMOUS_PULL;
  const nowMs = Date.now();
  const attempt = { address, nowMs, lookup: "kept" } as const;
  const known = async (user: string, login: Login): Promise<Caller> => {
    if (login.kind === "unknown") {
      throw await refuseLogin(env, { principal: anonymous, address, requestId }, user, login);
    }
    return callerOf(login.authority, publicPatterns);
  };
  const header = request.headers.get("authorization");
  if (header === null && config.ACCESS_TEAM_DOMAIN === null) return nobody(env, false);
  const credentials = parseAuthorization(header ?? undefined);
  switch (credentials.kind) {
    case "none": {
      // A browser's way: a client that says who it is means that, even if it says nobody.
      const authority = header === null ? await loginWithCloudflareAccess(env, request.headers, nowMs) : null;
      return authority === null ? nobody(env, false) : callerOf(authority, publicPatterns);
    }
    case "malformed":
      return nobody(env, true);
    case "basic": {
      const { user, password } = credentials;
      const login = isIdToken(password)
        ? await attemptLogin(address, nowMs, async () => loginWithIdToken(env, password, nowMs))
        : await loginWithKey(env, user, password, attempt);
      return known(user, login);
    }
    case "bearer": {
      if (isAccessToken(credentials.token)) {
        return known("", await loginWithToken(env, credentials.token, attempt));
      }
      return authenticateBearer(env, credentials.token, new URL(request.url).host, nowMs);
    }
    default:
      return credentials satisfies never;
  }
}

/**
 * Whose token of /token it is; nobody, where it does not hold.
 * D1: 0; 1 for one given longer ago than an isolate knows rights for, whose holder this one has not asked after as lately.
 */
async function authenticateBearer(env: Env, token: string, audience: string, nowMs: number): Promise<Caller> {
  const bearer = await verifyBearer(await signingKeys(env), token, audience, nowMs);
  if (bearer === null) return nobody(env, true);
  return callerOfBearer(env, bearer, knownStanding(env, bearer, nowMs) ?? (await standingOf(env, bearer, nowMs)));
}

/**
 * The same without D1.
 * @param audience host and port that the request was sent to
 * @returns null where D1 is to be asked
 */
export async function knownBearer(env: Env, token: string, audience: string, nowMs: number): Promise<Caller | null> {
  const bearer = await verifyBearer(await signingKeys(env), token, audience, nowMs);
  if (bearer === null) return nobody(env, true);
  const standing = knownStanding(env, bearer, nowMs);
  return standing === undefined ? null : callerOfBearer(env, bearer, standing);
}

function callerOfBearer(env: Env, bearer: VerifiedBearer, standing: Standing): Caller {
  if (standing === "ended") return nobody(env, true);
  const { principal, granted, refused } = bearer;
  const publicPatterns = configOf(env).ANONYMOUS_PULL;
  const given = permissionsOfScopes(bearer, publicPatterns);
  const permissions =
    standing === "as given" ? given : permissionsOfBoth(given, permissionsOf(standing, publicPatterns));
  return { principal, permissions, proof: "bearer", badBearer: false, authority: null, granted, refused };
}

/** Of one who says each time who it is, and may all that is granted to it. */
function callerOf(authority: Authority, publicPatterns: readonly string[]): Caller {
  const permissions = permissionsOf(authority, publicPatterns);
  const { principal } = authority;
  return { principal, permissions, proof: "credentials", badBearer: false, authority, granted: null, refused: null };
}

export function nobody(env: Env, badBearer: boolean): Caller {
  return {
    principal: anonymous,
    permissions: anonymousPermissions(configOf(env).ANONYMOUS_PULL),
    proof: "nobody",
    badBearer,
    authority: null,
    granted: null,
    refused: null,
  };
}
