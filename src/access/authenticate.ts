import { configOf } from "../config.ts";
import { isAccessToken } from "./access-token.ts";
import { addressOf } from "./address.ts";
import { parseAuthorization } from "./authorization-header.ts";
import { verifyBearer } from "./bearer.ts";
import { attemptLogin } from "./brakes.ts";
import { loginWithCloudflareAccess } from "./cloudflare-access.ts";
import { isIdToken } from "./id-token.ts";
import { loginWithKey, loginWithToken, type Login } from "./login.ts";
import { anonymousPermissions, type Authority, type Caller, permissionsOf, permissionsOfScopes } from "./policy.ts";
import { anonymous } from "../requester.ts";
import { refuseLogin } from "./refuse-login.ts";
import { signingKeys } from "./signing-keys.ts";
import { loginWithIdToken } from "./workload-identity.ts";

/**
 * The caller of a request. A bearer that does not hold makes nobody of it: Homebrew sends `Bearer QQ==` for public
 * content. A password that does not is refused, so that nobody thinks to be logged in.
 * D1: 0; 1 for an access token, or an issuer of tokens, that this isolate has not seen lately; 1 for a login that fails.
 * @throws OciError UNAUTHORIZED, TOOMANYREQUESTS
 */
export async function authenticate(env: Env, request: Request, requestId: string): Promise<Caller> {
  const publicPatterns = configOf(env).ANONYMOUS_PULL;
  const address = addressOf(request);
  const nowMs = Date.now();
  const attempt = { address, nowMs, lookup: "kept" } as const;
  const known = async (user: string, login: Login): Promise<Caller> => {
    if (login.kind === "unknown") {
      throw await refuseLogin(env, { principal: anonymous, address, requestId }, user, login);
    }
    return callerOf(login.authority, publicPatterns);
  };
  const credentials = parseAuthorization(request.headers.get("authorization") ?? undefined);
  switch (credentials.kind) {
    case "none": {
      // A browser's way: a client that says who it is means that, even if it says nobody.
      const authority = request.headers.has("authorization")
        ? null
        : await loginWithCloudflareAccess(env, request.headers, nowMs);
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
      const claims = await verifyBearer(await signingKeys(env), credentials.token, new URL(request.url).host, nowMs);
      if (claims === null) return nobody(env, true);
      const permissions = permissionsOfScopes(claims.granted, claims.catalog, publicPatterns);
      const { principal, granted, refused } = claims;
      return { principal, permissions, proof: "bearer", badBearer: false, authority: null, granted, refused };
    }
    default:
      return credentials satisfies never;
  }
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
