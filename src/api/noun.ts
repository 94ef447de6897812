import { OpenAPIHono } from "@hono/zod-openapi";
import { bodyLimit } from "hono/body-limit";
import type { HTTPException } from "hono/http-exception";
import { z } from "zod";
import type { RepositoryEnv } from "../env.ts";
import { FORM_MAX_BYTES } from "../limits.ts";
import { OciError, zodReason } from "../oci/errors.ts";

/** What the routes of each noun of the management API are made with. */

/** A noun's routes. What a schema refuses is an INVALID_REQUEST that says which field. */
export function apiRoutes(): OpenAPIHono<RepositoryEnv> {
  return new OpenAPIHono<RepositoryEnv>({
    defaultHook: (result) => {
      if (!result.success) {
        throw new OciError("INVALID_REQUEST", { reason: zodReason(result.error), in: result.target });
      }
    },
  });
}

/** What the library throws before a schema sees the body: it is no JSON, or says that it is something else. */
export function bodyRefusal({ status }: HTTPException): OciError {
  const reason = status === 415 ? "the body is JSON: send Content-Type: application/json" : "the body is no JSON";
  return new OciError("INVALID_REQUEST", reason, { status });
}

export const limitBody = bodyLimit({
  maxSize: FORM_MAX_BYTES,
  onError: () => {
    throw new OciError("INVALID_REQUEST", `the body has at most ${String(FORM_MAX_BYTES)} bytes`, { status: 413 });
  },
});

const errorsSchema = z
  .object({
    errors: z.array(
      z.object({
        code: z.string(),
        message: z.string(),
        detail: z.looseObject({ reason: z.string(), requestId: z.string() }),
      }),
    ),
  })
  .meta({ id: "Errors", description: "the error envelope of the OCI distribution specification" });

/** A JSON body, in the form of a route's definition. */
export function body<T extends z.ZodType>(schema: T) {
  return { required: true, content: { "application/json": { schema } } } as const;
}

/** A JSON answer, in the form of a route's definition. */
export function answer<T extends z.ZodType>(schema: T, description: string) {
  return { description, content: { "application/json": { schema } } } as const;
}

/** What every route may answer besides. */
export const refusals = {
  400: answer(errorsSchema, "the request does not have this form"),
  401: answer(errorsSchema, "no credentials, or none that hold"),
  403: answer(errorsSchema, "these credentials do not have the right"),
  429: answer(errorsSchema, "too many requests; Retry-After says when to come again"),
} as const;

export const notFound = { 404: answer(errorsSchema, "there is no such thing") } as const;
export const conflict = { 409: answer(errorsSchema, "another one has this already") } as const;
export const badBody = {
  413: answer(errorsSchema, `the body has more than ${String(FORM_MAX_BYTES)} bytes`),
  415: answer(errorsSchema, "the body is not application/json"),
} as const;

/** The security of a route, in the form of its definition: the administrator's password. */
export const byAdministrator = [{ basic: [] }];
