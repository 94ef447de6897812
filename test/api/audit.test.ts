import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { type AuditRecord, auditActions, auditRecordsSchema } from "../../src/audit/record.ts";
import { insertAudit, selectAudit } from "../../src/audit/store.ts";
import { createUser, freshName, nextOf, read, refused, send } from "../fixtures/management.ts";
import { countOperations } from "../support/counted-env.ts";
import { serve } from "../fixtures/registry.ts";
import { asAdmin, basic } from "../support/credentials.ts";

/** Principals and repositories of these rows alone: other tests write to the same table. */
const run = crypto.randomUUID();
const [one, other] = [`user:one-${run}`, `user:other-${run}`];
const [mine, theirs] = [`mine-${run}`, `theirs-${run}`];
/** Long ago, so that no other row is between. */
const start = Date.UTC(2020, 0, 1);
const hour = 3_600_000;

async function note(principal: string, entry: Parameters<typeof insertAudit>[2], hours: number): Promise<void> {
  const by = { principal: { name: principal, tokenId: "a token" }, address: "192.0.2.1", requestId: "a request" };
  await insertAudit(env.DB, by, entry, start + hours * hour).run();
}

beforeAll(async () => {
  await note(one, { action: "login", outcome: "ok" }, 0);
  await note(one, { action: "manifest.push", repository: mine, reference: "v1", digest: "sha256:a", outcome: "ok" }, 1);
  await note(other, { action: "access", repository: mine, outcome: "refused", detail: { right: "push" } }, 2);
  await note(other, { action: "login", outcome: "refused", detail: { user: "x" } }, 3);
  await note(one, { action: "manifest.push", repository: theirs, reference: "v1", outcome: "ok" }, 4);
  // At the same moment, and one that comes late.
  await note(one, { action: "tag.delete", repository: theirs, reference: "v1", outcome: "ok" }, 4);
  await note(one, { action: "manifest.delete", repository: mine, outcome: "ok" }, 2.5);
});

async function listed(query: Readonly<Record<string, string>>): Promise<readonly AuditRecord[]> {
  const path = `audit?${new URLSearchParams(query).toString()}`;
  return (await read(await send("GET", path), 200, auditRecordsSchema.strict())).records;
}

const actions = (records: readonly AuditRecord[]): string[] => records.map(({ action }) => action);
const iso = (hours: number): string => new Date(start + hours * hour).toISOString();

describe("GET /api/v1/audit", () => {
  it("tells all of a record", async () => {
    const [record] = await listed({ principal: one, action: "manifest.push", repository: mine });
    expect(record).toEqual({
      id: record?.id,
      createdAt: iso(1),
      principal: one,
      tokenId: "a token",
      address: "192.0.2.1",
      requestId: "a request",
      action: "manifest.push",
      repository: mine,
      reference: "v1",
      digest: "sha256:a",
      outcome: "ok",
      detail: null,
    });
  });

  it("is the newest first, by each filter and by several", async () => {
    expect(actions(await listed({ principal: one }))).toEqual([
      "tag.delete",
      "manifest.push",
      "manifest.delete",
      "manifest.push",
      "login",
    ]);
    expect(actions(await listed({ repository: mine }))).toEqual(["manifest.delete", "access", "manifest.push"]);
    expect(actions(await listed({ principal: other, outcome: "refused" }))).toEqual(["login", "access"]);
    expect(actions(await listed({ principal: other, outcome: "ok" }))).toEqual([]);
    expect(actions(await listed({ principal: one, repository: theirs, action: "tag.delete" }))).toEqual(["tag.delete"]);
    expect(await listed({ principal: "nobody at all" })).toEqual([]);
  });

  it("begins with since and ends before until, as times with any offset and as days", async () => {
    const between = async (since: string, until: string) => actions(await listed({ principal: one, since, until }));
    expect(await between(iso(1), iso(2.5))).toEqual(["manifest.push"]);
    expect(await between("2020-01-01T02:00:00+01:00", "2020-01-01T03:30:00.001+01:00")).toEqual([
      "manifest.delete",
      "manifest.push",
    ]);
    expect(await between("2020-01-01", "2020-01-02")).toHaveLength(5);
    expect(await between("2020-01-02", "2020-01-03")).toEqual([]);
    expect(actions(await listed({ until: iso(1), since: "2019-12-31" }))).toEqual(["login"]);
  });

  it.each([1, 2, 3])("pages backwards by n=%i and Link, which keeps the filters", async (n) => {
    const found: AuditRecord[] = [];
    const query = new URLSearchParams({ principal: one, since: "2019-12-31", n: String(n) }).toString();
    for (let next: string | null = `audit?${query}`; next !== null;) {
      const response: Response = await send("GET", next);
      const { records } = await read(response, 200, auditRecordsSchema);
      expect(records.length).toBeLessThanOrEqual(n);
      found.push(...records);
      next = nextOf(response);
    }
    expect(found).toEqual(await listed({ principal: one }));
  });

  it("is not moved by what is noted meanwhile", async () => {
    const { name } = await createUser();
    const first = await send("GET", `audit?n=2&until=2020-01-02`);
    await send("PATCH", `users/${name}`, { disabled: true });
    await note(other, { action: "login", outcome: "ok" }, 5);
    const page = await read(first, 200, auditRecordsSchema);
    const next = await read(await send("GET", nextOf(first) ?? ""), 200, auditRecordsSchema);
    expect(actions([...page.records, ...next.records])).toEqual([
      "tag.delete",
      "manifest.push",
      "login",
      "manifest.delete",
    ]);
  });

  it("has a page at most of so many, and 100 where nothing is said", async () => {
    await env.DB.batch(
      Array.from({ length: 101 }, (_, index) =>
        insertAudit(
          env.DB,
          { principal: { name: `many-${run}`, tokenId: null }, address: null, requestId: "r" },
          { action: "login", outcome: "ok" },
          start - index,
        ),
      ),
    );
    expect(await listed({ principal: `many-${run}` })).toHaveLength(100);
    expect(await listed({ principal: `many-${run}`, n: "1000" })).toHaveLength(101);
    await refused(await send("GET", "audit?n=1001"), 400, "INVALID_REQUEST");
  });

  it("is empty after a record that is gone: what was older went before it", async () => {
    expect(await listed({ before: String(Number.MAX_SAFE_INTEGER) })).toEqual([]);
  });

  it.each([
    "n=0",
    "n=-1",
    "n=x",
    "before=x",
    "before=0",
    "action=push",
    "outcome=maybe",
    "since=yesterday",
    "since=2020-01-01T00:00:00",
    "until=2020-13-01",
    "principle=admin",
    "principal=a&principal=b",
    "since=",
  ])("refuses ?%s", async (query) => {
    await refused(await send("GET", `audit?${query}`), 400, "INVALID_REQUEST");
  });

  it("takes a filter for a text, whatever is in it", async () => {
    for (const text of ["' OR 1=1 --", "%", "admin\u0000", '"']) expect(await listed({ principal: text })).toEqual([]);
  });

  it("is one query, and notes nothing itself", async () => {
    const counted = countOperations(env);
    const url = `http://localhost/api/v1/audit?principal=${encodeURIComponent(one)}&since=2019-12-31&before=99999&n=2`;
    await serve(new Request(url, { headers: { Authorization: asAdmin } }), counted.env);
    expect(counted.counts).toMatchObject({ d1: 1, r2: 0 });
  });

  it("reads each filter by an index, in its order: nothing is sorted, nothing but the asked is looked through", async () => {
    const filters = [
      {},
      { principal: "a" },
      { repository: "a" },
      { action: auditActions[0] },
      { outcome: "refused" },
      { since: 1 },
      { until: 1 },
      { before: 1 },
      { principal: "a", since: 1, until: 2, before: 3 },
      { principal: "a", action: auditActions[0], repository: "a", outcome: "refused" },
    ] as const;
    for (const filter of filters) {
      const plan = await planOf(filter);
      expect(plan, JSON.stringify(filter)).toMatch(/^S(CAN|EARCH) audit USING INDEX audit_\w+/);
      expect(plan).not.toContain("TEMP B-TREE");
    }
    expect(await planOf({ action: auditActions[0], principal: "a" })).toContain("audit_principal");
    expect(await planOf({ outcome: "refused" })).toContain("audit_refused");
  });
});

/** How SQLite goes about the statement that the store makes. */
async function planOf(filter: Parameters<typeof selectAudit>[1]): Promise<string> {
  let sql = "";
  let values: unknown[] = [];
  const recorder = new Proxy(env.DB, {
    get: () => (text: string) => {
      sql = text;
      return {
        bind: (...bound: unknown[]) => {
          values = bound;
          return env.DB.prepare(text).bind(...bound);
        },
      };
    },
  });
  selectAudit(recorder, filter, 10);
  const { results } = await env.DB.prepare(`EXPLAIN QUERY PLAN ${sql}`)
    .bind(...values)
    .all<{ detail: string }>();
  return results.map(({ detail }) => detail).join("\n");
}

describe("what is noted of the management API", () => {
  it("says who, from where, and the request's id, which the answer has too", async () => {
    const name = freshName();
    const response = await send("POST", "users", { name, grants: [] });
    const record = (await listed({ action: "user.create" })).find(({ reference }) => reference === name);
    expect(record).toMatchObject({
      principal: "admin",
      tokenId: null,
      requestId: response.headers.get("X-Request-Id"),
      outcome: "ok",
    });
    expect(record?.address).toMatch(/^10\./);
  });

  it("has the refusal of who is no administrator", async () => {
    const { name } = await createUser();
    const { token } = await (await send("POST", `users/${name}/tokens`, { name: "t" })).json<{ token: string }>();
    await refused(await send("GET", "audit", undefined, basic(name, token)), 403, "DENIED");
    const [record] = await listed({ principal: `user:${name}` });
    expect(record).toMatchObject({ action: "access", outcome: "refused", detail: { right: "admin" } });
  });
});
