/** An answer of text with its length, which HEAD must tell as GET does, though its body is dropped on the way. */
export function text(
  body: string,
  contentType: string,
  headers: Readonly<Record<string, string>> = {},
  status = 200,
): Response {
  const bytes = new TextEncoder().encode(body);
  return new Response(bytes, {
    status,
    headers: { "Content-Type": contentType, "Content-Length": String(bytes.byteLength), ...headers },
  });
}

export function json(value: unknown, headers: Readonly<Record<string, string>> = {}, status = 200): Response {
  return text(JSON.stringify(value), "application/json", headers, status);
}
