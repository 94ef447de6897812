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
  })
  .meta({ id: "ExportRequest" });

export const copiesSchema = z.object({
  exports: z.array(z.string()).meta({ description: "their names, the newest first" }),
  underWay: copySchema.nullable(),
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
    export: z.string().max(40).optional().meta({ description: "left out: the newest that is whole" }),
    force: z.boolean().default(false).meta({ description: "into an index that has content: what is there stays" }),
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
    missing: z.int().meta({ description: "blobs and manifests that R2 has not: they are quarantined" }),
    unnamed: z
      .object({ objects: z.int(), bytes: z.int() })
      .meta({ description: "objects of R2 that the export does not know; they stay" }),
  })
  .meta({ id: "Rebuilt" });

export type Rebuilt = z.infer<typeof rebuiltSchema>;
