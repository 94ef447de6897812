import { createRoute, type OpenAPIHono } from "@hono/zod-openapi";
import { z } from "zod";
import { access } from "../access/access.ts";
import { formatGrant } from "../access/grants.ts";
import type { Caller } from "../access/policy.ts";
import { catalogScope, repositoryScope } from "../access/scope.ts";
import type { RepositoryEnv } from "../env.ts";
import { type Identity, identitySchema } from "./identity.ts";
import { answer, apiRoutes, refusals } from "./noun.ts";

/**
 * The management API: the routes of its nouns, who am I, and the document that is made of the schemas by which all of
 * them check.
 */
export function managementApi(nouns: readonly OpenAPIHono<RepositoryEnv>[]): OpenAPIHono<RepositoryEnv> {
  const api = apiRoutes();
  api.use("/api/v1/*", async (c, next) => {
    await next();
    // Tokens, addresses, who may what: nothing for a cache.
    c.res.headers.set("Cache-Control", "no-store");
  });
  api.openAPIRegistry.registerComponent("securitySchemes", "basic", { type: "http", scheme: "basic" });
  api.openAPIRegistry.registerComponent("securitySchemes", "bearer", { type: "http", scheme: "bearer" });
  for (const noun of nouns) api.route("/", noun);

  api.openapi(whoami, (c) => c.json(identityOf(c.var.caller), 200));

  let document: Readonly<Record<string, unknown>> | null = null;
  /** No operation. */
  api.openapi(
    createRoute({
      method: "get",
      path: "/api/v1/openapi.json",
      middleware: access("public"),
      summary: "This document",
      tags: ["about"],
      security: [],
      responses: { 200: answer(z.record(z.string(), z.unknown()), "OpenAPI 3.1") },
    }),
    (c) => {
      document ??= openApiOf(api);
      return c.json(document, 200);
    },
  );
  return api;
}

function openApiOf(api: OpenAPIHono<RepositoryEnv>): Readonly<Record<string, unknown>> {
  return {
    ...api.getOpenAPI31Document({
      openapi: "3.1.1",
      info: {
        title: "Moorage",
        version: "1",
        description: "Who may do what in an OCI registry, and who did what",
        license: { name: "Apache-2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
      },
      servers: [{ url: "/" }],
    }),
  };
}

/** D1: 0. */
const whoami = createRoute({
  method: "get",
  path: "/api/v1/whoami",
  middleware: access("login"),
  summary: "Tells whom the credentials stand for, and what they may do",
  tags: ["about"],
  security: [{ basic: [] }, { bearer: [] }],
  responses: { 200: answer(identitySchema, "whose credentials these are"), ...refusals },
});

function identityOf({ principal, permissions, authority, granted }: Caller): Identity {
  return {
    principal: principal.name,
    tokenId: principal.tokenId,
    admin: permissions.admin,
    grants: authority === null ? null : authority.grants.map((grants) => grants.map(formatGrant)),
    scopes:
      granted === null
        ? null
        : [
            ...[...granted.repositories].map(([repository, rights]) => repositoryScope(repository, rights)),
            ...(granted.catalog ? [catalogScope] : []),
          ],
  };
}
