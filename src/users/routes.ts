import { createRoute } from "@hono/zod-openapi";
import { z } from "zod";
import { access } from "../access/access.ts";
import {
  answer,
  apiRoutes,
  badBody,
  body,
  byAdministrator,
  conflict,
  limitBody,
  notFound,
  refusals,
} from "../api/noun.ts";
import { pageOf, pageSize } from "../api/page.ts";
import { API_PAGE_MAX } from "../limits.ts";
import { OciError } from "../oci/errors.ts";
import { changeUser } from "./change.ts";
import { createUser } from "./create.ts";
import { removeUser } from "./remove.ts";
import { findUser, listUsers } from "./store.ts";
import { newUserSchema, userChangeSchema, userNameSchema, userSchema, usersSchema } from "./user.ts";

export const users = apiRoutes();

const tags = ["users"];
const security = byAdministrator;
const oneUser = z.object({ user: userNameSchema });

/** D1: 1. */
users.openapi(
  createRoute({
    method: "post",
    path: "/api/v1/users",
    middleware: [access("admin"), limitBody],
    summary: "Creates a user",
    tags,
    security,
    request: { body: body(newUserSchema) },
    responses: { 201: answer(userSchema, "the user"), ...refusals, ...conflict, ...badBody },
  }),
  async (c) => {
    const user = c.req.valid("json");
    const created = await createUser(c.env.DB, user, c.var.requester);
    if (typeof created === "string") throw taken(created, user);
    return c.json(created, 201, { Location: `/api/v1/users/${created.name}` });
  },
);

/** D1: 1. */
users.openapi(
  createRoute({
    method: "get",
    path: "/api/v1/users",
    middleware: access("admin"),
    summary: "Lists the users by name; Link leads to the next page",
    tags,
    security,
    request: { query: z.strictObject({ n: pageSize(API_PAGE_MAX), after: z.string().max(64).default("") }) },
    responses: { 200: answer(usersSchema, "a page of users"), ...refusals },
  }),
  async (c) => {
    const { n, after } = c.req.valid("query");
    const found = await listUsers(c.env.DB, after, n + 1);
    const { page, headers } = pageOf(found, n, c.req.path, ({ name }) => ({ after: name }));
    return c.json({ users: page }, 200, headers);
  },
);

/** D1: 1. */
users.openapi(
  createRoute({
    method: "get",
    path: "/api/v1/users/{user}",
    middleware: access("admin"),
    summary: "Shows a user",
    tags,
    security,
    request: { params: oneUser },
    responses: { 200: answer(userSchema, "the user"), ...refusals, ...notFound },
  }),
  async (c) => {
    const { user } = c.req.valid("param");
    const found = await findUser(c.env.DB, user);
    if (found === null) throw noUser(user);
    return c.json(found, 200);
  },
);

/** D1: 1. */
users.openapi(
  createRoute({
    method: "patch",
    path: "/api/v1/users/{user}",
    middleware: [access("admin"), limitBody],
    summary: "Changes what is given of a user: a list of grants takes the place of the one before",
    tags,
    security,
    request: { params: oneUser, body: body(userChangeSchema) },
    responses: { 200: answer(userSchema, "the user as it is now"), ...refusals, ...notFound, ...conflict, ...badBody },
  }),
  async (c) => {
    const { user } = c.req.valid("param");
    const change = c.req.valid("json");
    const changed = await changeUser(c.env.DB, user, change, c.var.requester);
    if (changed === null) throw noUser(user);
    if (changed === "email") throw taken(changed, { name: user, email: change.email });
    return c.json(changed, 200);
  },
);

/** D1: 1. */
users.openapi(
  createRoute({
    method: "delete",
    path: "/api/v1/users/{user}",
    middleware: access("admin"),
    summary: "Deletes a user with its access tokens",
    tags,
    security,
    request: { params: oneUser },
    responses: { 204: { description: "it is gone" }, ...refusals, ...notFound },
  }),
  async (c) => {
    const { user } = c.req.valid("param");
    if (!(await removeUser(c.env.DB, user, c.var.requester))) throw noUser(user);
    return c.body(null, 204);
  },
);

function noUser(user: string): OciError {
  return new OciError("NOT_FOUND", { reason: "there is no such user", user });
}

function taken(what: "name" | "email", { name, email }: { name: string; email?: string | null | undefined }): OciError {
  return what === "name"
    ? new OciError("CONFLICT", { reason: "there is a user of this name already", user: name })
    : new OciError("CONFLICT", { reason: "another user has this e-mail address", email });
}
