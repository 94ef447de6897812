/**
 * The Cache API: what one data centre keeps, for all isolates in it. It is a cache of its own, under URLs of a host that
 * is none (RFC 2606) and of a path that only this registry knows (`namespace.ts`), so nothing in it can be had by asking the
 * registry, or the zone, for its URL: an answer from it is made after the access check, or not at all. What goes wrong in
 * it is as if it had nothing. Keys begin with the namespace.
 */
import { z } from "zod";
import type { ByteRange } from "../http/range.ts";
import { printError } from "../trace/log.ts";
import type { Held } from "./held.ts";

const CACHE_NAME = "moorage";
const HELD_HEADER = "X-Held";
const OBJECT_KEY_HEADER = "X-Object-Key";

const heldSchema = z.object({
  mediaType: z.string(),
  size: z.number(),
  objectKey: z.string().nullable(),
  hasBody: z.boolean(),
  untilMs: z.number(),
});

export interface CachedHeld {
  readonly held: Held;
  /** ms since 1970, from when on it is not to be believed */
  readonly untilMs: number;
}

export async function matchHeld(key: string, nowMs: number): Promise<CachedHeld | null> {
  const response = await match(key, {});
  if (response === null) return null;
  const parsed = heldSchema.safeParse(fromJson(response.headers.get(HELD_HEADER)));
  const bytes = await response.bytes().catch(() => null);
  if (!parsed.success || bytes === null) return null;
  const { hasBody, untilMs, ...row } = parsed.data;
  if (untilMs <= nowMs || (hasBody && bytes.byteLength !== row.size)) return null;
  return { held: { ...row, body: hasBody ? bytes : null }, untilMs };
}

export async function putHeld(key: string, held: Held, untilMs: number, nowMs: number): Promise<void> {
  const { mediaType, size, objectKey, body } = held;
  const row: z.infer<typeof heldSchema> = { mediaType, size, objectKey, hasBody: body !== null, untilMs };
  await put(key, body ?? new Uint8Array(), Math.ceil((untilMs - nowMs) / 1000), { [HELD_HEADER]: JSON.stringify(row) });
}

/**
 * @param objectKey R2's, from which the bytes have to be: what was damaged and pushed again has another one
 * @param slice bytes of the whole that is kept, both ends included
 */
export async function matchContent(
  key: string,
  objectKey: string,
  slice: ByteRange | null,
): Promise<ReadableStream | null> {
  const range = slice === null ? "" : `bytes=${String(slice.start)}-${String(slice.end)}`;
  const response = await match(key, slice === null ? {} : { Range: range });
  if (response === null) return null;
  const { headers, status } = response;
  const isCut = status === 206 && headers.get("Content-Range")?.startsWith(`${range.replace("=", " ")}/`) === true;
  if (headers.get(OBJECT_KEY_HEADER) === objectKey && (slice === null ? status === 200 : isCut)) return response.body;
  await response.body?.cancel();
  return null;
}

export async function putContent(
  key: string,
  objectKey: string,
  body: Uint8Array | ReadableStream,
  seconds: number,
): Promise<void> {
  const headers = { "Content-Type": "application/octet-stream", [OBJECT_KEY_HEADER]: objectKey };
  await put(key, body, Math.floor(seconds), headers);
}

/** Where it fails the entry ends by its age, as those of other data centres do. */
export async function remove(key: string): Promise<void> {
  try {
    const cache = await caches.open(CACHE_NAME);
    await cache.delete(url(key));
  } catch (error) {
    // Not the namespace, which nobody else is to know.
    printError({ notRemovedFromCache: key.slice(key.indexOf("/") + 1), error: String(error) });
  }
}

async function match(key: string, headers: Record<string, string>): Promise<Response | null> {
  try {
    const cache = await caches.open(CACHE_NAME);
    return (await cache.match(new Request(url(key), { headers }))) ?? null;
  } catch {
    return null;
  }
}

async function put(
  key: string,
  body: Uint8Array | ReadableStream,
  seconds: number,
  headers: Record<string, string>,
): Promise<void> {
  try {
    const cache = await caches.open(CACHE_NAME);
    const control = `public, max-age=${String(seconds)}`;
    await cache.put(url(key), new Response(body, { headers: { ...headers, "Cache-Control": control } }));
  } catch {
    // Nothing is lost by it: the next pull asks again.
  }
}

function url(key: string): string {
  return `https://moorage.invalid/${key}`;
}

function fromJson(text: string | null): unknown {
  try {
    return text === null ? null : JSON.parse(text);
  } catch {
    return null;
  }
}
