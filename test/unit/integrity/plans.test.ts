import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { collectSteps } from "../../../src/lifecycle/collect.ts";
import { insertReferencesSql, nouns } from "../../../src/integrity/nouns.ts";
import { runIntegrityJobs } from "../../../src/integrity/jobs.ts";
import { selectQuarantinedCount } from "../../../src/integrity/store.ts";
import { verifySlice } from "../../../src/integrity/verify.ts";
import { manifestQueries } from "../../../src/manifests/store.ts";
import { administrator } from "../../../src/requester.ts";
import { freshRepository } from "../../fixtures/registry.ts";
import { randomBytes } from "../../fixtures/content.ts";
import { parseRepositoryName } from "../../../src/oci/repository.ts";
import { environmentWith } from "../../fixtures/registry.ts";

/** What is read for the integrity of the registry is read by an index, page by page: its tables are the largest. */

async function planOf(sql: string): Promise<readonly string[]> {
  const parameters = Math.max(0, ...[...sql.matchAll(/\?(\d+)/g)].map(([, number]) => Number(number)));
  const { results } = await env.DB.prepare(`EXPLAIN QUERY PLAN ${sql}`)
    .bind(...Array.from({ length: parameters }, () => null))
    .all<{ detail: string }>();
  return results.map(({ detail }) => detail);
}

/** Lines that read a whole table, or sort what was found. */
function dear(plan: readonly string[]): readonly string[] {
  return plan.filter(
    (line) =>
      (line.startsWith("SCAN") && !/^SCAN (json_each|page|content|\(subquery|\d+|CONSTANT ROW)/.test(line)) ||
      line.includes("TEMP B-TREE"),
  );
}

/** Every statement that something prepares. */
async function statementsOf(work: (env: Env) => Promise<unknown>): Promise<readonly string[]> {
  const statements = new Set<string>();
  const DB = new Proxy(env.DB, {
    get: (db, name): unknown => {
      if (name === "prepare") {
        return (sql: string) => {
          statements.add(sql);
          return db.prepare(sql);
        };
      }
      const value: unknown = Reflect.get(db, name);
      return typeof value === "function" ? value.bind(db) : value;
    },
  });
  await work(environmentWith({ DB }));
  return [...statements];
}

describe("the plan", () => {
  it.each(nouns.map(({ name, select }) => ({ name, select })))(
    "of the copy of $name goes by the key",
    async ({ name, select }) => {
      // A page of manifests is cut by its bytes, for which its ids and sizes are sorted; no text is.
      const found = dear(await planOf(select)).filter((line) => name !== "manifests" || line.startsWith("SCAN"));
      expect(found).toEqual([]);
    },
  );

  it.each(nouns.map(({ name, insert }) => ({ name, insert })))(
    "of putting back $name looks up, and scans nothing",
    async ({ insert }) => {
      expect(dear(await planOf(insert))).toEqual([]);
      expect(dear(await planOf(insertReferencesSql))).toEqual([]);
    },
  );

  it.each(Object.entries(manifestQueries))("of a pull finds the quarantine by its index: %s", async (_name, sql) => {
    const plan = await planOf(sql);
    expect(dear(plan)).toEqual([]);
    expect(plan.join("\n")).toContain("integrity_findings_manifest");
  });

  it("of the count of what is quarantined goes by the index of that", async () => {
    const statements = await statementsOf(async ({ DB }) => selectQuarantinedCount(DB, 1).run());
    const plan = (await Promise.all(statements.map(planOf))).flat().join("\n");
    expect(plan).toContain("blobs_quarantined");
    expect(plan).toContain("integrity_findings_manifest");
    expect(plan).toMatch(/SEARCH manifests USING INTEGER PRIMARY KEY/);
  });

  it("of a verification goes by the repository's indexes", async () => {
    const { name } = freshRepository();
    const by = { principal: administrator, address: null, requestId: "r" };
    await freshRepository().registry.repository(name).pushBlob(randomBytes(10));
    const statements = await statementsOf(async (of) => verifySlice(of, parseRepositoryName(name), null, by));
    expect(statements.length).toBeGreaterThan(3);
    for (const sql of statements) {
      // The findings are few, and are looked through.
      const lines = dear(await planOf(sql)).filter((line) => !line.includes("integrity_findings"));
      expect({ sql, lines }).toEqual({ sql, lines: [] });
    }
  });

  it("of a minute of the cron trigger, and of the collector, goes by keys", async () => {
    const statements = await statementsOf(async (of) => {
      await env.DB.prepare("DELETE FROM registry_values WHERE name = 'scrub'").run();
      await runIntegrityJobs(of, Date.now(), 1, () => {});
      const options = {
        graceSeconds: 0,
        uploadTtlSeconds: 1,
        auditRetentionSeconds: 1,
        nowMs: Date.now(),
        sweep: true,
      };
      for (const step of collectSteps(of, options)) await step();
    });
    expect(statements.length).toBeGreaterThan(15);
    for (const sql of statements) {
      const lines = dear(await planOf(sql)).filter((line) => !/integrity_findings|^SCAN (newest|finding)\b/.test(line));
      expect({ sql, lines: lines.filter((line) => line.startsWith("SCAN") && !line.includes("USING")) }).toEqual({
        sql,
        lines: [],
      });
    }
  });
});
