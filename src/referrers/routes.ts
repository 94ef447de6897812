import { Hono } from "hono";
import { access } from "../access/access.ts";
import { read } from "../databases.ts";
import type { RepositoryEnv } from "../env.ts";
import { nextLink } from "../http/page.ts";
import { text } from "../http/text.ts";
import { parseDigest } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { imageIndex } from "../oci/media-types.ts";
import { listReferrers } from "./store.ts";

export const referrers = new Hono<RepositoryEnv>();

/**
 * end-12a, end-12b: distribution-spec v1.1.1 «Listing Referrers». An unknown digest, or repository, has an empty list:
 * oras and notation probe with one to see whether the API is there. D1: 1.
 */
referrers.get("/v2/:name{.+}/referrers/:digest", access("pull"), async (c) => {
  const digest = parseDigest(c.req.param("digest"));
  const artifactType = c.req.query("artifactType") ?? "";
  const after = c.req.query("after") ?? "0";
  if (!/^\d{1,15}$/.test(after)) {
    throw new OciError(
      "UNSUPPORTED",
      { reason: "after is a number from a Link of this list", after: after.slice(0, 64) },
      { status: 400 },
    );
  }
  const filter = artifactType === "" ? null : artifactType;
  const { repository } = c.var;
  const isPrimary = c.var.caller.permissions.pushes(repository);
  const found = await read(c.env, repository, { by: "name", isPrimary }, async (queryable) =>
    listReferrers(queryable, repository, digest, filter, Number(after)),
  );
  const page = found ?? { descriptors: "", next: null };
  const parameters = { after: String(page.next), ...(filter === null ? {} : { artifactType: filter }) };
  // ggcr takes only this very Content-Type, without a charset. The list is joined, not parsed and printed again.
  const list = `{"schemaVersion":2,"mediaType":"${imageIndex}","manifests":[${page.descriptors}]}`;
  return text(list, imageIndex, {
    ...(filter === null ? {} : { "OCI-Filters-Applied": "artifactType" }),
    ...(page.next === null ? {} : nextLink(c.req.path, parameters)),
  });
});
