/** What the command line shows. Much of it was written by others, such as the name in a login that failed. */

/** Text that can't end its line, or steer the terminal. */
export function onOneLine(text: string): string {
  return text.replaceAll(/\s*\n\s*/g, " ").replaceAll(/[\p{C}\u2028\u2029]/gu, escaped);
}

function escaped(letter: string): string {
  return `\\u{${(letter.codePointAt(0) ?? 0).toString(16)}}`;
}

/** Letters that JSON may have as they are, and that steer a terminal, or turn the direction in which it writes. */
const steering = /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** A value on one line, for a program that reads line after line. */
export function printJsonLine(value: unknown): void {
  console.log(harmless(JSON.stringify(value)));
}

export function printJson(value: unknown): void {
  console.log(harmless(JSON.stringify(value, null, 2)));
}

/** What went wrong, for a program that asked for JSON. */
export function printJsonError(code: string, message: string): void {
  console.error(harmless(JSON.stringify({ error: { code, message } })));
}

function harmless(json: string): string {
  return json.replaceAll(steering, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** What a cell shows; null and an empty text are a dash. */
export type Cell = string | null;

/** One line an entry, under the columns' names; where there are none, a word on stderr. */
export function printTable<T>(entries: readonly T[], columns: Readonly<Record<string, (entry: T) => Cell>>): void {
  if (entries.length === 0) {
    console.error("moorage: there are none");
    return;
  }
  const rows = [
    Object.keys(columns),
    ...entries.map((entry) => Object.values(columns).map((cell) => shown(cell(entry)))),
  ];
  printAligned(rows);
}

/** One line a field: its name, and what it has. */
export function printFields(fields: Readonly<Record<string, Cell>>): void {
  printAligned(Object.entries(fields).map(([name, cell]) => [name, shown(cell)]));
}

function shown(cell: Cell): string {
  return cell === null || cell === "" ? "-" : onOneLine(cell);
}

function printAligned(rows: readonly (readonly string[])[]): void {
  const columns = Math.max(...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, index) =>
    Math.max(...rows.map((row) => lengthOf(row[index] ?? ""))),
  );
  for (const row of rows) {
    const cells = row.map((cell, index) => cell + " ".repeat((widths[index] ?? 0) - lengthOf(cell)));
    console.log(cells.join("  ").trimEnd());
  }
}

function lengthOf(text: string): number {
  return Array.from(text).length;
}

/** A time of the API, to the second. */
export function timeCell(time: string | null): Cell {
  return time === null
    ? null
    : new Date(time)
        .toISOString()
        .replace("T", " ")
        .replace(/\.\d+Z$/, "Z");
}
