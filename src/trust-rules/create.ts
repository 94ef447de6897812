import { formatGrant } from "../access/grants.ts";
import { forgetTrustRules } from "../access/workload-identity.ts";
import { insertAudit } from "../audit/store.ts";
import type { Requester } from "../requester.ts";
import type { NewTrustRule, ToldTrustRule } from "./rule.ts";
import { insertRule, mayBeMade, ruleOf, selectRule } from "./store.ts";

/**
 * Holds in this isolate at once, elsewhere within `rightsKeptMs` where its issuer has rules already. One D1
 * batch.
 * @returns the rule; `name` where another one has it; `many` where there are TRUST_RULES_MAX
 */
export async function createRule(
  db: D1Database,
  rule: NewTrustRule,
  by: Requester,
): Promise<ToldTrustRule | "name" | "many"> {
  const nowMs = Date.now();
  const { name, ...rest } = rule;
  const detail = { ...rest, grants: rest.grants.map(formatGrant) };
  const results = await db.batch([
    insertAudit(db, by, { action: "rule.create", reference: name, outcome: "ok", detail }, nowMs, mayBeMade(name)),
    insertRule(db, name, detail, nowMs),
    selectRule(db, name),
  ]);
  forgetTrustRules();
  const found = ruleOf(results.at(-1));
  if (found === null) return "many";
  return results.at(-2)?.meta.changes === 0 ? "name" : found;
}
