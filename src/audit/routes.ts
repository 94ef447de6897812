import { createRoute } from "@hono/zod-openapi";
import { z } from "zod";
import { access } from "../access/access.ts";
import { answer, apiRoutes, byAdministrator, refusals } from "../api/noun.ts";
import { pageOf, pageSize } from "../api/page.ts";
import { AUDIT_PAGE_MAX } from "../limits.ts";
import { auditActions, auditOutcomes, auditRecordsSchema } from "./record.ts";
import { listAudit } from "./store.ts";

export const audit = apiRoutes();

/** ms since 1970 of a date (its beginning, UTC) or of a time with its offset. */
const time = z
  .union([z.iso.datetime({ offset: true }), z.iso.date()], "is no date or time such as 2026-11-21T10:00:00Z")
  .transform((text) => Date.parse(text));

const querySchema = z.strictObject({
  n: pageSize(AUDIT_PAGE_MAX),
  before: z.coerce.number().int().min(1).optional().meta({ description: "the records before this one, by its id" }),
  principal: z.string().max(1024).optional(),
  action: z.enum(auditActions).optional(),
  repository: z.string().max(255).optional(),
  outcome: z.enum(auditOutcomes).optional(),
  since: time.optional().meta({ description: "ISO 8601; from then on" }),
  until: time.optional().meta({ description: "ISO 8601; before then" }),
});

/** D1: 1. */
audit.openapi(
  createRoute({
    method: "get",
    path: "/api/v1/audit",
    middleware: access("admin"),
    summary: "Lists who did what, the newest first; Link leads to what was before",
    tags: ["audit"],
    security: byAdministrator,
    request: { query: querySchema },
    responses: { 200: answer(auditRecordsSchema, "a page of records"), ...refusals },
  }),
  async (c) => {
    const { n, ...filter } = c.req.valid("query");
    const found = await listAudit(c.env.DB, filter, n + 1);
    const { page, headers } = pageOf(found, n, c.req.path, ({ id }) => ({ ...c.req.query(), before: String(id) }));
    return c.json({ records: page }, 200, headers);
  },
);
