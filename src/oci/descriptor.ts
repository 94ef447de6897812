import { z } from "zod";
import { isDigest } from "./digest.ts";
import { isMediaType } from "./media-types.ts";

/** image-spec v1.1.1 «Descriptor». Fields that it does not name are kept: custom fields are allowed everywhere. */
export const descriptorSchema = z.looseObject({
  mediaType: z.string().refine(isMediaType, "is not a media type of the form type/subtype"),
  digest: z.string().refine(isDigest, "is not a sha256 or sha512 digest"),
  size: z.int("is not a whole number").nonnegative("is negative"),
  data: z.base64("is not base64").nullish(),
  annotations: z.record(z.string(), z.string()).nullish(),
  artifactType: z.string().nullish(),
});

export type Descriptor = z.infer<typeof descriptorSchema>;
