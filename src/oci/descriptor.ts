import { z } from "zod";
import { isDigest } from "./digest.ts";
import { isMediaType } from "./media-types.ts";

/** Of a size: zod's integers end where JavaScript numbers stop being exact. */
function sizeReason({ code }: { readonly code: string }): string {
  if (code === "too_big") return "is larger than 2^53-1";
  return code === "too_small" ? "is negative" : "is not a whole number";
}

/** image-spec v1.1.1 «Descriptor». Fields that it does not name are kept: custom fields are allowed everywhere. */
export const descriptorSchema = z.looseObject({
  mediaType: z.string().refine(isMediaType, "is not a media type of the form type/subtype"),
  digest: z.string().refine(isDigest, "is not a sha256 or sha512 digest"),
  size: z.int({ error: sizeReason }).nonnegative({ error: sizeReason }),
  data: z.base64("is not base64").nullish(),
  annotations: z.record(z.string(), z.string()).nullish(),
  artifactType: z.string().nullish(),
});

export type Descriptor = z.infer<typeof descriptorSchema>;
