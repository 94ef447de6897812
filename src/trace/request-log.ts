import { REQUEST_LINES_AT_ONCE_MAX, REQUEST_LINES_WAIT_MS } from "../limits.ts";
import { printLines } from "./log.ts";
import type { Trace } from "./trace.ts";

/** What is told of a request when its answer begins: never a header, a query or a body, where secrets are. */
export interface RequestLine {
  readonly requestId: string;
  readonly endpoint: string;
  readonly method: string;
  readonly repository: string | null;
  /** null: it was not asked who it is */
  readonly principal: string | null;
  readonly status: number;
  /** of the answer; null where it is not known beforehand */
  readonly bytes: number | null;
  /** of the request's body; null where it has none, or does not tell */
  readonly receivedBytes: number | null;
  readonly ms: number;
}

/**
 * One line of JSON. Deployed, each goes out by itself, as Cloudflare keeps what is logged with the request that logs
 * it. The local run writes some at once: a write costs there as much as a warm pull.
 */
export function logRequest(
  line: RequestLine,
  trace: Trace,
  context: Pick<ExecutionContext, "waitUntil">,
  isLocal: boolean,
): void {
  const { d1, r2, durableObjects, cache } = trace;
  const text = JSON.stringify({
    time: new Date().toISOString(),
    ...line,
    d1: d1.count,
    r2: r2.count,
    durableObjects: durableObjects.count,
    cache,
  });
  if (!isLocal) {
    printLines([text]);
    return;
  }
  waiting.push(text);
  if (waiting.length >= REQUEST_LINES_AT_ONCE_MAX) write();
  else if (waiting.length === 1) context.waitUntil(scheduler.wait(REQUEST_LINES_WAIT_MS).then(write));
}

let waiting: string[] = [];

function write(): void {
  const lines = waiting;
  waiting = [];
  if (lines.length > 0) printLines(lines);
}
