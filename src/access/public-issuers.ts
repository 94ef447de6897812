import type { Conditions } from "./trust-rule.ts";

/** A claim that says whose a token is, and the form of a pattern that names one owner. */
type Owner = readonly [claim: string, pattern: RegExp];

/** No star at all. */
const whole = /^[^*]+$/;

/**
 * Issuers of which everybody can have a token for any audience, by the claims of which a rule must name one. `ref` or
 * `environment` alone are what whoever has a repository there calls so; `job_workflow_ref` is a workflow that everybody
 * may call.
 * Sources: docs.github.com «OpenID Connect reference»; docs.gitlab.com «OpenID Connect (OIDC) authentication using ID
 * tokens».
 */
const publicIssuers: ReadonlyMap<string, readonly Owner[]> = new Map([
  [
    "https://token.actions.githubusercontent.com",
    [
      ["repository", /^[^*/]+\/./],
      ["repository_id", whole],
      ["repository_owner", whole],
      ["repository_owner_id", whole],
      ["enterprise", whole],
      ["enterprise_id", whole],
      ["sub", /^repo:[^*/:]+\/./],
    ],
  ],
  [
    "https://gitlab.com",
    [
      ["project_path", /^[^*/]+\/./],
      ["project_id", whole],
      ["namespace_path", /^[^*/]+(?:\/.+)?$/],
      ["namespace_id", whole],
      ["sub", /^project_path:[^*/:]+\/./],
    ],
  ],
  [
    "https://accounts.google.com",
    [
      ["sub", whole],
      ["email", /^[^*]+@[^*]+$/],
      ["hd", whole],
    ],
  ],
]);

/** Why a rule would let everybody in who has an account with its issuer; null: it would not. */
export function opennessOf(issuer: string, conditions: Conditions): string | null {
  const owners = publicIssuers.get(issuer.toLowerCase().replace(/\/+$/, ""));
  if (owners === undefined) return null;
  const names = owners.some(([claim, form]) => {
    const patterns = Object.hasOwn(conditions, claim) ? (conditions[claim] ?? []) : [];
    return patterns.length > 0 && patterns.every((pattern) => form.test(pattern));
  });
  const claims = owners.map(([claim]) => claim).join(", ");
  return names
    ? null
    : `everybody can have a token of ${issuer}: say whose you mean, with no * in the owner's name, by one of ${claims}`;
}
