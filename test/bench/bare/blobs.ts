import { findBlob } from "../../../src/blobs/store.ts";
import { parseDigest } from "../../../src/oci/digest.ts";
import { parseRepositoryName } from "../../../src/oci/repository.ts";
import type { BareRequest } from "./worker.ts";

const type = { "Content-Type": "application/octet-stream" };

export async function headBlob({ env, reference, repository }: BareRequest): Promise<Response> {
  const row = await findBlob(env.DB, parseRepositoryName(repository), parseDigest(reference));
  if (row === null) return new Response(null, { status: 404 });
  return new Response(null, { headers: { ...type, "Content-Length": String(row.size) } });
}

/** One D1 query and one R2 get: of the whole object, or of the one range that the request names. */
export async function getBlob({ request, env, reference, repository }: BareRequest): Promise<Response> {
  const row = await findBlob(env.DB, parseRepositoryName(repository), parseDigest(reference));
  if (row === null) return new Response(null, { status: 404 });
  const range = request.headers.has("range") ? { range: request.headers } : {};
  const object = await env.BLOBS.get(row.objectKey, range);
  if (object === null) return new Response(null, { status: 404 });
  if (object.range === undefined || !request.headers.has("range")) {
    return new Response(object.body, { headers: { ...type, "Content-Length": String(row.size) } });
  }
  const length = "length" in object.range ? (object.range.length ?? row.size) : row.size;
  return new Response(object.body, { status: 206, headers: { ...type, "Content-Length": String(length) } });
}

/** R2's own stream, passed through; D1 is not asked. */
export async function getObject({ env, reference }: BareRequest): Promise<Response> {
  const object = await env.BLOBS.get(reference);
  if (object === null) return new Response(null, { status: 404 });
  return new Response(object.body, { headers: { ...type, "Content-Length": String(object.size) } });
}
