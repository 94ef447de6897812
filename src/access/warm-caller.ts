import { configOf } from "../config.ts";
import type { RepositoryName } from "../oci/repository.ts";
import type { Requester } from "../requester.ts";
import { isAccessToken } from "./access-token.ts";
import { addressOf } from "./address.ts";
import { knownBearer, nobody } from "./authenticate.ts";
import { parseAuthorization } from "./authorization-header.ts";
import { countRequest } from "./brakes.ts";
import { knownHolder } from "./login.ts";
import { type Caller, permissionsOf } from "./policy.ts";
import { secretsOf } from "./secrets.ts";

/** A request for something of the repository; the audience is the host and port that it was sent to. */
export interface WarmRequest {
  readonly request: Request;
  readonly audience: string;
  readonly repository: RepositoryName;
  readonly requestId: string;
}

/**
 * Who may pull from the repository and may not push to it, and can be told without asking anybody: nobody, a bearer of
 * /token, or an access token that was looked up lately. Their request is counted.
 * @returns null for all others, of whom nothing was counted or noted: `access` decides about them. No promise where
 * none is needed: to wait for one costs a tenth of the whole answer
 * @throws OciError TOOMANYREQUESTS
 */
export function warmCaller(env: Env, request: WarmRequest): Requester | null | Promise<Requester | null> {
  secretsOf(env);
  const authorization = request.request.headers.get("authorization");
  if (authorization === null) {
    return configOf(env).ACCESS_TEAM_DOMAIN === null ? countedPuller(env, request, nobody(env, false)) : null;
  }
  const credentials = parseAuthorization(authorization);
  const nowMs = Date.now();
  switch (credentials.kind) {
    case "basic":
      return holderOf(env, request, credentials.user, credentials.password, nowMs);
    case "bearer": {
      const { token } = credentials;
      if (isAccessToken(token)) return holderOf(env, request, null, token, nowMs);
      return knownBearer(env, token, request.audience, nowMs).then(async (caller) =>
        caller === null ? null : countedPuller(env, request, caller),
      );
    }
    case "none":
    case "malformed":
      return null;
    default:
      return credentials satisfies never;
  }
}

function holderOf(
  env: Env,
  request: WarmRequest,
  user: string | null,
  key: string,
  nowMs: number,
): Requester | null | Promise<Requester> {
  const authority = isAccessToken(key) ? knownHolder(env, user, key, nowMs) : null;
  if (authority === null) return null;
  const permissions = permissionsOf(authority, configOf(env).ANONYMOUS_PULL);
  return countedPuller(env, request, { principal: authority.principal, permissions });
}

function countedPuller(
  env: Env,
  { request, repository, requestId }: WarmRequest,
  { principal, permissions }: Pick<Caller, "principal" | "permissions">,
): Requester | null | Promise<Requester> {
  if (!permissions.may("pull", repository) || permissions.pushes(repository)) return null;
  const requester = { principal, address: addressOf(request), requestId };
  return countRequest(env, principal, requester.address)?.then(() => requester) ?? requester;
}
