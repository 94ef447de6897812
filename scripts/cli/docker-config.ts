/** The file in which docker keeps logins, where most clients look for them: `config.json` in DOCKER_CONFIG, or ~/.docker. */
import { randomUUID } from "node:crypto";
import { chown, lstat, mkdir, readFile, readlink, realpath, rename, rm, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import { z } from "zod";
import { zodReason } from "../../src/oci/errors.ts";
import { isSystemError } from "../state-folder.ts";
import { Refusal } from "./refusal.ts";

/** Go, in which docker is written, reads a null as if the field were not there. */
const entrySchema = z
  .looseObject({
    /** base64 of `<user>:<password>` */
    auth: z.string().nullish(),
    /** a refresh token, in place of the password */
    identitytoken: z.string().nullish(),
    username: z.string().nullish(),
    password: z.string().nullish(),
  })
  .nullable();

const authsSchema = z.record(z.string(), entrySchema);

const configSchema = z.looseObject({
  auths: authsSchema.nullish(),
  credsStore: z.string().nullish(),
  credHelpers: z.record(z.string(), z.string()).nullish(),
});

export type AuthEntry = z.infer<typeof entrySchema>;
export type Auths = z.infer<typeof authsSchema>;

export interface DockerConfig {
  readonly file: string;
  readonly auths: Auths;
  /** The name of the helper that keeps all logins; "" for none. */
  readonly credsStore: string;
  /** Those of single servers. */
  readonly credHelpers: Readonly<Record<string, string>>;
  /** All that it has, whoever wrote it, in its order. */
  readonly fields: Readonly<Record<string, unknown>>;
}

export function dockerConfigFile(): string {
  const folder = process.env["DOCKER_CONFIG"] ?? "";
  return path.join(folder === "" ? path.join(homedir(), ".docker") : path.resolve(folder), "config.json");
}

/**
 * A file that is not there, or has nothing in it, is one without logins.
 * @throws Refusal where it can't be read, or does not have docker's form
 */
export async function readDockerConfig(): Promise<DockerConfig> {
  const file = dockerConfigFile();
  const text = await readFile(file, "utf8").catch((error: unknown) => {
    if (isSystemError(error, "ENOENT")) return "";
    throw isSystemError(error) ? new Refusal(`docker's logins can't be read: ${error.message}`) : error;
  });
  return parseDockerConfig(file, text.trim() === "" ? "{}" : text);
}

/** @throws Refusal, without what is in it: that may be a password */
function parseDockerConfig(file: string, text: string): DockerConfig {
  let fields: unknown;
  try {
    fields = JSON.parse(text);
  } catch {
    throw new Refusal(`${file} is no JSON: mend it, or move it away; it stays as it is`);
  }
  const config = configSchema.safeParse(fields);
  if (!config.success) {
    throw new Refusal(`${file} is not as docker writes it (${zodReason(config.error)}); it stays as it is`);
  }
  const { auths, credsStore, credHelpers } = config.data;
  return {
    file,
    auths: auths ?? {},
    credsStore: credsStore ?? "",
    credHelpers: credHelpers ?? {},
    fields: z.record(z.string(), z.unknown()).parse(fields),
  };
}

/** The logins of the variable DOCKER_AUTH_CONFIG, which come before all others; as docker, of one that can't be read none. */
export function authsOfEnvironment(): Auths {
  try {
    const config = configSchema.safeParse(JSON.parse(process.env["DOCKER_AUTH_CONFIG"] ?? ""));
    return config.data?.auths ?? {};
  } catch {
    return {};
  }
}

/**
 * Puts fields in the place of those of the same name. The file is whole at every moment, and its owner's alone, whose it
 * was before; one that is a link stays one.
 * @throws Refusal
 */
export async function changeDockerConfig(
  { file, fields }: DockerConfig,
  changed: Readonly<Record<string, unknown>>,
): Promise<void> {
  try {
    const target = await targetOf(file);
    await mkdir(path.dirname(target), { recursive: true, mode: 0o700 });
    const draft = `${target}.${randomUUID()}`;
    try {
      await writeFile(draft, `${JSON.stringify({ ...fields, ...changed }, null, "\t")}\n`, { mode: 0o600, flag: "wx" });
      await keepOwner(target, draft);
      await rename(draft, target);
    } finally {
      await rm(draft, { force: true });
    }
  } catch (error) {
    throw isSystemError(error) ? new Refusal(`the login can't be kept: ${error.message}`, { cause: error }) : error;
  }
}

/** Where a link leads, also to a file that is not there yet. */
async function targetOf(file: string): Promise<string> {
  try {
    return await realpath(file);
  } catch (error) {
    if (!isSystemError(error, "ENOENT")) throw error;
    const entry = await lstat(file).catch(() => null);
    return entry?.isSymbolicLink() === true ? path.resolve(path.dirname(file), await readlink(file)) : file;
  }
}

/** As root, in somebody's home: the file stays theirs. */
async function keepOwner(target: string, draft: string): Promise<void> {
  const [before, now] = await Promise.all([stat(target).catch(() => null), stat(draft)]);
  if (before !== null && (before.uid !== now.uid || before.gid !== now.gid)) await chown(draft, before.uid, before.gid);
}
