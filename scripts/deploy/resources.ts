/** What wrangler.toml wants an account to have. */
import { unstable_readConfig } from "wrangler";
import { z } from "zod";
import { UsageError } from "../options.ts";

const queueSchema = z.object({ queue: z.string().optional() });

const configSchema = z.object({
  name: z.string(),
  account_id: z.string().optional(),
  vars: z.record(z.string(), z.unknown()),
  r2_buckets: z.array(z.object({ bucket_name: z.string(), jurisdiction: z.string().optional() })),
  d1_databases: z.array(
    z.object({ binding: z.string(), database_name: z.string().optional(), database_id: z.string().optional() }),
  ),
  queues: z.object({
    producers: z.array(queueSchema).default([]),
    consumers: z.array(queueSchema.extend({ dead_letter_queue: z.string().optional() })).default([]),
  }),
  secrets: z.object({ required: z.array(z.string()).default([]) }).default({ required: [] }),
});

export interface Bucket {
  readonly name: string;
  /** https://developers.cloudflare.com/r2/reference/data-location/#jurisdictional-restrictions; undefined: none */
  readonly jurisdiction: string | undefined;
}

export interface Database {
  readonly binding: string;
  /** By which wrangler finds it in the account, where it has no id. */
  readonly name: string;
  /** undefined: none is written down */
  readonly id: string | undefined;
}

export interface Resources {
  /** The Worker's name. */
  readonly worker: string;
  /** undefined: whose login it is decides */
  readonly accountId: string | undefined;
  readonly buckets: readonly Bucket[];
  readonly databases: readonly Database[];
  readonly queues: readonly string[];
  /** Names of those without which nothing is served. */
  readonly secrets: readonly string[];
  /** MAX_BODY_BYTES in [vars]; undefined: there is none */
  readonly maxBodyBytes: string | undefined;
}

/**
 * Of a file that `readProject` has found to be right.
 * @throws UsageError
 */
export function readResources(configPath: string): Resources {
  const config = configSchema.parse(unstable_readConfig({ config: configPath }, { hideWarnings: true }));
  const { producers, consumers } = config.queues;
  const queues = [...producers, ...consumers].map(({ queue }) => queue);
  const deadLetters = consumers.map((consumer) => consumer.dead_letter_queue);
  const maxBodyBytes = config.vars["MAX_BODY_BYTES"];
  return {
    worker: config.name,
    accountId: config.account_id,
    buckets: config.r2_buckets.map(({ bucket_name, jurisdiction }) => ({ name: bucket_name, jurisdiction })),
    databases: config.d1_databases.map(({ binding, database_name, database_id }) => {
      if (database_name === undefined) {
        throw new UsageError(`${configPath}: the database of ${binding} has no database_name, by which it is found`);
      }
      return { binding, name: database_name, id: database_id };
    }),
    queues: [...new Set([...queues, ...deadLetters].filter((queue) => queue !== undefined))],
    secrets: config.secrets.required,
    maxBodyBytes: typeof maxBodyBytes === "string" ? maxBodyBytes : undefined,
  };
}
