import { etagOf } from "../http/conditional.ts";
import { inert } from "../http/inert.ts";
import type { Digest } from "../oci/digest.ts";
import type { RepositoryName } from "../oci/repository.ts";
import { cacheControl } from "./cache-control.ts";

/**
 * `Content-Encoding: identity` keeps proxies from compressing: the bytes, and their length, are what the digest is of.
 * @param freshMs as of `cacheControl`
 */
export function manifestHeaders(
  env: Env,
  repository: RepositoryName,
  digest: Digest,
  { mediaType, size }: { readonly mediaType: string; readonly size: number },
  freshMs: number,
): Record<string, string> {
  return {
    "Content-Type": mediaType,
    "Content-Length": String(size),
    "Content-Encoding": "identity",
    "Docker-Content-Digest": digest,
    ETag: etagOf(digest),
    "Cache-Control": cacheControl(env, repository, freshMs),
    ...inert,
  };
}

/**
 * A blob's bytes have no media type of their own here: descriptors name it. octet-stream also keeps proxies and browsers
 * from making anything else of them; `Content-Encoding: identity` says that they are as stored.
 * @param freshMs as of `cacheControl`
 */
export function blobHeaders(
  env: Env,
  repository: RepositoryName,
  digest: Digest,
  lengthBytes: number,
  freshMs: number,
): Record<string, string> {
  return {
    "Content-Type": "application/octet-stream",
    "Content-Length": String(lengthBytes),
    "Content-Encoding": "identity",
    "Accept-Ranges": "bytes",
    "Docker-Content-Digest": digest,
    ETag: etagOf(digest),
    "Cache-Control": cacheControl(env, repository, freshMs),
    ...inert,
  };
}
