import { z } from "zod";
import { UPLOAD_TTL_MAX_SECONDS } from "./limits.ts";
import type { RepositoryName } from "./oci/repository.ts";

const seconds = z
  .string()
  .regex(/^\d+$/, "is not a whole number of seconds")
  .regex(/^\d{1,9}$/, "must be 0 to 999999999")
  .transform(Number);

const patterns = z
  .string()
  .transform((value) => value.split(/[\s,]+/).filter((pattern) => pattern !== ""))
  .pipe(
    z.array(
      z
        .string()
        .regex(/^[a-z0-9._\-*]+(?:\/[a-z0-9._\-*]+)*$/, "is not a repository pattern such as team/* or mirror/**"),
    ),
  );

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

/** A setting that is missing or wrong. */
export class BadSetting extends Error {
  override readonly name = "BadSetting";
  readonly setting: string;
  readonly reason: string;

  constructor(setting: string, reason: string) {
    super(`setting ${setting}: ${reason}`);
    this.setting = setting;
    this.reason = reason;
  }
}

const parsed = new WeakMap<object, Config>();

/**
 * The settings, parsed once an isolate.
 * @param env the Worker's, or the settings alone
 * @throws BadSetting the first one
 */
export function configOf(env: object): Config {
  const known = parsed.get(env);
  if (known !== undefined) return known;
  const result = schema.safeParse(env);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw new BadSetting(String(issue?.path[0] ?? ""), issue?.message ?? "is not valid");
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
