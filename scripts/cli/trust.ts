import { type Command, InvalidArgumentError } from "commander";
import { z } from "zod";
import { issuerSchema, ruleNameSchema, ruleShape } from "../../src/access/trust-rule.ts";
import { API_PAGE_MAX } from "../../src/limits.ts";
import { newRuleSchema, ruleSchema, type ToldTrustRule } from "../../src/trust-rules/rule.ts";
import { zodReason } from "../../src/oci/errors.ts";
import { report } from "../console.ts";
import { UsageError } from "../options.ts";
import { checked, grantOption } from "./checked.ts";
import { connect } from "./connection.ts";
import { printFields, printJson, printTable, timeCell } from "./print.ts";

const nameArgument = ["<name>", "the rule's name, such as github-main", checked(ruleNameSchema)] as const;
const issuerOption = ["--issuer <url>", "who signs the tokens, as they have it in iss", checked(issuerSchema)] as const;
const audienceOption = [
  "--audience <text>",
  "what the tokens have in aud: of this registry alone, such as its address",
  checked(ruleShape.audience),
] as const;
const claimFlags = "--claim <claim=pattern>";
const claimHelp =
  "such as repository=my-org/my-app, where * is any letters, / too; may be repeated: each claim must match, one claim in one of its patterns";

export function addTrustCommands(program: Command): void {
  const trust = program
    .command("trust")
    .description("manage trust rules: what jobs may do that log in with the token of another issuer");

  trust
    .command("create")
    .description("trust an issuer's tokens of these claims to do what is granted")
    .argument(...nameArgument)
    .requiredOption(...issuerOption)
    .requiredOption(...audienceOption)
    .requiredOption(claimFlags, claimHelp, claimEach)
    .requiredOption(grantOption.flags, "such as team-a/*:pull,push; may be repeated", grantOption.each)
    .action(createRule);

  trust.command("list").description("list all trust rules").action(listRules);

  trust
    .command("show")
    .description("show a trust rule")
    .argument(...nameArgument)
    .action(showRule);

  trust
    .command("change")
    .description("change what is given of a trust rule")
    .argument(...nameArgument)
    .option(...issuerOption)
    .option(...audienceOption)
    .option(claimFlags, `${claimHelp}; these take the place of all before`, claimEach)
    .option(grantOption.flags, "may be repeated; these take the place of all grants before", grantOption.each)
    .action(changeRule);

  trust
    .command("delete")
    .description("delete a trust rule")
    .argument(...nameArgument)
    .action(deleteRule);
}

/** Claim -> its patterns. */
const claimsSchema = z.record(z.string(), z.array(z.string()));

/** The claims so far, with one more; a claim's name may be a path, and has no `=`. */
function claimEach(text: string, before: unknown): z.infer<typeof claimsSchema> {
  const claims = claimsSchema.safeParse(before).data ?? {};
  const separator = text.indexOf("=");
  if (separator < 1) throw new InvalidArgumentError("it is <claim>=<pattern>, such as ref=refs/heads/main");
  const claim = text.slice(0, separator);
  // A record passes it over, and the rule would have a condition less.
  if (claim === "__proto__") throw new InvalidArgumentError("__proto__ can be no claim");
  const patterns = Object.hasOwn(claims, claim) ? claims[claim] : undefined;
  return { ...claims, [claim]: [...(patterns ?? []), text.slice(separator + 1)] };
}

const newOptionsSchema = z.object({
  issuer: z.string(),
  audience: z.string(),
  claim: claimsSchema,
  grant: z.array(z.string()),
});

async function createRule(name: string, given: unknown, command: Command): Promise<void> {
  const { issuer, audience, claim: conditions, grant: grants } = newOptionsSchema.parse(given);
  requireConditions(conditions);
  const { api, json } = await connect(command);
  const rule = { name, issuer, audience, conditions, grants };
  const { value, body } = await api.create(["trust-rules"], rule, ruleSchema);
  if (json) printJson(body);
  else printRule(value);
}

async function listRules(_given: unknown, command: Command): Promise<void> {
  const { api, json } = await connect(command);
  const { entries, body } = await api.list(["trust-rules"], "rules", ruleSchema, { pageMax: API_PAGE_MAX });
  if (json) printJson(body);
  else {
    printTable(entries, {
      NAME: ({ name }) => name,
      ISSUER: ({ issuer }) => issuer,
      AUDIENCE: ({ audience }) => audience,
      CLAIMS: claimsCell,
      GRANTS: ({ grants }) => grants.join(" "),
    });
  }
}

async function showRule(name: string, _given: unknown, command: Command): Promise<void> {
  const { api, json } = await connect(command);
  const { value, body } = await api.get(["trust-rules", name], ruleSchema);
  if (json) printJson(body);
  else printRule(value);
}

async function changeRule(name: string, given: unknown, command: Command): Promise<void> {
  const { issuer, audience, claim, grant } = newOptionsSchema.partial().parse(given);
  if (claim !== undefined) requireConditions(claim);
  const change = { issuer, audience, conditions: claim, grants: grant };
  if (Object.values(change).every((value) => value === undefined)) {
    throw new UsageError("this says nothing that is to be changed; moorage trust change --help lists what can be");
  }
  const { api, json } = await connect(command);
  const { value, body } = await api.change(["trust-rules", name], change, ruleSchema);
  if (json) printJson(body);
  else printRule(value);
}

async function deleteRule(name: string, _given: unknown, command: Command): Promise<void> {
  const { api } = await connect(command);
  await api.remove(["trust-rules", name]);
  report(`the trust rule ${name} is deleted; what was handed out by it ends within minutes`);
}

function requireConditions(conditions: z.infer<typeof claimsSchema>): void {
  const result = newRuleSchema.shape.conditions.safeParse(conditions);
  if (!result.success) throw new UsageError(`--claim: ${zodReason(result.error)}`);
}

function printRule(rule: ToldTrustRule): void {
  printFields({
    name: rule.name,
    created: timeCell(rule.createdAt),
    issuer: rule.issuer,
    audience: rule.audience,
    claims: claimsCell(rule),
    grants: rule.grants.join(" "),
  });
}

function claimsCell({ conditions }: ToldTrustRule): string {
  return Object.entries(conditions)
    .flatMap(([claim, patterns]) => patterns.map((pattern) => `${claim}=${pattern}`))
    .join(" ");
}
