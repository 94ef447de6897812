import { randomBytes } from "node:crypto";
import { atLeast, atMost, compare, type Comparison, median } from "../figures.ts";
import { drive, type Operation } from "../load.ts";
import { digestOf, imageManifest, imageManifestOf, layerOf, pushBlob, putManifest, randomText } from "../oci.ts";
import { answeringOf, type Contestant, interleave, measureRates, type RateRow } from "../rounds.ts";
import type { Row, Stage, Work } from "../stage.ts";

const SMALL_BYTES = 2048;

/** A new blob of 2 KB (POST, PUT) and a manifest that names it and a config that is there, under a new tag. */
export const smallPushRow: RateRow = {
  id: "small-push",
  title: "small artifact, push",
  connections: 8,
  bar: atLeast(0.75),
  work: {
    oci:
      ({ repository, config }) =>
      async (client) => {
        const bytes = randomBytes(SMALL_BYTES);
        await pushBlob(client, repository, bytes);
        await putManifest(
          client,
          repository,
          `v${randomText()}`,
          imageManifestOf({ config, layers: [layerOf(bytes)] }, SMALL_BYTES),
        );
      },
    bare:
      ({ repository, config }) =>
      async (client) => {
        const bytes = randomBytes(SMALL_BYTES);
        const layer = layerOf(bytes);
        const begun = await client.request({ method: "POST", path: `/upload//${repository}`, expect: [202] });
        await client.request({
          method: "PUT",
          path: `${begun.headers.location ?? ""}/${repository}?digest=${layer.digest}`,
          headers: { "content-length": String(bytes.byteLength) },
          body: bytes,
          expect: [201],
        });
        const manifest = imageManifestOf({ config, layers: [layer] }, SMALL_BYTES);
        await client.request(bareManifest(repository, manifest));
      },
  },
};

export async function runSmallPush(stage: Stage): Promise<Comparison[]> {
  return stage.withPair((pair) =>
    stage.withDistribution(async (distribution) =>
      measureRates(stage, smallPushRow, pair, [
        ...(distribution === null ? [] : [distribution]),
        ...(await stage.others()),
      ]),
    ),
  );
}

export const wideManifestRow: Row = { id: "manifest-60", title: "manifest of 60 layers, PUT, p50" };

/** A manifest that nobody has put before, under a new tag; its layers are all there. */
export const wideManifest: Work = {
  oci:
    ({ repository, config, layers }) =>
    async (client) =>
      putManifest(
        client,
        repository,
        `v${randomText()}`,
        imageManifestOf({ config, layers, annotations: { nonce: randomText() } }),
      ),
  bare:
    ({ repository, config, layers }) =>
    async (client) => {
      await client.request(
        bareManifest(repository, imageManifestOf({ config, layers, annotations: { nonce: randomText() } })),
      );
    },
};

export async function runWideManifest(stage: Stage): Promise<Comparison[]> {
  return stage.withPair((pair) =>
    stage.withDistribution(async (distribution) => {
      const others = [...(distribution === null ? [] : [distribution]), ...(await stage.others())];
      const operations = stage.options.quick ? 20 : 60;
      const side = (
        name: string,
        server: { readonly url: string; readonly pid?: number },
        operation: Operation,
      ): Contestant => ({
        name,
        ...(server.pid === undefined ? {} : { pid: server.pid }),
        measure: async () => {
          const { latenciesMs } = await drive(server.url, operation, { connections: 1, until: { operations } });
          return { figure: median(latenciesMs), operations };
        },
      });
      const contestants = await answeringOf([
        side("registry", pair.registry, wideManifest.oci(pair.content)),
        side("bare Worker", pair.bare, wideManifest.bare(pair.content)),
        ...others.map((other) => side(other.name, { url: other.url }, wideManifest.oci(other.content))),
      ]);
      const figures = await interleave(contestants, stage.options.rounds);
      const bars = new Map([
        ["bare Worker", atMost(2)],
        ["distribution", atMost(0.5)],
      ]);
      return contestants.slice(1).map(({ name }) =>
        compare({
          row: wideManifestRow.id,
          title: wideManifestRow.title,
          unit: "ms",
          registry: figures.get("registry"),
          reference: figures.get(name),
          referenceName: name,
          bar: bars.get(name) ?? null,
        }),
      );
    }),
  );
}

function bareManifest(repository: string, manifest: Uint8Array) {
  return {
    method: "PUT",
    path: `/manifest/v${randomText()}/${repository}?digest=${digestOf(manifest)}`,
    headers: { "content-type": imageManifest, "content-length": String(manifest.byteLength) },
    body: manifest,
    expect: [201],
  };
}
