import { z } from "zod";
import { parsedOnce } from "./environment.ts";
import { EDGE_BLOB_MAX_BYTES, EDGE_MEMORY_MAX_BYTES, UPLOAD_TTL_MAX_SECONDS } from "./limits.ts";
import { repositoryPatternGrammar } from "./oci/repository-pattern.ts";

const seconds = z
  .string()
  .regex(/^\d+$/, "is not a whole number of seconds")
  .regex(/^\d{1,9}$/, "must be 0 to 999999999")
  .transform(Number);

const bytes = (most: number) =>
  z
    .string()
    .regex(/^\d{1,15}$/, "is not a whole number of bytes")
    .transform(Number)
    .refine((value) => value <= most, `must be 0 to ${String(most)}`);

const patterns = z
  .string()
  .transform((value) => value.split(/[\s,]+/).filter((pattern) => pattern !== ""))
  .pipe(z.array(z.string().regex(repositoryPatternGrammar, "is not a repository pattern such as team/* or mirror/**")));

/** `<team>.cloudflareaccess.com`, as it or as its URL. A URL of this machine is for tests: no deployed Worker gets there. */
const teamDomain = z.string().transform((text, context): string | null => {
  const value = text.trim().replace(/\/$/, "");
  if (value === "") return null;
  if (/^http:\/\/127\.0\.0\.1(:\d{1,5})?$/.test(value)) return value;
  const team = /^(?:https:\/\/)?([a-z0-9-]+)\.cloudflareaccess\.com$/.exec(value)?.[1];
  if (team !== undefined) return `https://${team}.cloudflareaccess.com`;
  context.addIssue({ code: "custom", message: "is not a team domain such as my-team.cloudflareaccess.com" });
  return z.NEVER;
});

const words = z.string().transform((value) => value.split(/[\s,]+/).filter((word) => word !== ""));

const settings = z.object({
  /** Whose Cloudflare Access tokens people may come with in the browser, as the origin of their issuer; null: nobody's. */
  ACCESS_TEAM_DOMAIN: teamDomain,
  /** The audience tags of the Access applications that stand before this registry. */
  ACCESS_AUD: words,
  /** E-mail addresses, in lower case, of who is an administrator when they come through Access. */
  ACCESS_ADMINS: words.transform((emails) => emails.map((email) => email.toLowerCase())).pipe(z.array(z.email())),
  /** Repositories that take manifests before, or without, what they name. `*` is one path part, `**` any number. */
  ALLOW_SPARSE: patterns,
  /** Repositories that everybody may pull, without login. */
  ANONYMOUS_PULL: patterns,
  /** Repositories whose pulls are kept in the audit too: a row each. */
  AUDIT_PULLS: patterns,
  /** How long the audit keeps a row. */
  AUDIT_RETENTION_DAYS: z
    .string()
    .regex(/^[1-9]\d{0,3}$/, "is not a number of days from 1 to 9999")
    .transform(Number),
  /** Largest blob that is kept in a data centre's cache; 0: none. */
  CACHE_BLOB_MAX_BYTES: bytes(EDGE_BLOB_MAX_BYTES),
  /** What an isolate may keep in its memory. */
  CACHE_MEMORY_BYTES: bytes(EDGE_MEMORY_MAX_BYTES),
  /** How long, in seconds, a cache answers who may only pull without asking the database; 0: nothing is cached. */
  CACHE_TTL: seconds,
  /** How long content that nothing references is kept, and how long it stays condemned before it goes. */
  GC_GRACE_SECONDS: seconds,
  /** Which requests have a line in the log. */
  LOG_REQUESTS: z.enum(["all", "errors", "none"], { error: "is one of all, errors, none" }),
  /** Largest body that the plan of this Worker's zone lets through; 0: not known. */
  MAX_BODY_BYTES: bytes(Number.MAX_SAFE_INTEGER),
  /** Blobs of at least so many bytes are pulled from R2 itself, by a redirect; 0: none are. */
  REDIRECT_MIN_BYTES: bytes(Number.MAX_SAFE_INTEGER),
  /** Where R2 speaks S3, with the bucket: https://<account>.r2.cloudflarestorage.com/<bucket>; null: nowhere. */
  R2_S3_URL: z
    .string()
    .transform((value) => value.trim().replace(/\/$/, ""))
    .pipe(z.union([z.literal(""), z.url({ protocol: /^https?$/ })]))
    .transform((value) => (value === "" ? null : value)),
  /** How far behind the database's replicas may be where who may only pull asks by tag, or for a list; 0: not at all. */
  TAG_STALENESS_SECONDS: seconds,
  /** Life of an upload session from its POST. */
  UPLOAD_TTL_SECONDS: seconds.refine(
    (value) => value >= 1 && value <= UPLOAD_TTL_MAX_SECONDS,
    `must be 1 to ${String(UPLOAD_TTL_MAX_SECONDS)}: R2 gives up an unfinished upload after seven days`,
  ),
});

/**
 * Without audience the tokens of the team's every application would do. Without team the others say nothing, which is not
 * what whoever set them meant.
 */
const schema = settings
  .refine((config) => config.ACCESS_TEAM_DOMAIN === null || config.ACCESS_AUD.length > 0, {
    path: ["ACCESS_AUD"],
    message: "has no audience tag, and ACCESS_TEAM_DOMAIN needs one: it is in the settings of the Access application",
  })
  .refine(
    (config) =>
      config.ACCESS_TEAM_DOMAIN !== null || (config.ACCESS_AUD.length === 0 && config.ACCESS_ADMINS.length === 0),
    {
      path: ["ACCESS_TEAM_DOMAIN"],
      message: "names no team, and ACCESS_AUD and ACCESS_ADMINS need one, such as my-team.cloudflareaccess.com",
    },
  )
  .refine((config) => config.REDIRECT_MIN_BYTES === 0 || config.R2_S3_URL !== null, {
    path: ["R2_S3_URL"],
    message: "is empty, and REDIRECT_MIN_BYTES needs it: https://<account>.r2.cloudflarestorage.com/<bucket>",
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

/**
 * The settings, of the Worker's env or by themselves.
 * @throws BadSetting the first one that is missing or wrong
 */
export const configOf = parsedOnce(schema, (name, reason) => new BadSetting(name, reason));

/**
 * How requests are told of: apart from the other settings, since it is needed too where one of those can't be read.
 * What can't be read here itself is as the default.
 */
export const observingOf = parsedOnce(
  z.object({
    /** which requests have a line in the log */
    LOG_REQUESTS: z.enum(["all", "errors", "none"]).catch("all"),
    /** set by `npm start` and `npm run dev`, never by a deployment */
    LOCAL_RUN: z
      .string()
      .optional()
      .transform((value) => value === "1"),
  }),
  (name, reason) => new BadSetting(name, reason),
);
