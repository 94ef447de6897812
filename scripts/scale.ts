/**
 * Loads a registry of some size into a state folder, to see how it does there:
 *
 *   npm run scale -- --state DIR
 *   npm start -- --state DIR
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { fail, report } from "./console.ts";
import { acquireLock } from "./lock.ts";
import { parsePath, projectRoot, UsageError } from "./options.ts";
import { readProject } from "./project.ts";
import { checkCounts, defaultCounts, type ScaleCounts } from "./scale/content.ts";
import { loadScale } from "./scale/load.ts";
import { measureSize, sizeTable } from "./scale/size.ts";

const usage = `Usage: npm run scale -- [options]

  --state DIR           an empty state folder (default a new one among the temporary files)
  --manifests N         manifests in all (default ${String(defaultCounts.manifests)})
  --repositories N      repositories in all (default ${String(defaultCounts.repositories)})
  --tags N              tags in all (default ${String(defaultCounts.tags)})
  --large-tags N        tags of one repository (default ${String(defaultCounts.largeTags)})
  --large-referrers N   referrers of one manifest (default ${String(defaultCounts.largeReferrers)})
  --help                this text

It writes the index (D1) alone, with the rows that pushes would have made; blobs have no bytes. The defaults take
some minutes and 6 GB. What the rows take is printed, table by table. \`npm start -- --state DIR\` serves it.`;

await main().catch(fail);

async function main(): Promise<void> {
  const options = readOptions();
  if (options === null) {
    console.log(usage);
    return;
  }
  const { stateDir, counts } = options;
  const project = readProject(path.join(projectRoot, "wrangler.toml"), {});
  const lock = await acquireLock(stateDir, "scripts/scale.ts", report);
  await loadScale(project, stateDir, counts, report);
  console.log(sizeTable(measureSize(stateDir), counts));
  lock.release();
  console.log(`\nloaded into ${stateDir}`);
}

/** null: only the usage is asked for */
function readOptions(): { readonly stateDir: string; readonly counts: ScaleCounts } | null {
  const values = parse();
  if (values.help) return null;
  const counts = {
    manifests: count("manifests", values.manifests, defaultCounts.manifests),
    repositories: count("repositories", values.repositories, defaultCounts.repositories),
    tags: count("tags", values.tags, defaultCounts.tags),
    largeTags: count("large-tags", values["large-tags"], defaultCounts.largeTags),
    largeReferrers: count("large-referrers", values["large-referrers"], defaultCounts.largeReferrers),
  };
  checkCounts(counts);
  const { state } = values;
  const stateDir = state === undefined ? mkdtempSync(path.join(tmpdir(), "moorage-scale-")) : parsePath("state", state);
  return { stateDir, counts };
}

function parse() {
  try {
    return parseArgs({
      options: {
        state: { type: "string" },
        manifests: { type: "string" },
        repositories: { type: "string" },
        tags: { type: "string" },
        "large-tags": { type: "string" },
        "large-referrers": { type: "string" },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

function count(option: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  if (!/^\d{1,9}$/.test(text)) throw new UsageError(`--${option} takes a whole number, not "${text}"`);
  return Number(text);
}
