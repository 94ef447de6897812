import { createRoute } from "@hono/zod-openapi";
import { z } from "zod";
import { access } from "../access/access.ts";
import { insertAudit } from "../audit/store.ts";
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
import { API_PAGE_MAX, QUARANTINED_TOLD_MAX, SCRUB_QUARANTINED_MAX } from "../limits.ts";
import { databaseFor } from "../databases.ts";
import { forget } from "../edge/edge.ts";
import { parseDigest } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { parseRepositoryName, type RepositoryName } from "../oci/repository.ts";
import { describeExports, exportStep, exportValue, isExportUnderWay, listExports, parseExportState } from "./export.ts";
import {
  type Finding,
  findingIdSchema,
  findingSchema,
  findingsSchema,
  integritySchema,
  verifiedSchema,
  verifyRequestSchema,
} from "./finding.ts";
import { copiesSchema, copyRequestSchema, copySchema, rebuildRequestSchema, rebuiltSchema, toldCopy } from "./copy.ts";
import { PartUnreadable } from "./part.ts";
import { abandonPredecessor, birthOf, hasPredecessor, isOlder, predecessorReason, selectBirth } from "./predecessor.ts";
import { discardContent, releaseContent } from "./quarantine.ts";
import { rebuildStep } from "./rebuild.ts";
import { parseScrubState, scrubValue, toldScrub } from "./scrub.ts";
import { countOf, listFindings, selectQuarantinedCount } from "./store.ts";
import { selectValue, valueOf } from "./values.ts";
import { parseCursor, verifySlice } from "./verify.ts";

export const integrity = apiRoutes();

const tags = ["integrity"];
const security = byAdministrator;
/** What a cache has of a blob's bytes goes by whichever repository is named. */
const ANY_REPOSITORY = "any";

const oneFinding = z.object({ finding: findingIdSchema });

/** D1: 1; R2: 1. */
integrity.openapi(
  createRoute({
    method: "get",
    path: "/api/v1/integrity",
    middleware: access("admin"),
    summary: "Tells how far the scrub is, and how much is quarantined",
    tags,
    security,
    responses: { 200: answer(integritySchema, "how it stands"), ...refusals },
  }),
  async (c) => {
    const db = c.env.DB;
    const [scrub, quarantined] = await db.batch([
      selectValue(db, scrubValue),
      selectQuarantinedCount(db, QUARANTINED_TOLD_MAX),
    ]);
    const count = countOf(quarantined);
    const [lastExport = null] = await listExports(c.env.BLOBS);
    return c.json(
      {
        quarantined: count,
        halted: count >= SCRUB_QUARANTINED_MAX,
        scrub: toldScrub(parseScrubState(valueOf(scrub))),
        lastExport,
      },
      200,
    );
  },
);

/** D1: 1. */
integrity.openapi(
  createRoute({
    method: "get",
    path: "/api/v1/integrity/findings",
    middleware: access("admin"),
    summary: "Lists content whose bytes were not those of its digest, the newest first; Link leads to the next page",
    tags,
    security,
    request: { query: z.strictObject({ n: pageSize(API_PAGE_MAX), before: findingIdSchema.optional() }) },
    responses: { 200: answer(findingsSchema, "a page of findings"), ...refusals },
  }),
  async (c) => {
    const { n, before = Number.MAX_SAFE_INTEGER } = c.req.valid("query");
    const found = await listFindings(c.env.DB, before, n + 1);
    const { page, headers } = pageOf(found, n, c.req.path, ({ id }) => ({ before: String(id) }));
    return c.json({ findings: page }, 200, headers);
  },
);

/** D1: 2; R2: at most 1. */
integrity.openapi(
  createRoute({
    method: "post",
    path: "/api/v1/integrity/findings/{finding}/release",
    middleware: access("admin"),
    summary: "Serves quarantined content again as it is",
    tags,
    security,
    request: { params: oneFinding },
    responses: { 200: answer(findingSchema, "the finding"), ...refusals, ...notFound, ...conflict },
  }),
  async (c) => {
    const { finding } = c.req.valid("param");
    const released = await releaseContent(c.env, finding, c.var.requester);
    if (released === null) throw noFinding(finding);
    if (released === "over")
      throw new OciError("CONFLICT", { reason: "nothing is quarantined for it any more", finding });
    if (released === "absent") {
      throw new OciError("CONFLICT", { reason: "R2 has no object of it: it can only be pushed again", finding });
    }
    // Of a blob that was mended in its place the caches may have the bytes of before: they are there by the digest alone.
    await forgetContent(c.env, parseRepositoryName(released.repository ?? ANY_REPOSITORY), released);
    return c.json(released, 200);
  },
);

/** D1: 2. */
integrity.openapi(
  createRoute({
    method: "delete",
    path: "/api/v1/integrity/findings/{finding}/object",
    middleware: access("admin"),
    summary: "Deletes a bad object; what is quarantined stays so until it is pushed again",
    tags,
    security,
    request: { params: oneFinding },
    responses: { 204: { description: "it goes" }, ...refusals, ...notFound, ...conflict },
  }),
  async (c) => {
    const { finding } = c.req.valid("param");
    const discarded = await discardContent(c.env.DB, finding, c.var.requester);
    if (discarded === null) throw noFinding(finding);
    if (discarded === "none") {
      throw new OciError("CONFLICT", { reason: "it has no object that could be deleted by itself", finding });
    }
    return c.body(null, 204);
  },
);

/** D1 and R2 as verifySlice says. */
integrity.openapi(
  createRoute({
    method: "post",
    path: "/api/v1/integrity/verify",
    middleware: [access("admin"), limitBody],
    summary: "Reads a slice of a repository's blobs and manifests, and compares them with their digests",
    tags,
    security,
    request: { body: body(verifyRequestSchema) },
    responses: { 200: answer(verifiedSchema, "what was found"), ...refusals, ...notFound, ...badBody },
  }),
  async (c) => {
    const { repository: name, cursor: text } = c.req.valid("json");
    const repository = parseRepositoryName(name);
    const cursor = text === undefined ? null : parseCursor(text);
    if (text !== undefined && cursor === null)
      throw new OciError("INVALID_REQUEST", "cursor: is not that of an answer");
    const verified = await verifySlice(
      { DB: databaseFor(c.env, repository), BLOBS: c.env.BLOBS },
      repository,
      cursor,
      c.var.requester,
    );
    if (verified === null) throw new OciError("NOT_FOUND", { reason: "there is no such repository", repository });
    for (const finding of verified.findings) await forgetContent(c.env, repository, finding);
    return c.json(verified, 200);
  },
);

/** D1: 1; R2: as describeExports says. */
integrity.openapi(
  createRoute({
    method: "get",
    path: "/api/v1/index/exports",
    middleware: access("admin"),
    summary: "Lists the copies of the index that are whole, the newest first",
    tags,
    security,
    responses: { 200: answer(copiesSchema, "the copies, and the one that is under way"), ...refusals },
  }),
  async (c) => {
    const { DB: db, BLOBS: bucket } = c.env;
    const [saved, born] = await db.batch([selectValue(db, exportValue), selectBirth(db)]);
    const state = parseExportState(valueOf(saved));
    const underWay = state === null || state.endedMs !== null ? null : toldCopy(state);
    const described = await describeExports(bucket);
    const exports = described.map(({ name, beganMs, rows }) => ({
      name,
      beganAt: new Date(beganMs).toISOString(),
      rows,
    }));
    const birth = birthOf(born);
    const halted = !birth.isSettled && exports.some(({ name }) => isOlder(name, birth));
    return c.json({ exports, underWay, halted }, 200);
  },
);

/** D1: 1, and 1 where it is forced; R2: at most 1; then as exportStep says. */
integrity.openapi(
  createRoute({
    method: "post",
    path: "/api/v1/index/exports",
    middleware: [access("admin"), limitBody],
    summary: "Begins a copy of the index where none is under way, and does a step of it",
    tags,
    security,
    request: { body: body(copyRequestSchema) },
    responses: {
      200: answer(copySchema, "how it stands: send it again, with its name, until it has ended"),
      ...refusals,
      ...conflict,
      ...badBody,
    },
  }),
  async (c) => {
    const { DB: db, BLOBS: bucket } = c.env;
    const { name, force } = c.req.valid("json");
    const isNew = name === undefined;
    const [found, born] = await db.batch([selectValue(db, exportValue), selectBirth(db)]);
    const [saved, birth] = [valueOf(found), birthOf(born)];
    const state = parseExportState(saved);
    if (isNew && (await hasPredecessor(bucket, birth))) {
      if (force) {
        const entry = { action: "index.abandon", outcome: "ok" } as const;
        await db.batch([abandonPredecessor(db, Date.now()), insertAudit(db, c.var.requester, entry, Date.now())]);
      } else if (state === null || !isExportUnderWay(state)) {
        throw new OciError("CONFLICT", predecessorReason);
      }
    }
    const further = await exportStep(c.env, saved, birth, isNew, Date.now());
    if (further === null || (!isNew && further.name !== name)) {
      throw new OciError("CONFLICT", { reason: "this export is not under way, nor the last that was", name });
    }
    return c.json(toldCopy(further), 200);
  },
);

/** D1 and R2 as rebuildStep says. */
integrity.openapi(
  createRoute({
    method: "post",
    path: "/api/v1/index/rebuild",
    middleware: [access("admin"), limitBody],
    summary: "Does a step of putting a copy of the index back into an empty database",
    tags,
    security,
    request: { body: body(rebuildRequestSchema) },
    responses: {
      200: answer(rebuiltSchema, "how it stands: send it again until it has ended"),
      ...refusals,
      ...notFound,
      ...conflict,
      ...badBody,
    },
  }),
  async (c) => {
    const rebuilt = await rebuildStep(c.env, c.req.valid("json"), c.var.requester).catch((error: unknown) => {
      if (!(error instanceof PartUnreadable)) throw error;
      const reason = "a part of the export can't be read: it is damaged, or was sealed with another TOKEN_KEY";
      throw new OciError("CONFLICT", { reason: `${reason}; withoutUsers leaves out those that are sealed` });
    });
    if (rebuilt === "export") throw new OciError("NOT_FOUND", "there is no such export that is whole and has rows");
    if (rebuilt === "content") {
      throw new OciError("CONFLICT", "the index is not empty; force puts back beside what is there, which stays");
    }
    return c.json(rebuilt, 200);
  },
);

/** The caches have nothing of it any more, in this isolate and in its data centre. */
async function forgetContent(
  env: Env,
  repository: RepositoryName,
  { kind, digest }: Pick<Finding, "kind" | "digest">,
): Promise<void> {
  await forget({ env, repository }, kind === "blob" ? "blobs" : "manifests", parseDigest(digest));
}

function noFinding(finding: number): OciError {
  return new OciError("NOT_FOUND", { reason: "there is no such finding", finding });
}
