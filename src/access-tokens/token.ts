import { z } from "zod";
import { grantsSchema, grantTextsSchema } from "../access/grants.ts";

const LIFE_MAX_DAYS = 3650;

export const newTokenSchema = z
  .strictObject({
    name: z
      .string()
      .min(1)
      .max(100)
      .refine((name) => /^\P{C}*$/u.test(name), "has a character that can't be shown")
      .meta({ examples: ["build server"] }),
    expiresInDays: z.int().min(1).max(LIFE_MAX_DAYS).optional().meta({ description: "left out: it does not end" }),
    grants: grantsSchema.nullable().optional().meta({
      description:
        "to what it is narrowed: it may what both its user's grants and these allow; null: all that its user may",
    }),
  })
  .meta({ id: "NewAccessToken" });

export type NewToken = z.infer<typeof newTokenSchema>;

export const tokenIdSchema = z.uuid("is no token's id; the list of the user's tokens has them");

const told = z.object({
  id: tokenIdSchema,
  name: z.string(),
  grants: grantTextsSchema.nullable(),
  createdAt: z.iso.datetime(),
  expiresAt: z.iso.datetime().nullable(),
});

/** As it is told for the one time. */
export const createdTokenSchema = told
  .extend({ token: z.string().meta({ description: "the secret, which is shown this once and kept nowhere" }) })
  .meta({ id: "CreatedAccessToken" });

export type CreatedToken = z.infer<typeof createdTokenSchema>;

export const accessTokenSchema = told
  .extend({
    lastUsedAt: z.iso.datetime().nullable().meta({ description: "told to some minutes" }),
    revokedAt: z.iso.datetime().nullable(),
  })
  .meta({ id: "AccessToken" });

export type AccessToken = z.infer<typeof accessTokenSchema>;

export const accessTokensSchema = z.object({ tokens: z.array(accessTokenSchema) });
