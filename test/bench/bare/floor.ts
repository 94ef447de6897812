import type { BareRequest } from "./worker.ts";

/** What no Worker on this kind of port is quicker than. */
export function hello({ request }: BareRequest): Response {
  const isHead = request.method === "HEAD";
  return isHead ? new Response(null, { headers: { "Content-Length": "5" } }) : new Response("hello");
}

const content = new Uint8Array(2048);

/** As long an answer as the registry's of a small manifest, with the headers that it has: what it takes to say all that. */
export function answer({ request, reference }: BareRequest): Response {
  const body = request.method === "HEAD" ? null : content;
  return new Response(body, {
    headers: {
      "Content-Type": "application/vnd.oci.image.manifest.v1+json",
      "Content-Length": String(content.byteLength),
      "Content-Encoding": "identity",
      "Docker-Content-Digest": reference,
      ETag: `"${reference}"`,
      "Cache-Control": "public, max-age=60, no-transform",
      "Content-Security-Policy": "sandbox; default-src 'none'",
      "X-Content-Type-Options": "nosniff",
      "Docker-Distribution-API-Version": "registry/2.0",
      "X-Request-Id": crypto.randomUUID(),
      "Server-Timing":
        'auth;dur=0, d1;desc="0";dur=0, r2;desc="0";dur=0, do;desc="0";dur=0, cache;desc="memory", total;dur=0',
    },
  });
}

/** As many D1 writes as the reference says, one after the other, each a row of a few bytes. */
export async function write({ env, reference }: BareRequest): Promise<Response> {
  for (let left = Number(reference); left > 0; left--) {
    await env.DB.prepare("INSERT INTO garbage (object_key, created_at) VALUES (?1, ?2)")
      .bind(crypto.randomUUID(), Date.now())
      .run();
  }
  return new Response(null, { status: 201 });
}
