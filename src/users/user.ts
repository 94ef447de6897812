import { z } from "zod";
import { grantsSchema, grantTextsSchema } from "../access/grants.ts";

/** Not the administrator's, and nothing that Basic, a path or a principal's name could take for more than one word. */
const nameGrammar = /^(?!admin$)[a-z0-9]+(?:[._-][a-z0-9]+)*$/;

export const userNameSchema = z
  .string()
  .max(64)
  .regex(nameGrammar, "a user's name is lower-case letters and digits, parted by one of . _ -; admin is taken")
  .meta({ examples: ["team-a-ci"] });

/** By which Cloudflare Access knows a person; compared as it is kept, in lower case. */
const emailSchema = z.email().max(254).toLowerCase();

/** What a person logs in with at /token; programs have access tokens. */
const passwordSchema = z
  .string()
  .min(12)
  .max(256)
  .regex(/^(?!moorage_)/, "begins as an access token does; a password is chosen by a person");

export const newUserSchema = z
  .strictObject({
    name: userNameSchema,
    grants: grantsSchema,
    email: emailSchema.optional(),
    password: passwordSchema.optional(),
  })
  .meta({ id: "NewUser" });

export type NewUser = z.infer<typeof newUserSchema>;

/** What is left out stays as it is. */
export const userChangeSchema = z
  .strictObject({
    grants: grantsSchema.optional(),
    disabled: z.boolean().optional(),
    email: emailSchema.nullable().optional(),
    password: passwordSchema.nullable().optional(),
  })
  .refine((change) => Object.keys(change).length > 0, "says nothing that is to be changed")
  .meta({ id: "UserChange", minProperties: 1 });

export type UserChange = z.infer<typeof userChangeSchema>;

export const userSchema = z
  .object({
    name: z.string(),
    grants: grantTextsSchema,
    email: z.string().nullable(),
    /** the password itself is nowhere, and its hash is told nobody */
    hasPassword: z.boolean(),
    disabled: z.boolean(),
    createdAt: z.iso.datetime(),
  })
  .meta({ id: "User" });

export type User = z.infer<typeof userSchema>;

export const usersSchema = z.object({ users: z.array(userSchema) });
