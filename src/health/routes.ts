import { Hono } from "hono";
import { access } from "../access/access.ts";
import type { AppEnv, RepositoryEnv } from "../env.ts";
import { json } from "../http/text.ts";
import { READY_KEPT_MS } from "../limits.ts";
import { printError } from "../trace/log.ts";

/** Whether the Worker runs at all: also where it serves nothing else, for want of a secret. No operation, no access. */
export const liveness = new Hono<AppEnv>();

liveness.get("/healthz", () => json({ status: "ok" }, noStore));

export const readiness = new Hono<RepositoryEnv>();

/**
 * Whether what it needs can be reached; asked by whoever likes, so an isolate looks once in READY_KEPT_MS.
 * D1: 1, R2: 1, Durable Objects: 1; or none. 503 where one of them does not answer.
 */
readiness.get("/readyz", access("public"), async (c) => {
  const nowMs = Date.now();
  if (known === null || known.untilMs <= nowMs) {
    known = { checks: await check(c.env, c.get("requestId")), untilMs: nowMs + READY_KEPT_MS };
  }
  const { checks } = known;
  const isReady = Object.values(checks).every((state) => state === "ok");
  const body = JSON.stringify({ status: isReady ? "ready" : "not ready", checks });
  return new Response(body, {
    status: isReady ? 200 : 503,
    headers: { "Content-Type": "application/json", ...noStore },
  });
});

const noStore = { "Cache-Control": "no-store" };

type Checks = Readonly<Record<"d1" | "r2" | "durableObjects", "ok" | "failed">>;

let known: { readonly checks: Checks; readonly untilMs: number } | null = null;

async function check(env: Env, requestId: string): Promise<Checks> {
  const state = async (what: string, ask: () => Promise<unknown>): Promise<"ok" | "failed"> => {
    try {
      await ask();
      return "ok";
    } catch (error) {
      printError({ requestId, notReady: what, error: String(error) });
      return "failed";
    }
  };
  const [d1, r2, durableObjects] = await Promise.all([
    state("d1", async () => env.DB.prepare("SELECT value FROM registry_values WHERE name = 'created-at'").first()),
    state("r2", async () => env.BLOBS.head("ready")),
    state("durableObjects", async () => env.UPLOADS.getByName("ready").status()),
  ]);
  return { d1, r2, durableObjects };
}
