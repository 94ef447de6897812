import type { Context } from "hono";
import { OciError } from "../oci/errors.ts";

export interface PageQuery {
  /** most names wanted; 0 is an empty page */
  readonly limit: number;
  /** the page begins after this name; "" is the beginning */
  readonly last: string;
}

/**
 * `n` and `last` of end-8b, distribution-spec v1.1.1 «Listing Tags».
 * @param most names in a page, whatever `n` says
 * @throws OciError UNSUPPORTED (400) where `n` is not a whole number
 */
export function pageQuery(c: Context, most: number): PageQuery {
  const n = c.req.query("n");
  if (n !== undefined && !/^\d{1,15}$/.test(n)) {
    throw new OciError("UNSUPPORTED", { reason: "n is a whole number, 0 or more", n: n.slice(0, 64) }, { status: 400 });
  }
  return { limit: n === undefined ? most : Math.min(Number(n), most), last: c.req.query("last") ?? "" };
}

/** RFC 8288; relative, so that it holds behind any proxy, and in the form that oras-go and ggcr read. */
export function nextLink(path: string, parameters: Readonly<Record<string, string>>): Record<string, string> {
  return { Link: `<${path}?${new URLSearchParams(parameters).toString()}>; rel="next"` };
}
