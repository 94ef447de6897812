import { z } from "zod";
import { UPLOAD_TTL_MAX_SECONDS } from "./limits.ts";
import type { RepositoryName } from "./oci/repository.ts";

const seconds = z
  .string()
  .regex(/^\d{1,9}$/, "is not a whole number of seconds")
  .transform(Number);

const patterns = z
  .string()
  .transform((value) => value.split(/[\s,]+/).filter((pattern) => pattern !== ""))
  .pipe(z.array(z.string().regex(/^[a-z0-9._\-/*]+$/, "is not a repository pattern such as team/* or mirror/**")));

const schema = z.object({
  /** Repositories that take manifests before, or without, what they name. `*` is one path part, `**` any number. */
  ALLOW_SPARSE: patterns,
  /** How long content that nothing references is kept, and how long it stays condemned before it goes. */
  GC_GRACE_SECONDS: seconds,
  /** Life of an upload session from its POST. */
  UPLOAD_TTL_SECONDS: seconds.refine(
    (value) => value >= 1 && value <= UPLOAD_TTL_MAX_SECONDS,
    `must be 1 to ${String(UPLOAD_TTL_MAX_SECONDS)}: R2 gives up an unfinished upload after seven days`,
  ),
});

export type Config = Readonly<z.infer<typeof schema>>;

const parsed = new WeakMap<object, Config>();

/**
 * The settings, parsed once an isolate.
 * @throws Error that names the setting which is wrong
 */
export function configOf(env: Env): Config {
  const known = parsed.get(env);
  if (known !== undefined) return known;
  const result = schema.safeParse(env);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw new Error(`setting ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "is not valid"}`);
  }
  const config = Object.freeze(result.data);
  parsed.set(env, config);
  return config;
}

/** Whether one of the patterns names the repository. */
export function matchesPattern(repository: RepositoryName, patternList: readonly string[]): boolean {
  return patternList.some((pattern) => patternExpression(pattern).test(repository));
}

function patternExpression(pattern: string): RegExp {
  const source = pattern
    .split(/(\*\*|\*)/)
    .map((piece) => (piece === "**" ? ".*" : piece === "*" ? "[^/]*" : piece.replace(/[.-]/g, "\\$&")))
    .join("");
  return new RegExp(`^${source}$`);
}
