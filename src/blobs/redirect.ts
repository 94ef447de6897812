import { AwsClient } from "aws4fetch";
import { BadSecret, secretsOf } from "../access/secrets.ts";
import { BadSetting, configOf } from "../config.ts";
import { REDIRECT_SECONDS } from "../limits.ts";

const clients = new WeakMap<object, AwsClient>();

/** Whether R2 itself gives out a blob of so many bytes. */
export function isRedirected(env: Env, size: number): boolean {
  const { R2_S3_URL, REDIRECT_MIN_BYTES } = configOf(env);
  return REDIRECT_MIN_BYTES > 0 && size >= REDIRECT_MIN_BYTES && R2_S3_URL !== null;
}

/**
 * Where R2 itself gives out an object, for whoever has the address, for REDIRECT_SECONDS: an S3 URL that is signed here
 * (developers.cloudflare.com/r2/api/s3/presigned-urls). No operation.
 * @throws BadSecret where there is none to sign with, BadSetting where R2_S3_URL is not set
 */
export async function presignedUrl(env: Env, objectKey: string): Promise<string> {
  const { R2_S3_URL } = configOf(env);
  if (R2_S3_URL === null) throw new BadSetting("R2_S3_URL", "is empty");
  const client = clientOf(env);
  const url = new URL(`${R2_S3_URL}/${objectKey}`);
  url.searchParams.set("X-Amz-Expires", String(REDIRECT_SECONDS));
  const signed = await client.sign(url.href, { method: "GET", aws: { signQuery: true } });
  return signed.url;
}

function clientOf(env: Env): AwsClient {
  const known = clients.get(env);
  if (known !== undefined) return known;
  const { R2_ACCESS_KEY_ID: accessKeyId, R2_SECRET_ACCESS_KEY: secretAccessKey } = secretsOf(env);
  if (accessKeyId === undefined) throw new BadSecret("R2_ACCESS_KEY_ID", "is not set, and REDIRECT_MIN_BYTES needs it");
  if (secretAccessKey === undefined) {
    throw new BadSecret("R2_SECRET_ACCESS_KEY", "is not set, and REDIRECT_MIN_BYTES needs it");
  }
  const client = new AwsClient({ accessKeyId, secretAccessKey, service: "s3", region: "auto" });
  clients.set(env, client);
  return client;
}
