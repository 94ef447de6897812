import { Hono } from "hono";
import { methodNotAllowed } from "hono/method-not-allowed";
import { blobs } from "./blobs/routes.ts";
import type { AppEnv } from "./env.ts";
import { drainBody } from "./http/drain.ts";
import { manifests } from "./manifests/routes.ts";
import { errorResponse, faultResponse, OciError } from "./oci/errors.ts";
import { referrers } from "./referrers/routes.ts";
import { repositories } from "./repositories/routes.ts";
import { tags } from "./tags/routes.ts";
import { uploads } from "./uploads/routes.ts";

/** The whole registry. In each routes.ts a route's line states the right that it needs: `access("pull" | "push" | "delete")`. */
export const app = new Hono<AppEnv>();

app.use(async (c, next) => {
  c.set("requestId", crypto.randomUUID());
  const handled = next();
  // A client that goes away ends its request where it stands. One that brings bytes is let go on to its end: it has
  // a part of the isolate's body budget to give back, and what came before the break to put in order.
  if (c.req.raw.body !== null) c.executionCtx.waitUntil(handled);
  await handled;
  // Not c.header: on an answer that stands it makes a new one each time, and a stream of its text.
  c.res.headers.set("Docker-Distribution-API-Version", "registry/2.0");
  c.res.headers.set("X-Request-Id", c.var.requestId);
  await drainBody(c.req.raw);
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

app.notFound((c) =>
  errorResponse(
    new OciError("UNSUPPORTED", {
      reason: "no such endpoint; see the endpoints of the OCI distribution specification",
      path: c.req.path,
    }),
    c.get("requestId"),
  ),
);

app.onError((error, c) => {
  const requestId = c.get("requestId");
  if (error instanceof OciError) return errorResponse(error, requestId);
  console.error(
    JSON.stringify({ requestId, method: c.req.method, path: c.req.path, error: error.stack ?? String(error) }),
  );
  return faultResponse(requestId);
});
