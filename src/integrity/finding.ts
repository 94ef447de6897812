import { z } from "zod";
import { API_PAGE_MAX } from "../limits.ts";
import type { Digest } from "../oci/digest.ts";

export const contentKinds = ["blob", "manifest"] as const;
export type ContentKind = (typeof contentKinds)[number];

/** A blob or a manifest as its row has it. */
export interface Content {
  readonly kind: ContentKind;
  readonly id: number;
  readonly digest: Digest;
  /** bytes */
  readonly size: number;
  /** R2 key; null: the bytes are in `body` */
  readonly objectKey: string | null;
  readonly body: string | null;
  /** of a manifest */
  readonly repository: string | null;
  readonly putRequest: string | null;
}

export const problems = ["missing", "size", "digest"] as const;
export type Problem = (typeof problems)[number];

/**
 * `quarantined`: it answers 404. `healed`: it was pushed again. `released`: it is served as it is. `gone`: nothing
 * names it any more.
 */
export const findingStates = ["quarantined", "healed", "released", "gone"] as const;

export const findingIdSchema = z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER);

/** Content whose bytes are not those of its digest, as it is told. */
export const findingSchema = z
  .object({
    id: z.int(),
    kind: z.enum(contentKinds),
    digest: z.string(),
    size: z.int().meta({ description: "bytes that it should have" }),
    problem: z.enum(problems).meta({ description: "its bytes are missing, are too many or too few, or are others" }),
    found: z.string().nullable().meta({ description: "a number of bytes, or a digest, in place of its own" }),
    repository: z.string().nullable().meta({ description: "of a manifest; a blob is in any number of them" }),
    objectKey: z.string().nullable().meta({ description: "of R2; null: the bytes are in the database" }),
    foundBy: z.string().meta({ examples: ["scrub", "admin"] }),
    foundAt: z.iso.datetime(),
    state: z.enum(findingStates),
    discardedAt: z.iso.datetime().nullable().meta({ description: "when its object was given to the collector" }),
  })
  .meta({ id: "Finding" });

export type Finding = z.infer<typeof findingSchema>;

export const findingsSchema = z.object({ findings: z.array(findingSchema) });

/** What is asked of one slice of a verification. */
export const verifyRequestSchema = z
  .strictObject({
    repository: z
      .string()
      .max(255)
      .meta({ examples: ["team-a/app"] }),
    cursor: z
      .string()
      .max(2000)
      .optional()
      .meta({ description: "`next` of the answer before; left out: from the start" }),
  })
  .meta({ id: "Verification" });

export const verifiedSchema = z
  .object({
    total: z
      .object({ objects: z.int(), bytes: z.int() })
      .nullable()
      .meta({ description: "of what is to be read, in the first answer alone" }),
    objects: z.int().meta({ description: "blobs and manifests that this slice has read to their end" }),
    bytes: z.int().meta({ description: "that this slice has read" }),
    findings: z.array(findingSchema).meta({
      description: `what this slice found bad; in the last one also what else is quarantined of the repository (${String(API_PAGE_MAX)} at most), some of which was in a slice before`,
    }),
    next: z.string().nullable().meta({ description: "null: all is read" }),
  })
  .meta({ id: "Verified" });

export type Verified = z.infer<typeof verifiedSchema>;

/** How far the scrub is, and what there is to look into. */
export const integritySchema = z
  .object({
    quarantined: z.int().meta({ description: "blobs and manifests that answer 404 until they are pushed again" }),
    halted: z
      .boolean()
      .meta({ description: "whether so much is quarantined that the scrub waits for somebody to look" }),
    scrub: z
      .object({
        beganAt: z.iso.datetime(),
        endedAt: z.iso.datetime().nullable().meta({ description: "null: it is under way" }),
        nextAt: z.iso.datetime().nullable().meta({ description: "when it begins anew" }),
        reading: z.enum(contentKinds),
        objects: z.int().meta({ description: "that it has read" }),
        bytes: z.int(),
      })
      .nullable()
      .meta({ description: "null: it has not begun yet" }),
    lastExport: z.string().nullable().meta({ description: "the name of the newest copy of the index that is whole" }),
  })
  .meta({ id: "Integrity" });

export type Integrity = z.infer<typeof integritySchema>;
