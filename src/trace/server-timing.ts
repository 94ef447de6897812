import type { Spent, Trace } from "./trace.ts";

/** The header of that name (W3C Server Timing): where a request's time went, and how often it went over. */
export function serverTiming({ accessMs, cache, d1, r2, durableObjects }: Trace, totalMs: number): string {
  return [
    `auth;dur=${String(accessMs)}`,
    metric("d1", d1),
    metric("r2", r2),
    metric("do", durableObjects),
    `cache;desc="${cache ?? "none"}"`,
    `total;dur=${String(totalMs)}`,
  ].join(", ");
}

function metric(name: string, { count, ms }: Spent): string {
  return `${name};desc="${String(count)}";dur=${String(ms)}`;
}
