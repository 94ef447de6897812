import { newKey } from "../../../src/blobs/keys.ts";
import { digestHex, parseDigest } from "../../../src/oci/digest.ts";
import { parseRepositoryName } from "../../../src/oci/repository.ts";
import { commitUpload } from "../../../src/uploads/commit.ts";
import { bare } from "./requester.ts";
import type { BareRequest } from "./worker.ts";

/** The registry's POST stores nothing either: an answer is all there is. */
export function beginUpload(): Response {
  return new Response(null, { status: 202, headers: { Location: `/upload/${crypto.randomUUID()}` } });
}

/** One R2 put that R2 checks, and the registry's own batch of a blob's rows. The reference is the upload's id. */
export async function putBlob({ request, env, reference, repository }: BareRequest): Promise<Response> {
  const digest = parseDigest(new URL(request.url).searchParams.get("digest") ?? "");
  const objectKey = newKey("blobs/", Date.now());
  const { size } = await env.BLOBS.put(objectKey, request.body, { sha256: digestHex(digest) });
  const blob = { repository: parseRepositoryName(repository), digest, size, objectKey };
  await commitUpload(env.DB, blob, reference, bare());
  return new Response(null, { status: 201 });
}

/** The body, which has a length, as one object; R2 alone touches its bytes. */
export async function putObject({ request, env, reference }: BareRequest): Promise<Response> {
  await env.BLOBS.put(reference, request.body);
  return new Response(null, { status: 201 });
}
