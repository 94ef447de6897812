/** The one place that prints: the platform collects what a Worker prints, and each line of it is JSON. */

export function printLines(lines: readonly string[]): void {
  console.log(lines.join("\n"));
}

/** Of a fault of ours. Neither a secret nor a header belongs in it. */
export function printError(line: Readonly<Record<string, unknown>>): void {
  console.error(JSON.stringify(line));
}
