import { Hono } from "hono";
import { access } from "../access/access.ts";
import type { RepositoryEnv } from "../env.ts";
import { text } from "../http/text.ts";
import { prometheusText } from "./metrics.ts";
import { registrySize } from "./size.ts";

export const metrics = new Hono<RepositoryEnv>();

/** For administrators: what this isolate has done, and how large the registry is. D1: 1. */
metrics.get("/metrics", access("admin"), async (c) =>
  text(prometheusText(await registrySize(c.env.DB)), "text/plain; version=0.0.4; charset=utf-8", {
    "Cache-Control": "no-store",
  }),
);
