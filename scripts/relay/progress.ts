/** What the relay tells the person who runs it. */
import { MultiBar, type SingleBar } from "cli-progress";
import { onOneLine, printJsonLine } from "../cli/print.ts";
import { report } from "../console.ts";

/** An upload's body on its way. */
export interface Transfer {
  readonly repository: string;
  /** null: it is not known before it ends */
  readonly totalBytes: number | null;
}

/** A blob that upstream has. */
export interface Uploaded {
  readonly repository: string;
  readonly digest: string;
  readonly bytes: number;
  readonly ms: number;
  /** with bytes */
  readonly requests: number;
  /** Requests that had to be made again. */
  readonly retries: number;
}

/** A body on its way, until it has ended. */
export interface Shown {
  readonly moved: (bytes: number) => void;
  readonly end: () => void;
}

const notShown: Shown = { moved: () => {}, end: () => {} };

export interface Progress {
  /** @returns what to tell of it */
  readonly begin: (transfer: Transfer) => Shown;
  readonly uploaded: (upload: Uploaded) => void;
  /** Something that is tried again, or given up. */
  readonly troubled: (repository: string, reason: string, isOver: boolean) => void;
  readonly close: () => void;
}

/** A line for each upload that has ended. */
export function lines(say: (line: string) => void = report): Progress {
  return {
    begin: () => notShown,
    uploaded: (upload) => say(uploadedLine(upload)),
    troubled: (repository, reason, isOver) => say(troubledLine(repository, reason, isOver)),
    close: () => {},
  };
}

/** For a terminal: a bar for each body on its way, and the lines above them. */
export function bars(): Progress {
  let shown: { readonly multi: MultiBar; readonly bars: Set<SingleBar> } | null = null;
  const { uploaded, troubled } = lines((line) => {
    if (shown === null) report(line);
    else shown.multi.log(`moorage: ${line}\n`);
  });
  const hide = (): void => {
    // What was said last is written by an update alone.
    shown?.multi.update();
    shown?.multi.stop();
    shown = null;
  };
  return {
    begin({ repository, totalBytes }) {
      shown ??= { multi: new MultiBar(barOptions), bars: new Set() };
      const { multi, bars: open } = shown;
      const format = totalBytes === null ? { format: "{size} {repository}" } : {};
      const name = { repository: onOneLine(repository) };
      const bar = multi.create(totalBytes ?? 1, 0, { ...name, size: size(0) }, format);
      open.add(bar);
      return {
        moved: (bytes) => bar.update(totalBytes === null ? 0 : bytes, { size: size(bytes) }),
        end() {
          open.delete(bar);
          if (open.size === 0) hide();
          else multi.remove(bar);
        },
      };
    },
    uploaded,
    troubled,
    close: hide,
  };
}

const barOptions = {
  stream: process.stderr,
  format: "{bar} {percentage}% {size} {repository}",
  barCompleteString: "=".repeat(80),
  barIncompleteString: "-".repeat(80),
  barsize: 24,
  clearOnComplete: true,
  hideCursor: true,
  // The relay itself ends them.
  gracefulExit: false,
};

/** A line of JSON for each event, on standard output. */
export function jsonLines(): Progress & { readonly ready: (url: string, upstream: string) => void } {
  return {
    ready: (url, upstream) => print("ready", { url, upstream }),
    begin: () => notShown,
    uploaded: (upload) => print("uploaded", upload),
    troubled: (repository, reason, isOver) => print(isOver ? "failed" : "retry", { repository, reason }),
    close: () => {},
  };
}

function print(event: string, fields: object): void {
  printJsonLine({ event, ...fields });
}

function uploadedLine({ repository, digest, bytes, ms, requests, retries }: Uploaded): string {
  const speed = ms > 0 ? `, ${size((bytes * 1000) / ms)}/s` : "";
  const parts = requests > 1 ? ` in ${String(requests)} requests` : "";
  const again = retries > 0 ? `, ${String(retries)} made again` : "";
  return onOneLine(`${repository}@${digest}: ${size(bytes)}${parts}${again}, ${(ms / 1000).toFixed(1)} s${speed}`);
}

function troubledLine(repository: string, reason: string, isOver: boolean): string {
  return onOneLine(`${repository}: ${reason}; ${isOver ? "given up" : "trying again"}`);
}

function size(bytes: number): string {
  if (bytes < 1000) return `${String(Math.round(bytes))} B`;
  const [value, unit] = bytes < 1e6 ? [bytes / 1e3, "kB"] : bytes < 1e9 ? [bytes / 1e6, "MB"] : [bytes / 1e9, "GB"];
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${unit}`;
}
