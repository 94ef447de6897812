import { observingOf } from "../config.ts";
import { logRequest, type RequestLine } from "../trace/request-log.ts";
import { serverTiming } from "../trace/server-timing.ts";
import type { Trace } from "../trace/trace.ts";
import { countRequest } from "./metrics.ts";

/**
 * Of a request whose answer is about to begin: its line in the log, and its part in the figures.
 * @param isAskedFor an administrator wants to know where its time went
 * @returns the value of Server-Timing, where it is told
 */
export function noteRequest(
  env: Env,
  context: Pick<ExecutionContext, "waitUntil">,
  line: RequestLine,
  trace: Trace,
  isAskedFor: boolean,
): string | null {
  const { LOCAL_RUN, LOG_REQUESTS } = observingOf(env);
  countRequest(line, trace);
  if (LOG_REQUESTS === "all" || (LOG_REQUESTS === "errors" && line.status >= 400)) {
    logRequest(line, trace, context, LOCAL_RUN);
  }
  return LOCAL_RUN || isAskedFor ? serverTiming(trace, line.ms) : null;
}
