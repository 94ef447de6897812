import { type Comparison, median } from "./figures.ts";
import type { OperationsOf } from "./rows/operations.ts";

/** Columns as wide as their widest cell; numbers to the right. */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => (row[column] ?? "").length)));
  const isNumber = header.map((_, column) => rows.every((row) => /^[-\d.×]/.test(row[column] ?? "")));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) =>
        isNumber[column] === true ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0),
      )
      .join("  ");
  return [line(header), widths.map((width) => "-".repeat(width)).join("  "), ...rows.map(line)]
    .map((text) => text.trimEnd())
    .join("\n");
}

export function formatComparisons(comparisons: readonly Comparison[]): string {
  return formatTable(
    ["row", "registry", "compared with", "", "ratio", "spread", "bar", "verdict", "CPU time"],
    comparisons.map((comparison) => [
      comparison.title,
      figure(median(comparison.registry), comparison.unit),
      comparison.referenceName,
      figure(median(comparison.reference), comparison.unit),
      digits(comparison.ratio),
      `${digits(Math.min(...comparison.ratios))}..${digits(Math.max(...comparison.ratios))}`,
      comparison.bar === null ? "" : `${comparison.bar.relation} ${String(comparison.bar.value)}`,
      comparison.verdict ?? "",
      comparison.cpuRatio === null ? "" : `x ${digits(comparison.cpuRatio)}`,
    ]),
  );
}

export function formatOperations(operations: readonly OperationsOf[]): string {
  return formatTable(
    ["request", "D1", "R2", "Durable Object"],
    operations.map(({ request, d1, r2, durableObjects }) => [request, String(d1), String(r2), String(durableObjects)]),
  );
}

function figure(value: number, unit: string): string {
  return `${digits(value)} ${unit}`;
}

function digits(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2);
}
