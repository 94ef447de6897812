import { describe, expect } from "vitest";
import { UsageError } from "../../scripts/options.ts";
import { readProject } from "../../scripts/project.ts";
import { commandLine } from "../support/registry.ts";
import { expectRefusal, runNode, startTest, writeConfig } from "./start-test.ts";

describe("wrangler.toml", () => {
  startTest.for([
    ["with a mistake in its syntax", /^/, "name =\n", /wrangler\.toml:1: Invalid TOML/],
    [
      "with a mistake in its meaning",
      /^name = .*/m,
      "name = 5",
      /wrangler\.toml: Expected "name" to be of type string/,
    ],
    ["without main", /^main = .*/m, "", /wrangler\.toml: main: /],
    ["with a main that is not there", /^main = .*/m, 'main = "no.ts"', /main: there is no file .*\/no\.ts$/],
    ["without compatibility_date", /^compatibility_date = .*/m, "", /wrangler\.toml: compatibilityDate: /],
    ["without BLOBS", '"BLOBS"', '"BLOB"', /wrangler\.toml: \[\[r2_buckets\]\] has no binding BLOBS$/],
    ["without DB", '"DB"', '"DATABASE"', /wrangler\.toml: \[\[d1_databases\]\] has no binding DB$/],
    ["without UPLOADS", '"UPLOADS"', '"LEDGERS"', /\[\[durable_objects\.bindings\]\] has no name UPLOADS$/],
    ["without its class's storage", "new_sqlite_classes", "new_classes", /no new_sqlite_classes with UploadSession$/],
    ["with a cron that is none", /^crons = .*/m, 'crons = ["61 * * * *"]', /wrangler\.toml: crons: "61 \* \* \* \*": /],
    ["with no cron in its list", /^crons = .*/m, "crons = []", /has no crons: nothing .* would ever be collected$/],
    ["without crons", /^\[triggers\]\ncrons = .*/m, "", /has no crons: nothing .* would ever be collected$/],
    [
      "with a setting that can't be",
      /^GC_GRACE_SECONDS = .*/m,
      'GC_GRACE_SECONDS = "1h"',
      /^GC_GRACE_SECONDS: "1h" is not a whole number of seconds$/,
    ],
    [
      "with a setting that is no text",
      /^GC_GRACE_SECONDS = .*/m,
      "GC_GRACE_SECONDS = 60",
      /^GC_GRACE_SECONDS: 60 is not a text in quotes$/,
    ],
    [
      "without a setting",
      /^UPLOAD_TTL_SECONDS = .*/m,
      "",
      /^UPLOAD_TTL_SECONDS is missing from wrangler\.toml's \[vars\]$/,
    ],
  ] as const)("%s is refused in one line", async ([, what, by, message], { folder }) => {
    const file = await writeConfig(folder, (text) => text.replace(what, by));
    const refusal = refusalOf(() => readProject(file, {}));
    expect(refusal).toBeInstanceOf(UsageError);
    expect(refusal).toHaveProperty("message", expect.stringMatching(message));
    expect(refusal).toHaveProperty("message", expect.not.stringContaining("\n"));
  });

  startTest("may have a wrong setting if --var has it right", async ({ folder }) => {
    const file = await writeConfig(folder, (text) =>
      text.replace(/^GC_GRACE_SECONDS = .*/m, 'GC_GRACE_SECONDS = "1h"'),
    );
    const { workerOptions } = readProject(file, { GC_GRACE_SECONDS: "3600" });
    expect(workerOptions.bindings).toMatchObject({ GC_GRACE_SECONDS: "3600" });
  });

  startTest("with a main that lacks the Worker's exports is refused", async ({ folder, stateDir }) => {
    const config = await writeConfig(folder, (text) => text.replace(/\/src\/index\.ts"$/m, '/src/app.ts"'));
    const ended = await runNode(commandLine({ config }, stateDir));
    expectRefusal(ended, /^moorage: .*\/src\/app\.ts does not export default, UploadSession\n$/);
  });
});

function refusalOf(read: () => unknown): unknown {
  try {
    read();
  } catch (error) {
    return error;
  }
  throw new Error("it was read without an error");
}
