/** An answer of text with its length, which HEAD must tell as GET does, though its body is dropped on the way. */
export function text(body: string, contentType: string, headers: Readonly<Record<string, string>> = {}): Response {
  const bytes = new TextEncoder().encode(body);
  return new Response(bytes, {
    headers: { "Content-Type": contentType, "Content-Length": String(bytes.byteLength), ...headers },
  });
}

export function json(value: unknown, headers: Readonly<Record<string, string>> = {}): Response {
  return text(JSON.stringify(value), "application/json", headers);
}
