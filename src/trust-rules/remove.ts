import { forgetTrustRules } from "../access/workload-identity.ts";
import { insertAudit } from "../audit/store.ts";
import type { Requester } from "../requester.ts";
import { deleteRule, ruleExists } from "./store.ts";

/**
 * Holds as a change does. One D1 batch.
 * @returns whether there was the rule
 */
export async function removeRule(db: D1Database, name: string, by: Requester): Promise<boolean> {
  const entry = { action: "rule.delete", reference: name, outcome: "ok" } as const;
  const results = await db.batch([insertAudit(db, by, entry, Date.now(), ruleExists(name)), deleteRule(db, name)]);
  forgetTrustRules();
  return (results.at(-1)?.meta.changes ?? 0) > 0;
}
