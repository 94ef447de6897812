/** The client's IP address as Cloudflare tells it; a client can't set this header there. null where there is none. */
export function addressOf(request: Request): string | null {
  return request.headers.get("cf-connecting-ip");
}
