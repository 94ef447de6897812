import { warmCaller } from "./access/warm-caller.ts";
import { notePull } from "./audit/pulls.ts";
import { blobHeaders, manifestHeaders } from "./edge/content-headers.ts";
import { peek, type Peeked } from "./edge/edge.ts";
import type { HeldKind } from "./edge/held.ts";
import { stampOf } from "./edge/stamp.ts";
import { noteRequest } from "./metrics/note-request.ts";
import { type Digest, isDigest } from "./oci/digest.ts";
import { isRepositoryName, type RepositoryName } from "./oci/repository.ts";
import type { Requester } from "./requester.ts";
import { newTrace, tracedEnv } from "./trace/trace.ts";

/** What is asked for is all in the path, and in this form; any other goes the way of all requests. */
const route = /^https?:\/\/([^/]+)\/v2\/([a-z0-9._/-]+)\/(manifests|blobs)\/([a-z0-9]+:[0-9a-f]+)$/;

/** Of these no answer from memory takes account. */
const otherHeaders = ["if-none-match", "range", "moorage-debug"];

/**
 * A pull that this isolate's memory answers, by digest and whole: most of them, and a third of their time went into the
 * way of all requests (routes, middleware, bindings that are counted). What is said and noted is the same, by the same
 * functions; whatever is not plain is left to the application: a refusal, a login that is to be looked up, a condition,
 * what is not in memory.
 * D1: 0, R2: 0.
 * @returns null where it is not such a pull: nothing was done yet
 */
export function warmPull(
  request: Request,
  rawEnv: Env,
  context: ExecutionContext,
): Response | null | Promise<Response | null> {
  const { method, headers } = request;
  if ((method !== "GET" && method !== "HEAD") || request.body !== null) return null;
  const [, audience = "", repository = "", kind, digest = ""] = route.exec(request.url) ?? [];
  if ((kind !== "manifests" && kind !== "blobs") || !isRepositoryName(repository) || !isDigest(digest)) return null;
  const fromMs = Date.now();
  const known = peek(kind, repository, digest, fromMs);
  if (known === null || (method === "GET" && known.body === null)) return null;
  if (otherHeaders.some((name) => headers.has(name))) return null;
  const env = tracedEnv(rawEnv);
  const requestId = crypto.randomUUID();
  const pull: WarmPull = { env, context, request, requestId, repository, kind, digest, fromMs, ...known };
  const requester = callerOrNull(env, { request, audience, repository, requestId });
  if (requester instanceof Promise) return requester.then((late) => (late === null ? null : answer(pull, late)));
  return requester === null ? null : answer(pull, requester);
}

/** What is refused here is refused by the application too, which says why. */
function callerOrNull(...of: Parameters<typeof warmCaller>): ReturnType<typeof warmCaller> {
  try {
    const requester = warmCaller(...of);
    return requester instanceof Promise ? requester.catch(() => null) : requester;
  } catch {
    return null;
  }
}

interface WarmPull extends Peeked {
  readonly env: Env;
  readonly context: ExecutionContext;
  readonly request: Request;
  readonly requestId: string;
  readonly repository: RepositoryName;
  readonly kind: HeldKind;
  readonly digest: Digest;
  /** ms since 1970, when it came */
  readonly fromMs: number;
}

function answer(pull: WarmPull, requester: Requester): Response {
  const { env, context, request, requestId, repository, kind, digest, held, untilMs, body, fromMs } = pull;
  const { method, headers } = request;
  const { size, mediaType } = held;
  const isBlob = kind === "blobs";
  const trace = newTrace();
  trace.cache = "memory";
  if (method === "GET") {
    const userAgent = headers.get("user-agent") ?? "";
    const pulled = { repository, reference: null, digest, size, userAgent, cache: "memory" } as const;
    notePull(env, context, requester, { kind: isBlob ? "blob" : "manifest", ...pulled });
  }
  const line = {
    requestId,
    endpoint: isBlob ? "end-2" : "end-3",
    method,
    repository,
    principal: requester.principal.name,
    status: 200,
    bytes: method === "HEAD" ? 0 : size,
    receivedBytes: null,
    ms: Date.now() - fromMs,
  };
  const timing = noteRequest(env, context, line, trace, false);
  return new Response(method === "GET" ? body : null, {
    headers: {
      ...(isBlob
        ? blobHeaders(env, repository, digest, size, untilMs - fromMs)
        : manifestHeaders(env, repository, digest, { mediaType, size }, untilMs - fromMs)),
      ...stampOf(requestId),
      ...(timing === null ? {} : { "Server-Timing": timing }),
    },
  });
}
