import { memoryInUse } from "../edge/edge.ts";
import type { RequestLine } from "../trace/request-log.ts";
import type { Trace } from "../trace/trace.ts";

/**
 * What one isolate counts from its start. Cloudflare starts and ends isolates as it likes, in many places: whoever
 * gathers these sums over `isolate`, and takes what has ended as ended. What all isolates did together is in Analytics
 * Engine.
 */
let isolate: string | null = null;

const requests = new Map<string, number>();
const operations = { d1: 0, r2: 0, durableObjects: 0 };
const cache = { memory: 0, cache: 0, miss: 0, bypass: 0 };
let sentBytes = 0;
let receivedBytes = 0;

export function countRequest(line: RequestLine, trace: Trace): void {
  const key = `${line.endpoint}",method="${line.method}",status="${String(line.status)}`;
  requests.set(key, (requests.get(key) ?? 0) + 1);
  sentBytes += line.bytes ?? 0;
  receivedBytes += line.receivedBytes ?? 0;
  operations.d1 += trace.d1.count;
  operations.r2 += trace.r2.count;
  operations.durableObjects += trace.durableObjects.count;
  // What is only asked about, and what its reader has already, is no pull.
  if (trace.cache !== null && line.method === "GET" && line.status !== 304) cache[trace.cache]++;
}

interface Metric {
  readonly name: string;
  readonly type: "counter" | "gauge";
  readonly help: string;
  /** labels without the isolate, and the value */
  readonly samples: readonly (readonly [labels: string, value: number])[];
}

/** The registry's size when it was last counted. */
export interface RegistrySize {
  readonly repositories: number;
  readonly manifests: number;
  readonly tags: number;
  readonly blobs: number;
  readonly blobBytes: number;
  /** ms since 1970 */
  readonly countedAtMs: number;
}

/** The text format of Prometheus, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats). */
export function prometheusText(size: RegistrySize | null): string {
  const { entries, bytes } = memoryInUse();
  // Nothing random can be had before the first request.
  isolate ??= crypto.randomUUID().slice(0, 8);
  const common = `isolate="${isolate}"`;
  const ofIsolate: readonly Metric[] = [
    {
      name: "moorage_requests_total",
      type: "counter",
      help: "Requests by endpoint, which is the end-id of the distribution specification.",
      samples: [...requests].map(([key, count]) => [`endpoint="${key}"`, count]),
    },
    {
      name: "moorage_operations_total",
      type: "counter",
      help: "Round trips to D1, R2 and Durable Objects.",
      samples: Object.entries(operations).map(([kind, count]) => [`kind="${kind}"`, count]),
    },
    {
      name: "moorage_pulls_total",
      type: "counter",
      help: "Pulls by where they were answered from.",
      samples: Object.entries(cache).map(([from, count]) => [`from="${from}"`, count]),
    },
    { name: "moorage_sent_bytes_total", type: "counter", help: "Bytes of answers.", samples: [["", sentBytes]] },
    {
      name: "moorage_received_bytes_total",
      type: "counter",
      help: "Bytes of requests that told their length.",
      samples: [["", receivedBytes]],
    },
    { name: "moorage_cache_bytes", type: "gauge", help: "Memory of the pull cache.", samples: [["", bytes]] },
    { name: "moorage_cache_entries", type: "gauge", help: "Entries of the pull cache.", samples: [["", entries]] },
  ];
  const ofRegistry: readonly Metric[] =
    size === null
      ? []
      : [
          {
            name: "moorage_content",
            type: "gauge",
            help: "What the registry had when it was counted, once a day.",
            samples: [
              ['kind="repository"', size.repositories],
              ['kind="manifest"', size.manifests],
              ['kind="tag"', size.tags],
              ['kind="blob"', size.blobs],
            ],
          },
          { name: "moorage_blob_bytes", type: "gauge", help: "Bytes of all blobs.", samples: [["", size.blobBytes]] },
          {
            name: "moorage_content_counted_seconds",
            type: "gauge",
            help: "When that was, in seconds since 1970.",
            samples: [["", Math.floor(size.countedAtMs / 1000)]],
          },
        ];
  return [...ofIsolate.map((metric) => textOf(metric, common)), ...ofRegistry.map((metric) => textOf(metric, ""))].join(
    "",
  );
}

function textOf({ name, type, help, samples }: Metric, common: string): string {
  const lines = samples.map(([labels, value]) => {
    const all = [labels, common].filter((each) => each !== "").join(",");
    return `${name}${all === "" ? "" : `{${all}}`} ${String(value)}\n`;
  });
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}
