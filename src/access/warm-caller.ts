import { configOf } from "../config.ts";
import { BEARER_MAX_CHARACTERS } from "../limits.ts";
import type { RepositoryName } from "../oci/repository.ts";
import type { Requester } from "../requester.ts";
import { isAccessToken } from "./access-token.ts";
import { addressOf } from "./address.ts";
import { knownBearer, nobody } from "./authenticate.ts";
import { countRequest } from "./brakes.ts";
import type { Caller } from "./policy.ts";
import { secretsOf } from "./secrets.ts";

/** A request for something of the repository; the audience is the host and port that it was sent to. */
export interface WarmRequest {
  readonly request: Request;
  readonly audience: string;
  readonly repository: RepositoryName;
  readonly requestId: string;
}

/** As clients send it; another way to write it is for `access` to read. */
const bearer = /^Bearer (\S+)$/;

/**
 * Who may pull from the repository and may not push to it, and can be told without asking anybody: nobody, or a bearer of
 * /token. Their request is counted.
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
  const token = bearer.exec(authorization)?.[1];
  if (token === undefined || token.length > BEARER_MAX_CHARACTERS || isAccessToken(token)) return null;
  return knownBearer(env, token, request.audience, Date.now()).then(async (caller) =>
    caller === null ? null : countedPuller(env, request, caller),
  );
}

function countedPuller(
  env: Env,
  { request, repository, requestId }: WarmRequest,
  { principal, permissions }: Caller,
): Requester | null | Promise<Requester> {
  if (!permissions.may("pull", repository) || permissions.pushes(repository)) return null;
  const requester = { principal, address: addressOf(request), requestId };
  return countRequest(env, principal, requester.address)?.then(() => requester) ?? requester;
}
