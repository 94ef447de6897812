/** A name for what is about to be deployed, by which a later run knows that it is there already. */
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Wrangler } from "./wrangler.ts";

/** The digest of the Worker's bundle, as wrangler makes it, and of the file that says its bindings. */
export interface Build {
  readonly digest: string;
}

/**
 * Has wrangler bundle the Worker and check its configuration, without a network.
 * @throws WranglerFailure where it does not build
 */
export async function build(wrangler: Wrangler, configPath: string): Promise<Build> {
  const folder = await mkdtemp(path.join(tmpdir(), "moorage-build-"));
  try {
    await wrangler.run(["deploy"], ["--dry-run", `--outdir=${folder}`]);
    const hash = createHash("sha256").update(await readFile(configPath));
    for (const name of (await readdir(folder)).toSorted()) {
      // The one says when it was built, the other where.
      if (name === "README.md" || name.endsWith(".map")) continue;
      hash.update(`\n${name}\n`).update(await readFile(path.join(folder, name)));
    }
    return { digest: hash.digest("hex") };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** @param others what else a version depends on: settings given by the side, the databases' ids */
export function tagOf({ digest }: Build, others: readonly (string | null)[]): string {
  const hash = createHash("sha256").update(JSON.stringify([digest, ...others]));
  // 64 bits in 24 letters: some hundred are the most that a tag may have, and lists show it.
  return `moorage-${hash.digest("hex").slice(0, 16)}`;
}
