import { atLeast, compare, type Bar, type Comparison } from "../figures.ts";
import { interleave, measureRate, type RateRow } from "../rounds.ts";
import type { Other, Row, Stage } from "../stage.ts";
import { smallPushRow } from "./pushes.ts";
import { referrersRow } from "./referrers.ts";

export const peerRow: Row = { id: "peer", title: "beside cloudflare/serverless-registry, both under wrangler dev" };

const compared: readonly { readonly row: RateRow; readonly bar: Bar }[] = [
  { row: smallPushRow, bar: atLeast(2.5) },
  { row: referrersRow, bar: atLeast(10) },
];

/** Runs where both base URLs are given: the peer is not part of this project, and `npm run dev` asks for a port. */
export async function runPeer(stage: Stage): Promise<Comparison[]> {
  const { peer, dev, rounds, seconds } = stage.options;
  if (peer === null || dev === null) {
    console.error("  needs --peer and --dev");
    return [];
  }
  const [registry, reference] = await Promise.all([
    stage.seeded("npm run dev", dev),
    stage.seeded("serverless-registry", peer),
  ]);
  const comparisons: Comparison[] = [];
  for (const { row, bar } of compared) {
    const side = ({ name, url, content }: Other) => ({
      name,
      measure: async () => measureRate(url, row.work.oci(content), row.connections, seconds),
    });
    const contestants = [side(registry), side(reference)];
    await interleave(contestants, 1);
    const figures = await interleave(contestants, rounds);
    comparisons.push(
      compare({
        row: peerRow.id,
        title: `${row.title}, under wrangler dev`,
        unit: "/s",
        registry: figures.get(registry.name),
        reference: figures.get(reference.name),
        referenceName: reference.name,
        bar,
      }),
    );
  }
  return comparisons;
}
