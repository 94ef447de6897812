import { Hono } from "hono";
import { access } from "../access/access.ts";
import type { AppEnv, RepositoryEnv } from "../env.ts";
import { json } from "../http/text.ts";
import { READY_ASK_AGAIN_MS, READY_KEPT_MS } from "../limits.ts";
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
  const checks = await checksOf(c.env, c.get("requestId"));
  const isReady = Object.values(checks).every((state) => state === "ok");
  return json({ status: isReady ? "ready" : "not ready", checks }, noStore, isReady ? 200 : 503);
});

const noStore = { "Cache-Control": "no-store" };

type Checks = Readonly<Record<"d1" | "r2" | "durableObjects", "ok" | "failed">>;

let known: { readonly checks: Checks; readonly untilMs: number } | null = null;

/** until when nobody else looks, ms */
let lookingUntilMs = 0;

/** Who comes while another one looks is told what was known before, or waits: two probes at once are no fault. */
async function checksOf(env: Env, requestId: string): Promise<Checks> {
  for (;;) {
    const nowMs = Date.now();
    if (known !== null && known.untilMs > nowMs) return known.checks;
    if (lookingUntilMs <= nowMs) return look(env, requestId);
    if (known !== null && known.untilMs + READY_KEPT_MS > nowMs) return known.checks;
    // By a timer of its own: the platform lets no request wait for another one's promise.
    await scheduler.wait(READY_ASK_AGAIN_MS);
  }
}

async function look(env: Env, requestId: string): Promise<Checks> {
  lookingUntilMs = Date.now() + READY_KEPT_MS;
  try {
    const checks = await check(env, requestId);
    known = { checks, untilMs: Date.now() + READY_KEPT_MS };
    return checks;
  } finally {
    lookingUntilMs = 0;
  }
}

async function check(env: Env, requestId: string): Promise<Checks> {
  const state = async (what: string, ask: () => Promise<unknown>): Promise<"ok" | "failed"> => {
    try {
      // What hangs does not answer either.
      const late = scheduler.wait(READY_KEPT_MS).then(() => {
        throw new Error(`no answer in ${String(READY_KEPT_MS)} ms`);
      });
      await Promise.race([ask(), late]);
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
