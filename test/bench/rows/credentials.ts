import { atLeast, type Bar, compare, type Comparison } from "../figures.ts";
import type { Operation } from "../load.ts";
import { type Contestant, interleave, measureRate } from "../rounds.ts";
import type { Row, Stage } from "../stage.ts";
import type { Content } from "../content.ts";
import { bearer, makePuller } from "../puller.ts";

export const credentialsRow: Row = { id: "credentials", title: "manifest by digest, GET, by who asks" };

const CONNECTIONS = 16;

/** What a pull costs that says who it is, beside one that need not: of one and the same registry, where everybody may pull. */
export async function runCredentials(stage: Stage): Promise<Comparison[]> {
  return stage.withRegistry(
    async (registry) => {
      const { content } = stage;
      const url = new URL(registry.url);
      url.username = "";
      url.password = "";
      const puller = await makePuller(registry);
      const ways: readonly { readonly name: string; readonly headers: Headers; readonly bar: Bar | null }[] = [
        { name: "nobody", headers: {}, bar: null },
        {
          name: "a bearer",
          headers: { authorization: `Bearer ${await bearer(registry, content.repository, puller)}` },
          bar: atLeast(0.87),
        },
        {
          name: "an access token by Basic",
          headers: { authorization: puller },
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

type Headers = Readonly<Record<string, string>>;

function pull(content: Content, headers: Headers): Operation {
  return async (client, index) => {
    const manifest = content.manifests[index % content.manifests.length];
    await client.request({
      method: "GET",
      path: `/v2/${content.repository}/manifests/${manifest?.digest ?? ""}`,
      headers,
      expect: [200],
    });
  };
}
