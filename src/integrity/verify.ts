import { z } from "zod";
import {
  API_PAGE_MAX,
  SCRUB_MANIFESTS_MAX,
  VERIFY_SLICE_BYTES,
  VERIFY_SLICE_OBJECTS,
  VERIFY_SLICE_SECONDS,
} from "../limits.ts";
import type { RepositoryName } from "../oci/repository.ts";
import type { Requester } from "../requester.ts";
import { progressSchema } from "./check.ts";
import { listBlobsOfRepository, listManifestsOfRepository, sumOfRepository } from "./contents.ts";
import { contentKinds, type Finding, type Verified } from "./finding.ts";
import { type Budget, checkSlice } from "./slice.ts";
import { listQuarantinedOf } from "./store.ts";

const cursorSchema = z.strictObject({
  kind: z.enum(contentKinds),
  /** of the last blob */
  id: z.int(),
  /** of the last manifest */
  digest: z.string(),
  progress: progressSchema.nullable(),
});

type Cursor = z.infer<typeof cursorSchema>;

/** @returns null where it is none */
export function parseCursor(text: string): Cursor | null {
  try {
    return cursorSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/**
 * Reads a slice of what a repository has, and compares it with its digests. What is bad is quarantined, in whichever
 * repository it is. The last slice tells of what is quarantined by then, the newest API_PAGE_MAX of it: also of what was before, and of what the
 * scrub found first while this one was on its way, which is passed over in the lists, or not quarantined twice.
 * D1: 1, 1 more in the first slice and in the last, 1 for every SCRUB_MANIFESTS_MAX manifests, and 2 for each finding.
 * R2: 1 an object.
 * @param cursor null: the first slice
 * @returns null where there is no such repository
 * @throws what R2 threw
 */
export async function verifySlice(
  env: Pick<Env, "DB" | "BLOBS">,
  repository: RepositoryName,
  cursor: Cursor | null,
  by: Requester,
): Promise<Verified | null> {
  const total = cursor === null ? await sumOfRepository(env.DB, repository) : null;
  if (cursor === null && total === null) return null;
  const findings: Finding[] = [];
  const untilMs = Date.now() + VERIFY_SLICE_SECONDS * 1000;
  let at: Cursor = cursor ?? { kind: "blob", id: 0, digest: "", progress: null };
  let [objects, bytes] = [0, 0];
  for (;;) {
    const budget: Budget = { bytes: VERIFY_SLICE_BYTES - bytes, objects: VERIFY_SLICE_OBJECTS - objects, untilMs };
    const { kind } = at;
    const limit = kind === "blob" ? VERIFY_SLICE_OBJECTS : SCRUB_MANIFESTS_MAX;
    const rows =
      kind === "blob"
        ? await listBlobsOfRepository(env.DB, repository, at.id, limit)
        : await listManifestsOfRepository(env.DB, repository, at.digest, limit);
    const slice = await checkSlice(
      env,
      rows.map((row) => ({ ...row, kind })),
      at.progress,
      budget,
      by,
    );
    objects += slice.objects;
    bytes += slice.bytes;
    findings.push(...slice.findings);
    if (slice.failure !== null) throw slice.failure instanceof Error ? slice.failure : new Error("R2 did not answer");
    const { last, progress, ended } = slice;
    at =
      kind === "blob"
        ? { ...at, id: last?.id ?? at.id, progress }
        : { ...at, digest: last?.digest ?? at.digest, progress };
    if (!ended) return { total, objects, bytes, findings, next: JSON.stringify(at) };
    if (rows.length === limit) continue;
    if (kind === "manifest") {
      const quarantined = await listQuarantinedOf(env.DB, repository, API_PAGE_MAX);
      const known = new Set(quarantined.map(({ id }) => id));
      const others = findings.filter(({ id }) => !known.has(id));
      return { total, objects, bytes, findings: [...others, ...quarantined.toReversed()], next: null };
    }
    at = { ...at, kind: "manifest" };
  }
}
