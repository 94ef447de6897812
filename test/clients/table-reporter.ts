import type { TestCase, TestModule } from "vitest/node";
import type { Reporter } from "vitest/reporters";

/** How often an action of a client passed and failed, and why it was skipped. */
interface Cell {
  passed: number;
  failed: number;
  readonly skipped: Set<string>;
}

/** What a client was seen to do. */
interface Row {
  readonly cells: Map<string, Cell>;
  /** Tests in which it came as a user with an access token, by its own login, in all that it did. */
  asMember: number;
  tests: number;
}

/** The columns that most clients share, in the order of a user's day; others come after them. */
const commonActions = ["push", "pull", "list", "tag", "copy", "delete", "attach", "discover", "sign", "verify"];

/**
 * Prints at the end of a run what every client was seen to do: a line for each client, a column for each action, and one
 * that counts the tests that ran logged in. A test's client is the suite around it, its action what its title says
 * before the colon.
 */
export default class ClientTableReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]).filter(isClientTest);
    if (tests.length > 0) process.stdout.write(`\n${describeRun(tests)}\n`);
  }
}

function describeRun(tests: readonly TestCase[]): string {
  const table = new Map<string, Row>();
  const actions = new Set<string>();
  for (const test of tests) {
    const [client, action] = [clientOf(test), actionOf(test)];
    actions.add(action);
    const row = table.get(client) ?? { cells: new Map<string, Cell>(), asMember: 0, tests: 0 };
    table.set(client, row);
    const cell = row.cells.get(action) ?? { passed: 0, failed: 0, skipped: new Set() };
    row.cells.set(action, cell);
    count(cell, test);
    row.tests += 1;
    if (ranAsMember(test)) row.asMember += 1;
  }
  const known = commonActions.filter((action) => actions.has(action));
  const columns = [...known, ...[...actions].filter((action) => !commonActions.includes(action)).toSorted()];
  const lines = [["client", "logged in", ...columns]];
  for (const [client, row] of [...table].toSorted(([one], [other]) => one.localeCompare(other)))
    lines.push([client, describeLogins(row), ...columns.map((action) => describeCell(row.cells.get(action)))]);
  return [layOut(lines), ...reasons(table), closingLine(tests)].join("\n");
}

function count(cell: Cell, test: TestCase): void {
  const result = test.result();
  if (result.state === "passed") cell.passed += 1;
  else if (result.state === "failed") cell.failed += 1;
  else cell.skipped.add((result.state === "skipped" ? result.note : undefined) ?? "not chosen");
}

function describeCell(cell: Cell | undefined): string {
  if (cell === undefined) return "-";
  if (cell.failed > 0) return `FAILED ${String(cell.failed)}/${String(cell.failed + cell.passed)}`;
  return cell.passed > 0 ? `passed ${String(cell.passed)}` : "skipped";
}

function ranAsMember(test: TestCase): boolean {
  return test.result().state !== "skipped" && test.meta().asMember === true;
}

function describeLogins({ asMember, tests }: Row): string {
  return asMember === 0 ? "-" : `${String(asMember)} of ${String(tests)}`;
}

function reasons(table: ReadonlyMap<string, Row>): string[] {
  return [...table].flatMap(([client, { cells }]) => {
    const named = new Set([...cells.values()].flatMap(({ skipped }) => [...skipped]));
    return [...named].map((reason) => `skipped: ${client}: ${reason}`);
  });
}

function closingLine(tests: readonly TestCase[]): string {
  const of = (state: string): string => String(tests.filter((test) => test.result().state === state).length);
  const asMember = String(tests.filter(ranAsMember).length);
  return [
    `clients: ${of("passed")} passed, ${of("failed")} failed, ${of("skipped")} skipped`,
    `${asMember} ran logged in as a user with an access token; the others name in their titles who comes, or are no client's`,
  ].join("\n");
}

/** Columns as wide as their widest cell. */
function layOut(lines: readonly (readonly string[])[]): string {
  const widths = (lines[0] ?? []).map((_, at) => Math.max(...lines.map((line) => line[at]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, at) => cell.padEnd(widths[at] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function isClientTest({ module }: TestCase): boolean {
  return module.moduleId.includes("/test/clients/");
}

function clientOf({ parent }: TestCase): string {
  return parent.type === "suite" ? parent.name : parent.moduleId;
}

function actionOf({ name }: TestCase): string {
  return /^([\w-]+):/.exec(name)?.[1] ?? "other";
}
