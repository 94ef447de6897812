import { type Context, Hono } from "hono";
import { HTTPException } from "hono/http-exception";
import { methodNotAllowed } from "hono/method-not-allowed";
import { accessTokens } from "./access-tokens/routes.ts";
import { BadSecret, secretsOf } from "./access/secrets.ts";
import { bodyRefusal } from "./api/noun.ts";
import { managementApi } from "./api/routes.ts";
import { audit } from "./audit/routes.ts";
import { blobs } from "./blobs/routes.ts";
import { BadSetting, configOf } from "./config.ts";
import type { AppEnv } from "./env.ts";
import { drainBody } from "./http/drain.ts";
import { stampOf } from "./edge/stamp.ts";
import { integrity } from "./integrity/routes.ts";
import { liveness, readiness } from "./health/routes.ts";
import { manifests } from "./manifests/routes.ts";
import { noteRequest } from "./metrics/note-request.ts";
import { metrics } from "./metrics/routes.ts";
import { errorResponse, faultResponse, OciError } from "./oci/errors.ts";
import { referrers } from "./referrers/routes.ts";
import { repositories } from "./repositories/routes.ts";
import { tags } from "./tags/routes.ts";
import { token } from "./token/routes.ts";
import { endpointOfRoute } from "./trace/endpoints.ts";
import { printError } from "./trace/log.ts";
import { newTrace, type Trace, traced, tracedEnv } from "./trace/trace.ts";
import { trustRules } from "./trust-rules/routes.ts";
import { uploads } from "./uploads/routes.ts";
import { users } from "./users/routes.ts";

/** The whole registry. In each routes.ts a route's line states the right that it needs: `access(right)`. */
export const app = new Hono<AppEnv>();

app.use(async (c, next) => {
  const fromMs = Date.now();
  const requestId = crypto.randomUUID();
  const trace = newTrace();
  c.env = tracedEnv(c.env);
  c.set("requestId", requestId);
  c.set("trace", trace);
  const handled = traced(trace, next);
  // A client that goes away ends its request where it stands, and no `finally` runs. So each is let go on to its end: it
  // has a part of what the isolate shares to give back (bodies, reads, logins), and to forget what it has deleted.
  c.executionCtx.waitUntil(handled);
  await handled;
  if (c.get("isStamped") !== true) {
    // Not c.header: on an answer that stands it makes a new one each time, and a stream of its text.
    for (const [name, value] of Object.entries(stampOf(requestId))) c.res.headers.set(name, value);
  }
  tell(c, trace, Date.now() - fromMs);
  await drainBody(c.req.raw);
});

app.route("/", liveness); //              GET /healthz

/**
 * A Worker that is deployed without its secrets could not tell callers apart, and one whose settings can't be read does
 * not know what is public: it serves nothing. Where the limit of the plan is known, what is over it is refused first.
 */
app.use(async (c, next) => {
  secretsOf(c.env);
  const { MAX_BODY_BYTES } = configOf(c.env);
  // Cloudflare's own 413 is a page that no client shows.
  if (MAX_BODY_BYTES > 0 && c.req.raw.body !== null) refuseLargeBody(c, MAX_BODY_BYTES);
  await next();
});

app.use(
  methodNotAllowed({
    app,
    onMethodNotAllowed: (c, methods) => {
      const allow = methods.join(", ");
      const detail = { reason: `this path takes ${allow}`, method: c.req.method };
      return errorResponse(
        new OciError("UNSUPPORTED", detail, { status: 405, headers: { Allow: allow } }),
        c.get("requestId"),
      );
    },
  }),
);

app.route("/", repositories); // end-1   GET /v2/                           GET /v2/_catalog
app.route("/", uploads); //      end-4   POST /v2/<name>/blobs/uploads/     end-11 with ?mount=
//                               end-5   PATCH, end-6 PUT, end-13 GET, end-14 DELETE /v2/<name>/blobs/uploads/<upload>
app.route("/", blobs); //        end-2   GET /v2/<name>/blobs/<digest>      end-10 DELETE
app.route("/", manifests); //    end-3   GET /v2/<name>/manifests/<ref>     end-7 PUT, end-9 DELETE
app.route("/", tags); //         end-8   GET /v2/<name>/tags/list
app.route("/", referrers); //    end-12  GET /v2/<name>/referrers/<digest>
app.route("/", token); //                GET, POST /token
app.route("/", readiness); //            GET /readyz
app.route("/", metrics); //              GET /metrics

/** What administrators work with; GET /api/v1/openapi.json describes all of it, GET /api/v1/whoami is everybody's. */
app.route(
  "/",
  managementApi([
    users, //        POST, GET /api/v1/users           GET, PATCH, DELETE /api/v1/users/<user>
    accessTokens, // POST, GET /api/v1/users/<user>/tokens         DELETE /api/v1/users/<user>/tokens/<token>
    trustRules, //   POST, GET /api/v1/trust-rules     GET, PATCH, DELETE /api/v1/trust-rules/<rule>
    audit, //        GET /api/v1/audit
    integrity, //    GET /api/v1/integrity             POST .../verify     GET, POST /api/v1/index/exports      POST .../rebuild
  ]),
);

app.notFound((c) =>
  errorResponse(
    new OciError("UNSUPPORTED", {
      reason: c.req.path.startsWith("/api/")
        ? "no such endpoint; GET /api/v1/openapi.json lists those that there are"
        : "no such endpoint; see the endpoints of the OCI distribution specification",
      path: c.req.path,
    }),
    c.get("requestId"),
  ),
);

app.onError((error, c) => {
  const requestId = c.get("requestId");
  if (error instanceof OciError) return errorResponse(error, requestId);
  if (error instanceof HTTPException) return errorResponse(bodyRefusal(error), requestId);
  if (error instanceof BadSecret) {
    const command = `npx wrangler secret put ${error.secret}`;
    return errorResponse(unready(`its secret ${error.secret} ${error.reason}`, command), requestId);
  }
  if (error instanceof BadSetting) {
    const { setting, reason } = error;
    return errorResponse(unready(`its setting ${setting} ${reason}`, "npx wrangler deploy"), requestId);
  }
  printError({ requestId, method: c.req.method, path: c.req.path, error: error.stack ?? String(error) });
  return faultResponse(requestId);
});

/** @throws OciError BLOB_UPLOAD_INVALID (413) */
function refuseLargeBody(c: Context, mostBytes: number): void {
  const length = lengthOf(c.req.raw.headers);
  if (length === null || length <= mostBytes) return;
  const { origin } = new URL(c.req.url);
  const reason =
    `a request may have at most ${String(mostBytes)} bytes here; push through \`npx moorage relay ${origin}\`, ` +
    "which sends large layers in pieces, or upload in chunks";
  throw new OciError("BLOB_UPLOAD_INVALID", { reason, contentLength: length, mostBytes }, { status: 413 });
}

function tell(c: Context<AppEnv>, trace: Trace, ms: number): void {
  const { status, headers } = c.res;
  const caller = c.get("caller");
  const line = {
    requestId: c.get("requestId"),
    endpoint: c.get("endpoint") ?? endpointOfRoute(c),
    method: c.req.method,
    repository: c.get("repository") ?? null,
    principal: caller?.principal.name ?? null,
    status,
    bytes: c.req.method === "HEAD" ? 0 : lengthOf(headers),
    receivedBytes: c.req.raw.body === null ? null : lengthOf(c.req.raw.headers),
    ms,
  };
  const isAskedFor = caller?.permissions.admin === true && c.req.raw.headers.has("moorage-debug");
  const timing = noteRequest(c.env, c.executionCtx, line, trace, isAskedFor);
  if (timing !== null) headers.set("Server-Timing", timing);
}

function lengthOf(headers: Headers): number | null {
  const length = headers.get("content-length");
  return length === null ? null : Number(length);
}

/** Said to whoever asks: nobody can log in to be told more. Neither a secret's value nor a setting's is in it. */
function unready(why: string, command: string): OciError {
  return new OciError("UNSUPPORTED", { reason: `this registry serves nothing: ${why}`, command }, { status: 503 });
}
