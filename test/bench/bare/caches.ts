import type { BareRequest } from "./worker.ts";

const kept = new Map<string, Uint8Array>();

export async function putMemory({ request, reference }: BareRequest): Promise<Response> {
  kept.set(reference, await request.bytes());
  return new Response(null, { status: 201 });
}

/** The same bytes each time, from the isolate's memory. */
export function getMemory({ reference }: BareRequest): Response {
  const bytes = kept.get(reference);
  if (bytes === undefined) return new Response(null, { status: 404 });
  const headers = { "Content-Type": "application/octet-stream", "Content-Length": String(bytes.byteLength) };
  return new Response(bytes, { headers });
}

export async function putCache({ request, reference }: BareRequest): Promise<Response> {
  const cache = await caches.open("bench");
  const headers = { "Content-Type": "application/octet-stream", "Cache-Control": "max-age=3600" };
  await cache.put(`https://bench.invalid/${reference}`, new Response(await request.bytes(), { headers }));
  return new Response(null, { status: 201 });
}

/** The Cache API's own answer, passed through. */
export async function getCache({ reference }: BareRequest): Promise<Response> {
  const cache = await caches.open("bench");
  return (await cache.match(`https://bench.invalid/${reference}`)) ?? new Response(null, { status: 404 });
}
