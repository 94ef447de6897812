import { Buffer } from "node:buffer";
import { z } from "zod";
import { Client } from "./client.ts";
import type { Server } from "./servers.ts";

/** The Authorization header of somebody who may pull only, who is braked and limited as everybody: the administrator is not. */
export async function makePuller(registry: Server, name = "puller"): Promise<string> {
  const json = { "content-type": "application/json" };
  await ask(registry, "POST", "/api/v1/users", json, { name, grants: ["**:pull"] });
  const answer = await ask(registry, "POST", `/api/v1/users/${name}/tokens`, json, { name: "bench" });
  const { token } = z.object({ token: z.string() }).parse(answer);
  return `Basic ${Buffer.from(`${name}:${token}`).toString("base64")}`;
}

/** A token of /token that may pull from the repository. */
export async function bearer(registry: Server, repository: string, authorization: string): Promise<string> {
  const scope = encodeURIComponent(`repository:${repository}:pull`);
  const answer = await ask(registry, "GET", `/token?scope=${scope}`, { authorization });
  return z.object({ token: z.string() }).parse(answer).token;
}

/** As the administrator, where no header says otherwise. */
async function ask(
  registry: Server,
  method: string,
  path: string,
  headers: Readonly<Record<string, string>>,
  body?: unknown,
): Promise<unknown> {
  const client = new Client(registry.url);
  try {
    const sent = body === undefined ? {} : { body: Buffer.from(JSON.stringify(body)) };
    const answer = await client.request({ method, path, headers, ...sent, expect: [200, 201], keepBody: true });
    return JSON.parse(answer.body.toString("utf8"));
  } finally {
    client.close();
  }
}
