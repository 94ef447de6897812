import { z } from "zod";
import { grantTextsSchema } from "../access/grants.ts";
import { opennessOf } from "../access/public-issuers.ts";
import { ruleNameSchema, ruleShape } from "../access/trust-rule.ts";

const conditionsMeta = {
  description:
    "claim -> patterns of which one must match; each claim must. * is any letters, / too. kubernetes.io.namespace is a claim in a claim",
  examples: [{ repository: ["my-org/my-app"], ref: ["refs/heads/main", "refs/tags/v*"] }],
};
const issuerMeta = {
  description: "as the tokens have it in iss, to the letter",
  examples: ["https://token.actions.githubusercontent.com"],
};
const audienceMeta = {
  description: "as the tokens have it in aud, alone or among others; of this registry alone, such as its address",
  examples: ["https://registry.example.com"],
};

const written = {
  issuer: ruleShape.issuer.meta(issuerMeta),
  audience: ruleShape.audience.meta(audienceMeta),
  conditions: ruleShape.conditions.meta(conditionsMeta),
  grants: ruleShape.grants,
} as const;

export const newRuleSchema = z
  .strictObject({ name: ruleNameSchema.meta({ examples: ["github-main"] }), ...written })
  .superRefine(({ issuer, conditions }, context) => {
    const message = opennessOf(issuer, conditions);
    if (message !== null) context.addIssue({ code: "custom", path: ["conditions"], message });
  })
  .meta({ id: "NewTrustRule" });

export type NewTrustRule = z.infer<typeof newRuleSchema>;

/** What is left out stays as it is. */
export const ruleChangeSchema = z
  .strictObject({
    issuer: written.issuer.optional(),
    audience: written.audience.optional(),
    conditions: written.conditions.optional(),
    grants: written.grants.optional(),
  })
  .refine((change) => Object.keys(change).length > 0, "says nothing that is to be changed")
  .meta({ id: "TrustRuleChange", minProperties: 1 });

export type TrustRuleChange = z.infer<typeof ruleChangeSchema>;

export const ruleSchema = z
  .object({
    name: z.string(),
    issuer: z.string().meta(issuerMeta),
    audience: z.string().meta(audienceMeta),
    conditions: z.record(z.string(), z.array(z.string())).meta(conditionsMeta),
    grants: grantTextsSchema,
    createdAt: z.iso.datetime(),
  })
  .meta({ id: "TrustRule" });

/** A rule as it is told. */
export type ToldTrustRule = z.infer<typeof ruleSchema>;

export const rulesSchema = z.object({ rules: z.array(ruleSchema) });
