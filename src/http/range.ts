import { RANGES_MAX } from "../limits.ts";

/** Bytes `start` to `end`, both included. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export function bytesIn({ start, end }: ByteRange): number {
  return end - start + 1;
}

export type RangeAnswer =
  | { readonly kind: "whole" }
  | { readonly kind: "ranges"; readonly ranges: readonly [ByteRange, ...ByteRange[]] }
  | { readonly kind: "unsatisfiable" };

/**
 * The Range header for content of `size` bytes, RFC 9110 section 14. Another unit, or something that is no range, is
 * ignored as the RFC asks; a last byte before the first is refused, since a client that computed it wrong would take
 * the whole blob for its piece. More ranges than RANGES_MAX, or more bytes than the blob has, get the whole.
 */
export function parseRange(header: string | undefined, size: number): RangeAnswer {
  const list = /^bytes=(.+)$/i.exec(header?.trim() ?? "")?.[1];
  if (list === undefined) return { kind: "whole" };
  const ranges: ByteRange[] = [];
  let asked = 0;
  for (const piece of list.split(",").map((text) => text.trim())) {
    if (piece === "") continue;
    const match = /^(\d*)-(\d*)$/.exec(piece);
    if (match === null || (match[1] === "" && match[2] === "")) return { kind: "whole" };
    asked++;
    const range = resolveRange(match[1] ?? "", match[2] ?? "", size);
    if (range !== null) ranges.push(range);
  }
  if (asked === 0) return { kind: "whole" };
  const [first, ...rest] = ranges;
  if (first === undefined) return { kind: "unsatisfiable" };
  const bytes = ranges.reduce((sum, range) => sum + bytesIn(range), 0);
  if (ranges.length > RANGES_MAX || (ranges.length > 1 && bytes > size)) return { kind: "whole" };
  return { kind: "ranges", ranges: [first, ...rest] };
}

function resolveRange(first: string, last: string, size: number): ByteRange | null {
  if (first === "") {
    const length = Math.min(Number(last), size);
    return length === 0 ? null : { start: size - length, end: size - 1 };
  }
  const start = Number(first);
  const end = last === "" ? size - 1 : Math.min(Number(last), size - 1);
  return start >= size || end < start ? null : { start, end };
}

/**
 * Content-Range of a pushed chunk: `<start>-<end>` (distribution-spec v1.1.1 «Pushing a blob in chunks»); the form
 * of RFC 9110, `bytes <start>-<end>/<size or *>`, is read too, since some clients send it.
 * @returns null where it is neither
 */
export function parseChunkRange(header: string): ByteRange | null {
  const match = /^(?:bytes[ =])?(\d{1,15})-(\d{1,15})(?:\/(?:\*|\d+))?$/.exec(header.trim());
  if (match === null) return null;
  const range = { start: Number(match[1]), end: Number(match[2]) };
  return range.end < range.start ? null : range;
}
