/** Manifests that are pushed, and the lists in which they then stand. */
import { randomBytes } from "node:crypto";
import { z } from "zod";
import { emptyJson, imageIndex } from "../../src/oci/media-types.ts";
import { requireStatus, requireStatusOrRight, typeOf, wholeBody } from "./answers.ts";
import type { Led } from "./client.ts";
import { artifactType, digestOf, type Manifest, manifestOf, referrerType } from "./content.ts";
import type { Check, Examined } from "./examination.ts";
import { jsonIn } from "./exchange.ts";
import { requireManifest } from "./read-checks.ts";
import { Failed, Skipped, Warned } from "./verdict.ts";

/** Three, so that a page of two is followed by another. */
const tagsPushed = 3;

/** end-7. */
const manifestPush: Check = {
  name: "manifest-push",
  needs: ["upload"],
  async run(examined) {
    const name = `doctor-${randomBytes(6).toString("hex")}`;
    const tags = Array.from({ length: tagsPushed }, (_, index) => `${name}-${String(index + 1)}`);
    const manifest = manifestFor(examined, artifactType, tags, null);
    examined.pushed.manifest(manifest.digest);
    for (const tag of tags) {
      const answer = await putManifest(examined, tag, manifest);
      requireStatus(answer, [201], `PUT of the manifest ${tag}`);
      const digest = answer.headers["docker-content-digest"];
      examined.digestOfPut = typeof digest === "string" ? digest : "";
    }
    examined.manifest = manifest;
    return `one manifest under ${String(tagsPushed)} tags`;
  },
};

function manifestFor(
  { config, layer }: Examined,
  type: string,
  tags: readonly string[],
  subject: Manifest | null,
): Manifest {
  if (config === null || layer === null) throw new Skipped("no blobs were pushed");
  const layers = [{ mediaType: "application/octet-stream", blob: layer }];
  return manifestOf({ mediaType: type, blob: config }, layers, type, tags, subject);
}

function putManifest({ client, repository }: Examined, reference: string, manifest: Manifest): Promise<Led> {
  const headers = { "Content-Type": manifest.mediaType };
  return client.send("PUT", `/v2/${repository}/manifests/${reference}`, { headers, body: manifest.bytes });
}

const tagsSchema = z.object({ tags: z.array(z.string()) });

/** end-8a. */
const tags: Check = {
  name: "tags",
  needs: ["login"],
  async run(examined) {
    const subject = requireManifest(examined.manifest);
    const answer = await examined.client.send("GET", `/v2/${examined.repository}/tags/list`);
    const listed = tagsIn(answer, "the list of tags");
    const missing = subject.tags.find((tag) => !listed.includes(tag));
    // A long list has pages, which the next check follows.
    if (missing === undefined || answer.headers.link !== undefined) return `${String(listed.length)} tags`;
    throw new Failed({
      expected: `${missing} in the list of tags`,
      seen: `${String(listed.length)} others`,
      mend: "look for a cache before the registry that keeps lists: they change with each push",
    });
  },
};

function tagsIn(answer: Led, wanted: string): readonly string[] {
  requireStatusOrRight(answer, [200], wanted);
  const parsed = tagsSchema.safeParse(jsonIn({ body: wholeBody(answer, wanted) }));
  if (parsed.success) return parsed.data.tags;
  throw new Failed({
    expected: `JSON with tags for ${wanted}`,
    seen: `200 with ${typeOf(answer)} and something else`,
    mend: "let a proxy before the registry leave its answers as they are",
  });
}

/** end-8b, with the Link of RFC 8288. */
const tagPages: Check = {
  name: "tag-pages",
  needs: ["tags"],
  async run(examined) {
    const { client, repository } = examined;
    if (requireManifest(examined.manifest).tags.length < tagsPushed) throw new Skipped("too few tags are known");
    const limit = tagsPushed - 1;
    const first = await client.send("GET", `/v2/${repository}/tags/list?n=${String(limit)}`);
    const before = tagsIn(first, `a page of ${String(limit)} tags`);
    const expected = `${String(limit)} tags, and a Link to the rest, for ?n=${String(limit)}`;
    const mend =
      "let a proxy before the registry pass the query and Link on: clients take the first page for the whole list";
    if (before.length !== limit) throw new Failed({ expected, seen: `${String(before.length)} tags`, mend });
    const second = await client.send("GET", nextOf(first, expected, mend));
    const after = tagsIn(second, "the second page of tags");
    const again = after.find((tag) => before.includes(tag));
    if (after.length === 0 || again !== undefined) {
      const seen = again === undefined ? "a second page without tags" : `${again} on both pages`;
      throw new Failed({ expected: "the rest of the tags on the second page", seen, mend });
    }
    return `${String(before.length)} tags, then ${String(after.length)} by Link`;
  },
};

function nextOf(answer: Led, expected: string, mend: string): URL {
  const { link } = answer.headers;
  const target = /<([^>]*)>\s*;\s*rel="?next"?/.exec(String(link ?? ""))?.[1];
  if (target === undefined || !URL.canParse(target, answer.url.href)) {
    if (link === undefined) throw new Failed({ expected, seen: "no Link", mend });
    const form = 'it has the form <target>; rel="next" (RFC 8288): report it to whoever makes the registry';
    throw new Failed({ expected, seen: `Link: ${String(link)}`, mend: form });
  }
  const next = new URL(target, answer.url);
  if (next.origin === answer.url.origin) return next;
  const seen = `a Link to ${next.origin}`;
  throw new Failed({
    expected,
    seen,
    mend: "let the proxy before the registry pass Host on, or set its public address",
  });
}

const descriptorSchema = z.looseObject({
  digest: z.string(),
  artifactType: z.string().optional(),
  annotations: z.record(z.string(), z.string()).optional(),
});
const indexSchema = z.object({ manifests: z.array(descriptorSchema) });

/** end-12a: signatures, SBOMs and attestations are found by it. */
const referrers: Check = {
  name: "referrers",
  needs: ["manifest-push"],
  async run(examined) {
    const subject = requireManifest(examined.manifest);
    const referrer = manifestFor(examined, referrerType, [], subject);
    examined.pushed.manifest(referrer.digest);
    const put = await putManifest(examined, referrer.digest, referrer);
    requireStatus(put, [201], "PUT of a manifest with a subject");
    const listed = await listReferrers(examined, subject.digest);
    if (listed.status === 404) {
      throw new Warned({
        expected: "the referrers API (end-12)",
        seen: "404",
        mend: "clients keep lists of referrers under tags instead, which lose one where two push at once; take a registry of distribution-spec 1.1",
      });
    }
    const found = requireListed(listed).find(({ digest }) => digest === referrer.digest);
    requireReferrer(found, referrer);
    const told = put.headers["oci-subject"];
    if (told !== subject.digest) {
      throw new Failed({
        expected: `OCI-Subject: ${subject.digest} with the answer to PUT`,
        seen: told === undefined ? "no such header" : `OCI-Subject: ${String(told)}`,
        mend: "let a proxy before the registry pass this header on: clients take the registry for one without referrers",
      });
    }
    // oras and notation ask so whether the API is there.
    const none = await listReferrers(examined, digestOf(randomBytes(32)));
    requireListed(none);
    return "a manifest with a subject is listed for it, with its annotations";
  },
};

function listReferrers({ client, repository }: Examined, digest: string, filter = ""): Promise<Led> {
  const query = filter === "" ? "" : `?artifactType=${encodeURIComponent(filter)}`;
  return client.send("GET", `/v2/${repository}/referrers/${digest}${query}`);
}

function requireListed(answer: Led): z.infer<typeof indexSchema>["manifests"] {
  requireStatusOrRight(answer, [200], "the list of referrers");
  // go-containerregistry compares the header as it is.
  const parsed = indexSchema.safeParse(jsonIn({ body: wholeBody(answer, "the list of referrers") }));
  if (answer.headers["content-type"] === imageIndex && parsed.success) return parsed.data.manifests;
  throw new Failed({
    expected: `an index, as ${imageIndex}, for the list of referrers`,
    seen: `200 with ${typeOf(answer)}${parsed.success ? "" : " and something else"}`,
    mend: "let a proxy before the registry leave Content-Type and body as they are",
  });
}

function requireReferrer(found: z.infer<typeof descriptorSchema> | undefined, referrer: Manifest): void {
  const expected = `${referrer.digest} in the list of referrers, with artifactType and annotations`;
  const mend = "look for a cache before the registry that keeps lists; else report it to whoever makes the registry";
  if (found === undefined) throw new Failed({ expected, seen: "a list without it", mend });
  if (found.artifactType !== referrerType) {
    throw new Failed({ expected, seen: `artifactType: ${found.artifactType ?? "none"}`, mend });
  }
  if (Object.keys(found.annotations ?? {}).length === 0) throw new Failed({ expected, seen: "no annotations", mend });
}

/** end-12b. */
const referrersFilter: Check = {
  name: "referrers-filter",
  needs: ["referrers"],
  async run(examined) {
    const subject = requireManifest(examined.manifest);
    const answer = await listReferrers(examined, subject.digest, referrerType);
    if (answer.status === 404) throw new Skipped("there is no referrers API");
    const some = requireListed(answer);
    const applied = answer.headers["oci-filters-applied"];
    const expected = "OCI-Filters-Applied: artifactType, and that type alone, for ?artifactType=";
    if (applied === undefined) {
      // The specification lets a registry go without: clients then filter themselves.
      const mend = "clients filter themselves; let a proxy before the registry pass the query and this header on";
      throw new Warned({ expected, seen: "no OCI-Filters-Applied", mend });
    }
    const none = requireListed(await listReferrers(examined, subject.digest, emptyJson));
    if (applied === "artifactType" && some.length === 1 && none.length === 0) return "by artifactType";
    throw new Failed({
      expected,
      seen: `OCI-Filters-Applied: ${String(applied)}, ${String(some.length)} of the type, ${String(none.length)} of another`,
      mend: "look for a cache before the registry that leaves the query out of its keys",
    });
  },
};

export const manifestPushChecks: readonly Check[] = [manifestPush];
export const listChecks: readonly Check[] = [tags, tagPages, referrers, referrersFilter];
