import { z } from "zod";
import { grantTextsSchema } from "../access/grants.ts";

/** Whom a request's credentials stand for. */
export const identitySchema = z
  .object({
    principal: z.string().meta({ examples: ["user:team-a-ci"] }),
    tokenId: z.string().nullable().meta({ description: "of the access token that came with the request" }),
    admin: z.boolean(),
    grants: z.array(grantTextsSchema).nullable().meta({
      description:
        "each list must allow a thing: the user's, and that of its access token; null for a bearer of /token",
    }),
    scopes: z
      .array(z.string())
      .nullable()
      .meta({ description: "of a bearer of /token", examples: [["repository:team-a/app:pull,push"]] }),
  })
  .meta({ id: "Identity" });

export type Identity = z.infer<typeof identitySchema>;
