import { formatGrant } from "../access/grants.ts";
import { opennessOf } from "../access/public-issuers.ts";
import { forgetTrustRules } from "../access/workload-identity.ts";
import { insertAudit } from "../audit/store.ts";
import { OciError } from "../oci/errors.ts";
import type { Requester } from "../requester.ts";
import type { ToldTrustRule, TrustRuleChange } from "./rule.ts";
import { findRule, ruleExists, ruleOf, selectRule, updateRule } from "./store.ts";

/**
 * Holds in this isolate at once; elsewhere, and for bearers that are out, within `rightsKeptMs`. One D1 batch; one query
 * before it, where issuer or conditions change: they must fit together.
 * @returns the rule as it is now; null where there is none
 * @throws OciError INVALID_REQUEST where it would trust everybody of its issuer
 */
export async function changeRule(
  db: D1Database,
  name: string,
  { issuer, audience, conditions, grants }: TrustRuleChange,
  by: Requester,
): Promise<ToldTrustRule | null> {
  if (issuer !== undefined || conditions !== undefined) {
    const before = await findRule(db, name);
    if (before === null) return null;
    const openness = opennessOf(issuer ?? before.issuer, conditions ?? before.conditions);
    if (openness !== null) throw new OciError("INVALID_REQUEST", { reason: `conditions: ${openness}`, rule: name });
  }
  const written = {
    ...(issuer === undefined ? {} : { issuer }),
    ...(audience === undefined ? {} : { audience }),
    ...(conditions === undefined ? {} : { conditions }),
    ...(grants === undefined ? {} : { grants: grants.map(formatGrant) }),
  };
  const entry = { action: "rule.change", reference: name, outcome: "ok", detail: written } as const;
  const results = await db.batch([
    insertAudit(db, by, entry, Date.now(), ruleExists(name)),
    updateRule(db, name, written),
    selectRule(db, name),
  ]);
  forgetTrustRules();
  return ruleOf(results.at(-1));
}
