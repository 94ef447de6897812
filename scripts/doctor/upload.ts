/** Uploads, as clients make them: end-4a, end-5, end-6 of distribution-spec v1.1.1, and end-14 of its main branch. */
import { requireStatus, requireStatusOrRight } from "./answers.ts";
import type { Blob } from "./content.ts";
import type { Examined } from "./examination.ts";
import type { Answer } from "./exchange.ts";
import { Failed } from "./verdict.ts";

export interface Begun {
  readonly location: URL;
  /** The least that the registry wants in a chunk that is not the last, bytes; 0 where it does not say. */
  readonly chunkMinBytes: number;
}

/** @throws Failed, Skipped, Unanswered, Interrupted */
export async function beginUpload(examined: Examined): Promise<Begun> {
  const { client, repository } = examined;
  const answer = await client.send("POST", `/v2/${repository}/blobs/uploads/`);
  const wanted = `POST /v2/${repository}/blobs/uploads/`;
  requireStatusOrRight(answer, [202], wanted);
  const location = locationIn(examined, answer, wanted);
  examined.pushed.upload(location);
  return { location, chunkMinBytes: Number(answer.headers["oci-chunk-min-length"] ?? 0) || 0 };
}

/** Where the upload goes on. @throws Failed where no client would */
export function locationIn({ client }: Examined, answer: Answer, wanted: string): URL {
  const { location } = answer.headers;
  const expected = `a Location at ${client.origin.host} with the answer to ${wanted}`;
  if (location === undefined || !URL.canParse(location, answer.url.href)) {
    throw new Failed({
      expected,
      seen: location === undefined ? "no Location" : `Location: ${location}`,
      mend: "let a proxy before the registry pass Location on",
    });
  }
  const url = new URL(location, answer.url);
  if (url.origin !== client.origin.origin) {
    throw new Failed({
      expected,
      seen: `clients are sent to ${url.origin}, without their login`,
      mend: "let the proxy before the registry pass Host and X-Forwarded-Proto on, or set the registry's public address",
    });
  }
  return url;
}

/** Ends an upload that is wanted no more, if the registry has that; without it, it ends by itself. */
export async function cancelUpload({ client, pushed }: Examined, location: URL): Promise<Answer> {
  const answer = await client.send("DELETE", location);
  pushed.uploadEnded(location);
  return answer;
}

/** The whole blob in one PUT, as containerd, oras and buildkit push. @throws Failed, Skipped, Unanswered, Interrupted */
export async function pushBlob(
  examined: Examined,
  { digest, bytes }: Blob & { readonly bytes: Buffer },
): Promise<void> {
  const { location } = await beginUpload(examined);
  const answer = await putDigest(examined, location, digest, bytes);
  requireStatus(answer, [201], "the PUT of a whole blob");
}

/** end-6, without a look at the answer. */
export async function putDigest(
  { client, pushed }: Examined,
  location: URL,
  digest: string,
  bytes: Buffer,
): Promise<Answer> {
  const target = new URL(location);
  target.searchParams.set("digest", digest);
  pushed.blob(digest);
  const headers = { "Content-Type": "application/octet-stream" };
  const answer = await client.send("PUT", target, { headers, body: bytes });
  if (answer.status === 201) pushed.uploadEnded(location);
  return answer;
}

/** end-5. */
export function patchChunk({ client }: Examined, location: URL, startByte: number, bytes: Buffer): Promise<Answer> {
  const headers = {
    "Content-Type": "application/octet-stream",
    "Content-Range": `${String(startByte)}-${String(startByte + bytes.byteLength - 1)}`,
  };
  return client.send("PATCH", location, { headers, body: bytes });
}

/** That the upload stands there. @throws Failed */
export function requireRange(answer: Answer, lengthBytes: number, wanted: string): void {
  const expected = `Range: 0-${String(lengthBytes - 1)} with the answer to ${wanted}`;
  const range = answer.headers.range;
  // Some write it with the unit.
  if (range === `0-${String(lengthBytes - 1)}` || range === `bytes=0-${String(lengthBytes - 1)}`) return;
  throw new Failed({
    expected,
    seen: range === undefined ? "no Range" : `Range: ${range}`,
    mend: "let a proxy before the registry pass Range on with answers, and bodies whole: docker reads from it how far it is",
  });
}
