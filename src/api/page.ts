import { z } from "zod";
import { nextLink } from "../http/page.ts";

const USUAL = 100;

/** `n` of a list: the most that a page has. */
export function pageSize(most: number) {
  return z.coerce.number().int().min(1).max(most).default(USUAL);
}

/**
 * The page of a list that was read one further than the page goes, with its Link.
 * @param parametersOf those of the next page, from this one's last entry
 */
export function pageOf<T>(
  found: readonly T[],
  size: number,
  path: string,
  parametersOf: (last: T) => Readonly<Record<string, string>>,
): { readonly page: T[]; readonly headers: Record<string, string> } {
  const page = found.slice(0, size);
  const last = page.at(-1);
  const more = found.length > size && last !== undefined;
  return { page, headers: more ? nextLink(path, { ...parametersOf(last), n: String(size) }) : {} };
}
