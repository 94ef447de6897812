import { atLeast, type Bar, compare, type Comparison } from "../figures.ts";
import type { Operation } from "../load.ts";
import { type Contestant, interleave, measureRate } from "../rounds.ts";
import type { Row, Stage } from "../stage.ts";
import type { Content } from "../content.ts";
import { bearer, makePuller } from "../puller.ts";

export const credentialsRow: Row = { id: "credentials", title: "manifest by digest, GET, by who asks" };

const CONNECTIONS = 16;

/** One reader may ask 60,000 times a minute, which a bench does. */
const READERS = 16;

/** What a pull costs that says who it is, beside one that need not: of one and the same registry, where everybody may pull. */
export async function runCredentials(stage: Stage): Promise<Comparison[]> {
  return stage.withRegistry(
    async (registry) => {
      const { content } = stage;
      const url = new URL(registry.url);
      url.username = "";
      url.password = "";
      const pullers: string[] = [];
      const bearers: string[] = [];
      for (let index = 0; index < READERS; index++) {
        const puller = await makePuller(registry, `puller-${String(index)}`);
        pullers.push(puller);
        bearers.push(`Bearer ${await bearer(registry, content.repository, puller)}`);
      }
      const ways: readonly Way[] = [
        {
          name: "nobody",
          headers: (index) => ({ "cf-connecting-ip": `10.0.0.${String(index % READERS)}` }),
          bar: null,
        },
        {
          name: "a bearer",
          headers: (index) => ({ authorization: bearers[index % READERS] ?? "" }),
          bar: atLeast(0.87),
        },
        {
          name: "an access token by Basic",
          headers: (index) => ({ authorization: pullers[index % READERS] ?? "" }),
          bar: atLeast(0.77),
        },
      ];
      const contestants = ways.map(({ name, headers }): Contestant => ({
        name,
        pid: registry.pid,
        measure: async () => measureRate(url.href, pull(content, headers), CONNECTIONS, stage.options.seconds),
      }));
      await interleave(contestants, 1);
      const figures = await interleave(contestants, stage.options.rounds);
      return ways
        .filter(({ bar }) => bar !== null)
        .map(({ name, bar }) =>
          compare({
            row: credentialsRow.id,
            title: `manifest by digest, GET, with ${name}`,
            unit: "/s",
            registry: figures.get(name),
            reference: figures.get("nobody"),
            referenceName: "nobody",
            bar,
          }),
        );
    },
    { ANONYMOUS_PULL: "**" },
  );
}

interface Way {
  readonly name: string;
  readonly headers: (index: number) => Readonly<Record<string, string>>;
  readonly bar: Bar | null;
}

function pull(content: Content, headers: Way["headers"]): Operation {
  return async (client, index) => {
    const manifest = content.manifests[index % content.manifests.length];
    await client.request({
      method: "GET",
      path: `/v2/${content.repository}/manifests/${manifest?.digest ?? ""}`,
      headers: headers(index),
      expect: [200],
    });
  };
}
