import type { Context } from "hono";
import { createMiddleware } from "hono/factory";
import type { RepositoryEnv } from "../env.ts";
import { OciError } from "../oci/errors.ts";
import { parseRepositoryName, type RepositoryName } from "../oci/repository.ts";
import { addressOf } from "./address.ts";
import { authenticate, nobody } from "./authenticate.ts";
import { countRequest } from "./brakes.ts";
import { challenge } from "./challenge.ts";
import { refuseForeignPage } from "./foreign-page.ts";
import { noteRefusal } from "./note-refusal.ts";
import type { Caller, Right } from "./policy.ts";
import { anonymous } from "../requester.ts";
import { endpointOfRoute } from "../trace/endpoints.ts";

/**
 * The one middleware that decides. It stands on each route line, where it states the right that the route needs;
 * a `use` on a pattern above the routes would swallow the greedy name in their paths. It decides before anything is
 * looked up, so a repository that the caller may not see and one that is not there are answered alike.
 * @throws OciError NAME_INVALID, UNAUTHORIZED, DENIED
 */
export function access(right: Right) {
  /** of this line, whatever its method: to look for it at each request would cost as much as all the rest of its log line */
  let endpoint: string | null = null;
  return createMiddleware<RepositoryEnv>(async (c, next) => {
    endpoint ??= endpointOfRoute(c);
    c.set("endpoint", endpoint);
    const name = c.req.param("name");
    const repository = name === undefined ? null : parseRepositoryName(name);
    const requestId = c.get("requestId");
    const fromMs = Date.now();
    const address = addressOf(c.req.raw);
    const caller =
      right === "public" ? nobody(c.env, false) : await authenticate(c.env, c.req.raw, { address, requestId });
    const requester = { principal: caller.principal, address, requestId };
    const counted = countRequest(c.env, requester.principal, address);
    if (counted !== undefined) await counted;
    c.get("trace").accessMs = Date.now() - fromMs;
    if (repository !== null) c.set("repository", repository);
    c.set("caller", caller);
    if (!permits(caller, right, repository)) {
      const error = refusal(c, caller, right, repository);
      // A 401 is an errand: its client comes again with what was asked of it.
      if (error.code === "DENIED") c.executionCtx.waitUntil(noteRefusal(c.env.DB, requester, right, repository));
      throw error;
    }
    if (changing.has(right)) refuseForeignPage(c.req.raw, "change anything");
    c.set("requester", requester);
    await next();
  });
}

/** What a browser may be made to send by a page that its user did not mean to trust; to read what answers, it can't. */
const changing: ReadonlySet<Right> = new Set<Right>(["push", "delete", "admin"]);

function permits({ permissions, proof }: Caller, right: Right, repository: RepositoryName | null): boolean {
  switch (right) {
    case "public":
      return true;
    case "login":
      return proof !== "nobody";
    case "catalog":
      // Most clients say who they are only when they are asked: they would take what everybody sees for the whole.
      return proof !== "nobody" && permissions.catalog !== null;
    case "admin":
      return permissions.admin;
    case "pull":
    case "push":
    case "delete":
      return repository !== null && permissions.may(right, repository);
    default:
      return right satisfies never;
  }
}

/**
 * 401 where other credentials, or a token for more, would help: it says where to get it. 403 where they would not.
 */
function refusal(c: Context, caller: Caller, right: Right, repository: RepositoryName | null): OciError {
  const where = { right, ...(repository === null ? {} : { repository }) };
  if (caller.proof === "credentials" || wasRefused(caller, right, repository)) {
    return new OciError("DENIED", { reason: "these credentials do not have the right that this needs", ...where });
  }
  const error = caller.badBearer ? "invalid_token" : caller.proof === "bearer" ? "insufficient_scope" : null;
  return new OciError(
    "UNAUTHORIZED",
    { reason: reasons[error ?? "none"], ...where },
    { headers: { "WWW-Authenticate": challenge(c, right, repository, error) } },
  );
}

/**
 * Asks for a token that names another repository too, where the caller's does not and it is not known that it may not:
 * the source of a mount. Who may not comes again with a token that says so.
 * @throws OciError UNAUTHORIZED
 */
export function requireScopeToPull(c: Context<RepositoryEnv>, source: RepositoryName): void {
  const caller = c.get("caller");
  const repository = c.get("repository");
  if (caller.proof !== "bearer" || caller.permissions.may("pull", source)) return;
  if (wasRefused(caller, "pull", source)) return;
  throw new OciError(
    "UNAUTHORIZED",
    { reason: reasons.insufficient_scope, right: "pull", repository: source },
    { headers: { "WWW-Authenticate": challenge(c, "push", repository, "insufficient_scope", source) } },
  );
}

const reasons = {
  none: "log in, or get a token at the realm of WWW-Authenticate",
  invalid_token:
    "what came in Authorization is no token of this registry, or one that has ended; get another at the realm of WWW-Authenticate",
  insufficient_scope: "the token does not have the scope that this needs; get another at the realm of WWW-Authenticate",
};

/**
 * Whether the bearer's holder asked for just this, and was told no: to send it for another token would go round. Nobody
 * is still to be asked who they are.
 */
function wasRefused({ principal, refused }: Caller, right: Right, repository: RepositoryName | null): boolean {
  if (refused === null || principal.name === anonymous.name) return false;
  if (right === "catalog") return refused.catalog;
  if (right === "admin") return true;
  if (repository === null || right === "login" || right === "public") return false;
  return refused.repositories.get(repository)?.has(right) ?? false;
}
