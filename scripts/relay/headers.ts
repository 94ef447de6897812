/** Header fields as Node gives and takes them raw: name, value, name, value. */

/** What is between two hops, RFC 9110 section 7.6.1. A message's own framing is each hop's too. */
const hopByHop = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "transfer-encoding",
  "upgrade",
]);

export type Field = readonly [name: string, value: string];

/** The fields that go on to the other side, without those that the message's own `Connection` names. */
export function endToEnd(raw: readonly string[]): Field[] {
  const fields = pairs(raw);
  const named = fields
    .filter(([name]) => name.toLowerCase() === "connection")
    .flatMap(([, value]) => value.split(",").map((option) => option.trim().toLowerCase()));
  const dropped = new Set([...hopByHop, ...named]);
  return fields.filter(([name]) => !dropped.has(name.toLowerCase()));
}

export function pairs(raw: readonly string[]): Field[] {
  return raw.flatMap((name, at): Field[] => (at % 2 === 0 ? [[name, raw[at + 1] ?? ""]] : []));
}

/** In the form of http.request: a name with all its values, spelled as it came first. */
export function outgoing(fields: readonly Field[]): Record<string, string | string[]> {
  const byName = new Map<string, { readonly name: string; readonly values: string[] }>();
  for (const [name, value] of fields) {
    const known = byName.get(name.toLowerCase());
    if (known === undefined) byName.set(name.toLowerCase(), { name, values: [value] });
    else known.values.push(value);
  }
  return Object.fromEntries(
    [...byName.values()].map(({ name, values }) => [name, values.length === 1 ? (values[0] ?? "") : values]),
  );
}

/** The first value of a field; null where it has none. */
export function valueOf(fields: readonly Field[], wanted: string): string | null {
  return fields.find(([name]) => name.toLowerCase() === wanted)?.[1] ?? null;
}

export function without(fields: readonly Field[], ...names: readonly string[]): Field[] {
  return fields.filter(([name]) => !names.includes(name.toLowerCase()));
}

/** The number in `Content-Length`; null where it says none. */
export function lengthOf(text: string | null | undefined): number | null {
  return text !== null && text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : null;
}
