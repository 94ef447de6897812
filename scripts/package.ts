/**
 * `npm pack` runs this before it packs: the command line as JavaScript that any Node 20 reads, with all that it imports,
 * in dist/moorage.js; and the licences of what others wrote of it beside that.
 */
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";
import { z } from "zod";
import { fail } from "./console.ts";
import { projectRoot } from "./options.ts";

const folder = path.join(projectRoot, "dist");

/** What packages that are no modules ask for, and what Node has only since 20.11. */
const banner = `import { createRequire as moorageCreateRequire } from "node:module";
import { fileURLToPath as moorageFileURLToPath } from "node:url";
const require = moorageCreateRequire(import.meta.url);
const moorageDirname = moorageFileURLToPath(new URL(".", import.meta.url));`;

const manifestSchema = z.object({ name: z.string(), version: z.string(), license: z.string() });

await buildPackage().catch(fail);

async function buildPackage(): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  const { metafile } = await build({
    entryPoints: [path.join(projectRoot, "scripts/moorage.ts")],
    outfile: path.join(folder, "moorage.js"),
    absWorkingDir: projectRoot,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    define: { "import.meta.dirname": "moorageDirname" },
    banner: { js: banner },
    metafile: true,
    logLevel: "warning",
  });
  const packages = new Set(Object.keys(metafile.inputs).flatMap((file) => packageOf(file) ?? []));
  const licences = await Promise.all([...packages].toSorted().map(licenceOf));
  await writeFile(path.join(folder, "LICENSES.txt"), licences.join(`\n${"-".repeat(80)}\n\n`));
}

/** The folder of the package that a file belongs to; null: it is this project's. */
function packageOf(file: string): string | null {
  return /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1] ?? null;
}

async function licenceOf(relative: string): Promise<string> {
  const root = path.join(projectRoot, relative);
  const text = await readFile(path.join(root, "package.json"), "utf8");
  const { name, version, license } = manifestSchema.parse(JSON.parse(text));
  const file = (await readdir(root)).find((entry) => /^(licen[cs]e|copying)(\.|$)/i.test(entry));
  const terms = file === undefined ? "" : `\n${await readFile(path.join(root, file), "utf8")}`;
  return `${name} ${version}: ${license}\n${terms}`;
}
