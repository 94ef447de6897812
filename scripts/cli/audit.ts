import { type Command, Option } from "commander";
import { z } from "zod";
import { auditActions, auditOutcomes, type AuditRecord, auditRecordSchema } from "../../src/audit/record.ts";
import { AUDIT_PAGE_MAX } from "../../src/limits.ts";
import { checked, wholeNumber } from "./checked.ts";
import { connect } from "./connection.ts";
import { printJson, printTable, timeCell } from "./print.ts";

const LIMIT_USUAL = 100;
const LIMIT_MAX = 1_000_000;

const checkedTime = checked(
  z.union([z.iso.datetime({ offset: true }), z.iso.date()], {
    error: "it is a date or a time such as 2030-01-31 or 2030-01-31T08:00:00Z",
  }),
);

export function addAuditCommand(program: Command): void {
  program
    .command("audit")
    .description("show who did what, the newest first")
    .option("--principal <name>", "whose doing: admin, user:<name>, oidc:<rule>:<subject>, anonymous")
    .addOption(new Option("--action <action>", "what was done").choices(auditActions))
    .option("--repository <name>", "to which repository")
    .addOption(new Option("--outcome <outcome>", "with what result").choices(auditOutcomes))
    .option("--since <time>", "from this date or time on, such as 2030-01-31 or 2030-01-31T08:00:00Z", checkedTime)
    .option("--until <time>", "before this date or time", checkedTime)
    .option("--limit <n>", "the most that are shown", wholeNumber(LIMIT_MAX), LIMIT_USUAL)
    .action(showAudit);
}

const optionsSchema = z.object({
  principal: z.string().optional(),
  action: z.string().optional(),
  repository: z.string().optional(),
  outcome: z.string().optional(),
  since: z.string().optional(),
  until: z.string().optional(),
  limit: z.number(),
});

async function showAudit(given: unknown, command: Command): Promise<void> {
  const { limit, ...filter } = optionsSchema.parse(given);
  const { api, json } = await connect(command);
  const query = { limit, filter, pageMax: AUDIT_PAGE_MAX };
  const { entries, body } = await api.list(["audit"], "records", auditRecordSchema, query);
  if (json) printJson(body);
  else {
    printTable(entries, {
      TIME: ({ createdAt }) => timeCell(createdAt),
      PRINCIPAL: ({ principal }) => principal,
      ADDRESS: ({ address }) => address,
      ACTION: ({ action }) => action,
      OUTCOME: ({ outcome }) => outcome,
      WHAT: whatCell,
      DETAIL: ({ detail }) => (detail === null ? null : JSON.stringify(detail)),
    });
  }
}

/** As a client names it: repository, then the tag or what else was asked for, then the digest. */
function whatCell({ repository, reference, digest }: AuditRecord): string {
  const named = [repository, reference === digest ? null : reference].filter((part) => part !== null).join(":");
  return digest === null ? named : `${named}@${digest}`;
}
