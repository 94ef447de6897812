import { z } from "zod";

/** What the audit notes: changes of content, logins, refusals, changes of rights. */
export const auditActions = [
  "blob.push",
  "blob.mount",
  "blob.delete",
  "manifest.push",
  "manifest.pull",
  "manifest.delete",
  "tag.delete",
  "login",
  "access",
  "user.create",
  "user.change",
  "user.delete",
  "token.create",
  "token.revoke",
  "rule.create",
  "rule.change",
  "rule.delete",
  "content.quarantine",
  "content.release",
  "content.discard",
  "index.rebuild",
  "index.abandon",
] as const;

export type AuditAction = (typeof auditActions)[number];

export const auditOutcomes = ["ok", "refused"] as const;
export type AuditOutcome = (typeof auditOutcomes)[number];

/** A row of the audit, as it is told. */
export const auditRecordSchema = z
  .object({
    id: z.int(),
    createdAt: z.iso.datetime(),
    principal: z.string().meta({ examples: ["user:team-a-ci"] }),
    /** of the access token that it came with */
    tokenId: z.string().nullable(),
    /** IP address */
    address: z.string().nullable(),
    requestId: z.string(),
    /** a text, and none of the list: a later version may have noted more */
    action: z.string().meta({ examples: ["manifest.push"] }),
    repository: z.string().nullable(),
    reference: z.string().nullable(),
    digest: z.string().nullable(),
    outcome: z.enum(auditOutcomes),
    detail: z.record(z.string(), z.unknown()).nullable(),
  })
  .meta({ id: "AuditRecord" });

export type AuditRecord = z.infer<typeof auditRecordSchema>;

export const auditRecordsSchema = z.object({ records: z.array(auditRecordSchema) });

/** Which records are wanted; each narrows. */
export interface AuditFilter {
  readonly principal?: string | undefined;
  readonly action?: AuditAction | undefined;
  readonly repository?: string | undefined;
  readonly outcome?: AuditOutcome | undefined;
  /** ms; from then on */
  readonly since?: number | undefined;
  /** ms; before then */
  readonly until?: number | undefined;
  /** the records that stand after this one, the newest first */
  readonly before?: number | undefined;
}
