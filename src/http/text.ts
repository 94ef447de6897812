import type { Context } from "hono";

/** An answer of text with its length, which HEAD must tell as GET does, though its body is dropped on the way. */
export function text(
  c: Context,
  body: string,
  contentType: string,
  headers: Readonly<Record<string, string>> = {},
): Response {
  const length = new TextEncoder().encode(body).byteLength;
  return c.body(body, 200, { "Content-Type": contentType, "Content-Length": String(length), ...headers });
}

export function json(c: Context, value: unknown, headers: Readonly<Record<string, string>> = {}): Response {
  return text(c, JSON.stringify(value), "application/json", headers);
}
