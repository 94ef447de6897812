import { OciError } from "../oci/errors.ts";

/**
 * Refuses what a page of another origin made a browser send, which it can do with a form, or with what the browser
 * remembers of a login: another site's page, or that of another program on this machine. A client is no browser, and says
 * nothing of origins.
 * @throws OciError DENIED
 */
export function refuseForeignPage(request: Request, what: string): void {
  if (!isForeignPage(request)) return;
  throw new OciError("DENIED", { reason: `a page of another site may not ${what} here` });
}

function isForeignPage({ headers, url }: Request): boolean {
  const site = headers.get("sec-fetch-site");
  if (site !== null) return site !== "same-origin" && site !== "none";
  const origin = headers.get("origin");
  return origin !== null && origin !== new URL(url).origin;
}
