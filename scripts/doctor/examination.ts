/** `moorage doctor`: one check after another, what it comes to as it comes, and in the end what was pushed deleted. */
import type { Client } from "./client.ts";
import type { Blob, Manifest } from "./content.ts";
import { type Answer, Interrupted, Unanswered } from "./exchange.ts";
import type { Pushed } from "./pushed.ts";
import type { TokenService } from "./token-service.ts";
import { Failed, type Finding, Skipped, Warned } from "./verdict.ts";

export interface Wishes {
  /** Nothing is pushed. */
  readonly readOnly: boolean;
  /** It is pushed also where it can't be deleted again. */
  readonly leave: boolean;
  /** A request of more than 100 MB is tried. */
  readonly large: boolean;
  /** The repository was named: there may be something in it to read. */
  readonly repositoryIsGiven: boolean;
}

/** What the checks know, and learn for those after them. */
export interface Examined {
  readonly client: Client;
  readonly repository: string;
  readonly wishes: Wishes;
  readonly pushed: Pushed;
  /** The answer to the first request, without login. */
  first: Answer | null;
  /** Where tokens are had; null: nowhere, or not known. */
  tokens: TokenService | null;
  /** By the token service's clock, where it said. */
  issued: { readonly atMs: number; readonly answer: Answer } | null;
  layer: Blob | null;
  config: Blob | null;
  manifest: Manifest | null;
  /** What the PUT of the manifest said of its digest. */
  digestOfPut: string | null;
}

export interface Check {
  readonly name: string;
  /** Checks without whose success this one would find nothing out. */
  readonly needs: readonly string[];
  /**
   * @returns what was seen, which is as it should be
   * @throws Failed, Warned, Skipped, Unanswered, Interrupted
   */
  run(examined: Examined): Promise<string>;
}

/**
 * @param tell is called with each finding as it is there; `failedNeed` is the check by whose failure it was skipped
 * @throws what is a bug; what was pushed is deleted before
 */
export async function examine(
  checks: readonly Check[],
  examined: Examined,
  tell: (finding: Finding, failedNeed: string | null) => void,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  const note = (finding: Finding, failedNeed: string | null = null): void => {
    findings.push(finding);
    tell(finding, failedNeed);
  };
  const stands = new Map<string, boolean>();
  const failedNeeds = new Map<string, string>();
  try {
    for (const check of checks) {
      const missing = check.needs.find((need) => stands.get(need) !== true);
      const finding =
        missing === undefined ? await findingOf(check, examined) : skipped(check.name, `it needs the check ${missing}`);
      stands.set(check.name, finding.outcome === "ok" || finding.outcome === "warning");
      if (finding.outcome === "failed") failedNeeds.set(check.name, check.name);
      const failedNeed = missing === undefined ? null : (failedNeeds.get(missing) ?? null);
      // Who needs this one stands on the same failure.
      if (failedNeed !== null) failedNeeds.set(check.name, failedNeed);
      note(finding, failedNeed);
    }
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
  } finally {
    const cleaned = await cleanUp(examined);
    if (cleaned !== null) note(cleaned);
  }
  return findings;
}

async function findingOf(check: Check, examined: Examined): Promise<Finding> {
  try {
    return { check: check.name, outcome: "ok", expected: null, seen: await check.run(examined), mend: null };
  } catch (error) {
    if (error instanceof Failed) return { check: check.name, outcome: "failed", ...error.fault };
    if (error instanceof Warned) return { check: check.name, outcome: "warning", ...error.fault };
    if (error instanceof Skipped) return skipped(check.name, error.message);
    if (error instanceof Unanswered) {
      const { seen, mend } = error;
      return { check: check.name, outcome: "failed", expected: "an answer", seen, mend };
    }
    throw error;
  }
}

function skipped(check: string, why: string): Finding {
  return { check, outcome: "skipped", expected: null, seen: why, mend: null };
}

/** null where nothing was pushed */
async function cleanUp({ pushed, client, repository }: Examined): Promise<Finding | null> {
  if (pushed.isEmpty) return null;
  const check = "cleanup";
  const staying = await pushed.remove(client.afterInterrupt());
  if (staying.length === 0) {
    const seen = `nothing that was pushed to ${repository} is left there`;
    return { check, outcome: "ok", expected: null, seen, mend: null };
  }
  return {
    check,
    outcome: "warning",
    expected: "that what was pushed can be deleted",
    seen: `these stay: ${staying.join(", ")}`,
    mend: "delete them as somebody who may, or leave blobs to the registry's collector",
  };
}
