/**
 * A `Warning` header as clients print it (distribution-spec v1.1.1 «Warnings»): code 299, agent `-`, a quoted text
 * without control characters or bytes beyond ASCII.
 */
export function warningHeader(sentence: string): string {
  const printable = sentence.replace(/[^\x20-\x7e]/g, "?").replace(/["\\]/g, "\\$&");
  return `299 - "${printable}"`;
}
