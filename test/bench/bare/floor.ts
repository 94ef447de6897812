import type { BareRequest } from "./worker.ts";

/** What no Worker on this kind of port is quicker than. */
export function hello({ request }: BareRequest): Response {
  const isHead = request.method === "HEAD";
  return isHead ? new Response(null, { headers: { "Content-Length": "5" } }) : new Response("hello");
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
