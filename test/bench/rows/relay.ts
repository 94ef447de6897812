import { atLeast, compare, type Comparison } from "../figures.ts";
import { interleave } from "../rounds.ts";
import { startRelay } from "../servers.ts";
import type { Row, Stage } from "../stage.ts";
import { pushByChunks, pushByPatch, pushing } from "./layers.ts";

export const relayRow: Row = { id: "relay", title: "layer of 1.5 GB through the relay" };

const BYTES = 1_500_000_000;
const QUICK_BYTES = 200_000_000;
const CHUNK_BYTES = 32 * 1024 * 1024;

/** As docker sends it to the relay, beside the same bytes sent as chunks, and in one request, to the registry itself. */
export async function runRelay(stage: Stage): Promise<Comparison[]> {
  const { quick, rounds } = stage.options;
  const bytes = quick ? QUICK_BYTES : BYTES;
  return stage.withRegistry(async (registry) => {
    const relay = await startRelay(registry.url);
    try {
      const { repository } = stage.content;
      const contestants = [
        pushing("relay", relay.url, repository, bytes, pushByPatch),
        pushing("chunks of 32 MiB", registry.url, repository, bytes, pushByChunks(CHUNK_BYTES)),
        pushing("one PATCH", registry.url, repository, bytes, pushByPatch),
      ];
      const figures = await interleave(contestants, Math.min(rounds, 3));
      return ["chunks of 32 MiB", "one PATCH"].map((reference) =>
        compare({
          row: relayRow.id,
          title: relayRow.title,
          unit: "MiB/s",
          registry: figures.get("relay"),
          reference: figures.get(reference),
          referenceName: reference,
          bar: reference === "one PATCH" ? null : atLeast(0.8),
        }),
      );
    } finally {
      await relay.stop();
    }
  });
}
