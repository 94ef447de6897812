import { z } from "zod";

/** A copy of the index, as it is told. */
export const copySchema = z
  .object({
    name: z.string(),
    beganAt: z.iso.datetime(),
    ended: z.boolean().meta({ description: "whether it is whole" }),
    parts: z.int(),
    rows: z.int(),
  })
  .meta({ id: "Export" });

export type Copy = z.infer<typeof copySchema>;

export const copyRequestSchema = z
  .strictObject({
    name: z.string().max(40).optional().meta({ description: "of the one to go on with: no other is begun" }),
    force: z
      .boolean()
      .default(false)
      .meta({ description: "begins anew where R2 has copies that are older than the database: they may go then" }),
  })
  .meta({ id: "ExportRequest" });

export const copiesSchema = z.object({
  exports: z
    .array(
      z.object({
        name: z.string(),
        beganAt: z.iso.datetime(),
        rows: z.int().nullable().meta({ description: "null: its list does not tell" }),
      }),
    )
    .meta({ description: "the newest first" }),
  underWay: copySchema.nullable(),
  halted: z.boolean().meta({
    description:
      "whether none is made by itself: some are older than the database, and neither has a rebuild ended nor has one been forced",
  }),
});

interface CopyState {
  readonly name: string;
  readonly beganMs: number;
  readonly endedMs: number | null;
  readonly parts: number;
  readonly rows: number;
}

export function toldCopy({ name, beganMs, endedMs, parts, rows }: CopyState): Copy {
  return { name, beganAt: new Date(beganMs).toISOString(), ended: endedMs !== null, parts, rows };
}

export const rebuildRequestSchema = z
  .strictObject({
    export: z.string().max(40).optional().meta({
      description: "left out: the newest that has rows, of those that are older than the database where there are such",
    }),
    force: z.boolean().default(false).meta({
      description:
        "into an index that has content: what is there stays, and so do its users, access tokens and trust rules, with none beside them",
    }),
    withoutUsers: z
      .boolean()
      .default(false)
      .meta({ description: "leaves users, access tokens and trust rules out: where TOKEN_KEY is another by now" }),
  })
  .meta({ id: "Rebuild" });

export type RebuildRequest = z.infer<typeof rebuildRequestSchema>;

export const rebuiltSchema = z
  .object({
    export: z.string(),
    exportedAt: z.iso.datetime().meta({ description: "when the export began: what was pushed since is not in it" }),
    ended: z.boolean(),
    parts: z.int().meta({ description: "of the export that are put back" }),
    partsInAll: z.int(),
    rows: z.int(),
    usersLeft: z
      .boolean()
      .meta({ description: "whether users, access tokens and trust rules were left as they are in the database" }),
    missing: z.int().meta({ description: "blobs and manifests that R2 has not: they are quarantined" }),
    unnamed: z
      .object({ objects: z.int(), bytes: z.int() })
      .meta({ description: "objects of R2 that the export does not know; they stay" }),
  })
  .meta({ id: "Rebuilt" });

export type Rebuilt = z.infer<typeof rebuiltSchema>;
