import type { Client } from "../client.ts";
import { REFERRERS } from "../content.ts";
import { atLeast, type Comparison } from "../figures.ts";
import { measureRates, type RateRow } from "../rounds.ts";
import type { Stage } from "../stage.ts";

export const referrersRow: RateRow = {
  id: "referrers",
  title: `referrers of a subject that has ${String(REFERRERS)}`,
  connections: 4,
  bar: atLeast(0.8),
  work: {
    oci:
      ({ repository, subject }) =>
      async (client, index) =>
        list(client, `/v2/${repository}/referrers/${subject.digest}`, index),
    bare:
      ({ repository, subject }) =>
      async (client, index) =>
        list(client, `/referrers/${subject.digest}/${repository}`, index),
  },
};

export async function runReferrers(stage: Stage): Promise<Comparison[]> {
  return stage.withPair(async (pair) => measureRates(stage, referrersRow, pair, await stage.others()));
}

/** The whole list, page by page where a registry gives it so. Now and then it is read, to see that it is whole. */
async function list(client: Client, path: string, index: number): Promise<void> {
  const looked = index % 50 === 0;
  let entries = 0;
  for (let next: string | undefined = path; next !== undefined;) {
    const answer = await client.request({
      method: "GET",
      path: next,
      headers: { accept: "*/*" },
      expect: [200],
      keepBody: looked,
    });
    entries += answer.body.toString("utf8").split('"digest":').length - 1;
    next = nextPage(answer.headers.link);
  }
  if (looked && entries !== REFERRERS) {
    throw new Error(`${path} lists ${String(entries)} of ${String(REFERRERS)} referrers`);
  }
}

function nextPage(link: string | string[] | undefined): string | undefined {
  return typeof link === "string" ? /^<([^>]+)>; *rel="?next"?/.exec(link)?.[1] : undefined;
}
