import { createRoute } from "@hono/zod-openapi";
import { z } from "zod";
import { access } from "../access/access.ts";
import { ruleNameSchema } from "../access/trust-rule.ts";
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
import { API_PAGE_MAX, TRUST_RULES_MAX } from "../limits.ts";
import { OciError } from "../oci/errors.ts";
import { changeRule } from "./change.ts";
import { createRule } from "./create.ts";
import { removeRule } from "./remove.ts";
import { newRuleSchema, ruleChangeSchema, ruleSchema, rulesSchema } from "./rule.ts";
import { findRule, listRules } from "./store.ts";

/** Whose OpenID Connect tokens stand for what. */
export const trustRules = apiRoutes();

const tags = ["trust rules"];
const security = byAdministrator;
const oneRule = z.object({ rule: ruleNameSchema });

/** D1: 1. */
trustRules.openapi(
  createRoute({
    method: "post",
    path: "/api/v1/trust-rules",
    middleware: [access("admin"), limitBody],
    summary: "Creates a trust rule: the issuer's tokens of this audience and these claims may do what it grants",
    tags,
    security,
    request: { body: body(newRuleSchema) },
    responses: { 201: answer(ruleSchema, "the rule"), ...refusals, ...conflict, ...badBody },
  }),
  async (c) => {
    const rule = c.req.valid("json");
    const created = await createRule(c.env.DB, rule, c.var.requester);
    if (typeof created === "string") throw notMade(created, rule.name);
    return c.json(created, 201, { Location: `/api/v1/trust-rules/${created.name}` });
  },
);

/** D1: 1. */
trustRules.openapi(
  createRoute({
    method: "get",
    path: "/api/v1/trust-rules",
    middleware: access("admin"),
    summary: "Lists the trust rules by name; Link leads to the next page",
    tags,
    security,
    request: { query: z.strictObject({ n: pageSize(API_PAGE_MAX), after: z.string().max(64).default("") }) },
    responses: { 200: answer(rulesSchema, "a page of rules"), ...refusals },
  }),
  async (c) => {
    const { n, after } = c.req.valid("query");
    const found = await listRules(c.env.DB, after, n + 1);
    const { page, headers } = pageOf(found, n, c.req.path, ({ name }) => ({ after: name }));
    return c.json({ rules: page }, 200, headers);
  },
);

/** D1: 1. */
trustRules.openapi(
  createRoute({
    method: "get",
    path: "/api/v1/trust-rules/{rule}",
    middleware: access("admin"),
    summary: "Shows a trust rule",
    tags,
    security,
    request: { params: oneRule },
    responses: { 200: answer(ruleSchema, "the rule"), ...refusals, ...notFound },
  }),
  async (c) => {
    const { rule } = c.req.valid("param");
    const found = await findRule(c.env.DB, rule);
    if (found === null) throw noRule(rule);
    return c.json(found, 200);
  },
);

/** D1: 1 or 2. */
trustRules.openapi(
  createRoute({
    method: "patch",
    path: "/api/v1/trust-rules/{rule}",
    middleware: [access("admin"), limitBody],
    summary: "Changes what is given of a trust rule: conditions and grants take the place of those before",
    tags,
    security,
    request: { params: oneRule, body: body(ruleChangeSchema) },
    responses: { 200: answer(ruleSchema, "the rule as it is now"), ...refusals, ...notFound, ...badBody },
  }),
  async (c) => {
    const { rule } = c.req.valid("param");
    const changed = await changeRule(c.env.DB, rule, c.req.valid("json"), c.var.requester);
    if (changed === null) throw noRule(rule);
    return c.json(changed, 200);
  },
);

/** D1: 1. */
trustRules.openapi(
  createRoute({
    method: "delete",
    path: "/api/v1/trust-rules/{rule}",
    middleware: access("admin"),
    summary: "Deletes a trust rule",
    tags,
    security,
    request: { params: oneRule },
    responses: { 204: { description: "it is gone" }, ...refusals, ...notFound },
  }),
  async (c) => {
    const { rule } = c.req.valid("param");
    if (!(await removeRule(c.env.DB, rule, c.var.requester))) throw noRule(rule);
    return c.body(null, 204);
  },
);

function noRule(rule: string): OciError {
  return new OciError("NOT_FOUND", { reason: "there is no such trust rule", rule });
}

function notMade(why: "name" | "many", rule: string): OciError {
  const reason =
    why === "name"
      ? "there is a trust rule of this name already"
      : `there are ${String(TRUST_RULES_MAX)} trust rules already`;
  return new OciError("CONFLICT", { reason, rule });
}
