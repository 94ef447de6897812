/** A file for as long as wrangler reads it: a Worker that is not there yet takes its secrets in no other way. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { removedAfter } from "./temporary.ts";

/**
 * Its folder and it are readable by their owner alone.
 * @param work gets the file's path: JSON, which wrangler takes as it is, where a dotenv file's $ and quotes mean something
 */
export async function withSecretsFile<T>(
  secrets: Readonly<Record<string, string>>,
  work: (file: string) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(path.join(tmpdir(), "moorage-deploy-"));
  return removedAfter(
    () => rmSync(folder, { recursive: true, force: true }),
    () => {
      const file = path.join(folder, "secrets.json");
      writeFileSync(file, JSON.stringify(secrets), { mode: 0o600 });
      return work(file);
    },
  );
}
