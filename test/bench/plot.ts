/**
 * Draws a run of `npm run bench`: `node test/bench/plot.ts [results.json] [figures.svg]`. One line a comparison: the ratio, from
 * the lowest to the highest of its rounds, and where its bar stands.
 */
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";

const schema = z.object({
  machine: z.object({ date: z.string(), cores: z.number() }),
  rounds: z.number(),
  comparisons: z.array(
    z.object({
      title: z.string(),
      referenceName: z.string(),
      ratios: z.array(z.number()),
      ratio: z.number(),
      unit: z.string(),
      bar: z.object({ relation: z.enum(["at least", "at most"]), value: z.number() }).nullable(),
      verdict: z.enum(["meets", "misses", "undecided"]).nullable(),
    }),
  ),
});

type Run = z.infer<typeof schema>;

const LINE = 22;
const LEFT = 420;
const WIDTH = 420;
const RIGHT = 60;
const TOP = 46;
/** Ratios from an eighth to eight times, by their logarithm: half as fast is as far as twice as fast. */
const SPAN = 3;

const colours = { meets: "#1a7f37", undecided: "#9a6700", misses: "#cf222e", none: "#57606a" } as const;

export function plot(run: Run): string {
  // What is a difference, not a ratio, has another scale.
  const rows = run.comparisons.filter(({ unit }) => unit !== "MiB");
  const height = TOP + rows.length * LINE + 30;
  const ticks = [0.125, 0.25, 0.5, 1, 2, 4, 8];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${String(LEFT + WIDTH + RIGHT)}" height="${String(height)}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    `<text x="8" y="18" font-weight="bold">Moorage beside others: ratio of one run, ${String(run.rounds)} rounds, ${String(run.machine.cores)} cores, ${run.machine.date.slice(0, 10)}</text>`,
    ...ticks.flatMap((tick) => [
      `<line x1="${at(tick)}" y1="${String(TOP - 8)}" x2="${at(tick)}" y2="${String(height - 26)}" stroke="${tick === 1 ? "#57606a" : "#d0d7de"}"/>`,
      `<text x="${at(tick)}" y="${String(height - 10)}" text-anchor="middle" fill="#57606a">${String(tick)}</text>`,
    ]),
    ...rows.flatMap((row, index) => lineOf(row, TOP + index * LINE + LINE / 2)),
    `<text x="8" y="${String(height - 10)}" fill="#57606a">line: lowest to highest round; dot: median; mark: what we aim at</text>`,
    "</svg>",
    "",
  ].join("\n");
}

function lineOf(
  { title, referenceName, ratio, ratios, bar, verdict }: Run["comparisons"][number],
  y: number,
): string[] {
  const colour = colours[verdict ?? "none"];
  return [
    `<text x="8" y="${String(y + 4)}">${escaped(`${title} : ${referenceName}`)}</text>`,
    `<line x1="${at(Math.min(...ratios))}" y1="${String(y)}" x2="${at(Math.max(...ratios))}" y2="${String(y)}" stroke="${colour}" stroke-width="3" stroke-opacity="0.4"/>`,
    `<circle cx="${at(ratio)}" cy="${String(y)}" r="4" fill="${colour}"/>`,
    ...(bar === null ? [] : [`<path d="M ${at(bar.value)} ${String(y - 8)} v 16" stroke="#0969da" stroke-width="2"/>`]),
    `<text x="${String(LEFT + WIDTH + 12)}" y="${String(y + 4)}" fill="${colour}">${ratio.toFixed(2)}</text>`,
  ];
}

function at(ratio: number): string {
  const place = Math.min(SPAN, Math.max(-SPAN, Math.log2(ratio)));
  return (LEFT + ((place + SPAN) / (2 * SPAN)) * WIDTH).toFixed(1);
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

if (import.meta.main) {
  const [
    results = path.join(import.meta.dirname, "../results/bench.json"),
    image = path.join(import.meta.dirname, "figures.svg"),
  ] = process.argv.slice(2);
  await writeFile(image, plot(schema.parse(JSON.parse(await readFile(results, "utf8")))));
  console.log(`drawn in ${image}`);
}
