/** A wrangler.toml that says the ids of its databases, for as long as one command takes. */
import { randomUUID } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import * as wrangler from "wrangler";
import { z } from "zod";
import { removedAfter } from "./temporary.ts";

/** Its published types name a package that is not published. */
const { experimental_readRawConfig } = z
  .object({
    experimental_readRawConfig: z.custom<(from: { config: string }) => unknown>((value) => typeof value === "function"),
  })
  .parse({ ...wrangler });

const readSchema = z.object({
  rawConfig: z.looseObject({ d1_databases: z.array(z.looseObject({ binding: z.string() })) }),
});

/**
 * wrangler gives a binding without an id to the database that the running Worker has under it, and fails where that one
 * was deleted, though another has its name by now. A binding with an id it takes as it is.
 *
 * @param ids by binding
 * @param work gets the path of the file, which lies beside the other for the sake of relative paths in it
 */
export async function withPinnedDatabases<T>(
  configPath: string,
  ids: ReadonlyMap<string, string>,
  work: (configPath: string) => Promise<T>,
): Promise<T> {
  const { rawConfig } = readSchema.parse(experimental_readRawConfig({ config: configPath }));
  const databases = rawConfig.d1_databases.map((database) => {
    const id = ids.get(database.binding);
    return id === undefined ? database : { ...database, database_id: id };
  });
  const file = path.join(path.dirname(configPath), `.wrangler-${randomUUID()}.json`);
  return removedAfter(
    () => rmSync(file, { force: true }),
    () => {
      writeFileSync(file, JSON.stringify({ ...rawConfig, d1_databases: databases }));
      return work(file);
    },
  );
}
