import { createRoute } from "@hono/zod-openapi";
import { z } from "zod";
import { access } from "../access/access.ts";
import { answer, apiRoutes, badBody, body, byAdministrator, limitBody, notFound, refusals } from "../api/noun.ts";
import { pageOf, pageSize } from "../api/page.ts";
import { API_PAGE_MAX } from "../limits.ts";
import { OciError } from "../oci/errors.ts";
import { userNameSchema } from "../users/user.ts";
import { createToken } from "./create.ts";
import { revokeAccessToken } from "./revoke.ts";
import { listTokens } from "./store.ts";
import { accessTokensSchema, createdTokenSchema, newTokenSchema, tokenIdSchema } from "./token.ts";

export const accessTokens = apiRoutes();

const tags = ["access tokens"];
const security = byAdministrator;
const oneUser = z.object({ user: userNameSchema });

/** D1: 1. */
accessTokens.openapi(
  createRoute({
    method: "post",
    path: "/api/v1/users/{user}/tokens",
    middleware: [access("admin"), limitBody],
    summary: "Makes an access token of a user; this answer alone has it",
    tags,
    security,
    request: { params: oneUser, body: body(newTokenSchema) },
    responses: { 201: answer(createdTokenSchema, "the token"), ...refusals, ...notFound, ...badBody },
  }),
  async (c) => {
    const { user } = c.req.valid("param");
    const created = await createToken(c.env, user, c.req.valid("json"), c.var.requester);
    if (created === null) throw new OciError("NOT_FOUND", { reason: "there is no such user", user });
    return c.json(created, 201);
  },
);

/** D1: 1. */
accessTokens.openapi(
  createRoute({
    method: "get",
    path: "/api/v1/users/{user}/tokens",
    middleware: access("admin"),
    summary: "Lists the access tokens of a user, the oldest first; Link leads to the next page",
    tags,
    security,
    request: {
      params: oneUser,
      query: z.strictObject({ n: pageSize(API_PAGE_MAX), after: tokenIdSchema.optional() }),
    },
    responses: { 200: answer(accessTokensSchema, "a page of tokens"), ...refusals, ...notFound },
  }),
  async (c) => {
    const { user } = c.req.valid("param");
    const { n, after = "" } = c.req.valid("query");
    const found = await listTokens(c.env.DB, user, after, n + 1);
    if (found === null) throw new OciError("NOT_FOUND", { reason: "there is no such user", user });
    const { page, headers } = pageOf(found, n, c.req.path, ({ id }) => ({ after: id }));
    return c.json({ tokens: page }, 200, headers);
  },
);

/** D1: 1. */
accessTokens.openapi(
  createRoute({
    method: "delete",
    path: "/api/v1/users/{user}/tokens/{token}",
    middleware: access("admin"),
    summary: "Revokes an access token; it stays in the list",
    tags,
    security,
    request: { params: z.object({ user: userNameSchema, token: tokenIdSchema }) },
    responses: { 204: { description: "it is revoked" }, ...refusals, ...notFound },
  }),
  async (c) => {
    const { user, token } = c.req.valid("param");
    const found = await revokeAccessToken(c.env.DB, user, token, c.var.requester);
    if (!found) throw new OciError("NOT_FOUND", { reason: "this user has no such token", user, token });
    return c.body(null, 204);
  },
);
