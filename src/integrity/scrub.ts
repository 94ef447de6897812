import { z } from "zod";
import {
  INTEGRITY_LEASE_SECONDS,
  SCRUB_FAILURES_MAX,
  SCRUB_MANIFESTS_MAX,
  SCRUB_QUARANTINED_MAX,
  SCRUB_ROUND_SECONDS,
  SCRUB_SHARE_MIN,
  SCRUB_TICK_BYTES,
  SCRUB_TICK_OBJECTS,
  SCRUB_TICK_SECONDS,
} from "../limits.ts";
import type { Requester } from "../requester.ts";
import { progressSchema } from "./check.ts";
import { listBlobsToCheck, listManifestsToCheck } from "./contents.ts";
import { type Content, contentKinds, type Finding, type Integrity } from "./finding.ts";
import { type Budget, checkSlice, type Slice } from "./slice.ts";
import { replaceValue } from "./values.ts";

export const scrubValue = "scrub";

const stateSchema = z.strictObject({
  /** ms since 1970, of this round */
  beganMs: z.number(),
  /** null: it is under way */
  endedMs: z.number().nullable(),
  kind: z.enum(contentKinds),
  /** id of the last row that was read to its end */
  after: z.int(),
  progress: progressSchema.nullable(),
  /** of a whole minute's work, which the plan's limits let be done in one */
  share: z.number().min(SCRUB_SHARE_MIN).max(1),
  /** ms since 1970, until when a minute's work may go on; 0: it has ended */
  leaseMs: z.number(),
  /** of this round */
  objects: z.int(),
  bytes: z.int(),
});

type ScrubState = z.infer<typeof stateSchema>;

/** What a minute's work came to, for the log. */
export interface Scrubbed {
  readonly objects: number;
  readonly bytes: number;
  readonly findings: readonly Finding[];
  /** R2 keys of what could not be read, and is left for the next round */
  readonly unreadable: readonly string[];
}

/** By how much a share grows again with each minute that ends. */
const SHARE_GROWTH = 1.125;

/**
 * A minute's work of the scrub: all blobs and then all manifests are read, in the order of their ids, and compared with
 * their digests; when that is done, it begins anew after SCRUB_ROUND_SECONDS. Where it is lies in D1, so a run that is
 * cut off repeats a minute at most. D1: none where it rests; else 2 writes, a read, and one more for every
 * SCRUB_MANIFESTS_MAX manifests; R2: 1 an object; and 2 of D1 for each finding.
 * @param saved as the database has it
 * @param quarantined how much is so already
 * @returns null where there was nothing to do, too much is quarantined, or another run is at it
 */
export async function scrub(
  env: Pick<Env, "DB" | "BLOBS">,
  saved: string | null,
  quarantined: number,
  nowMs: number,
): Promise<Scrubbed | null> {
  const before = parseScrubState(saved);
  const begun = before === null ? newRound(nowMs, 1) : nextRun(before, nowMs);
  if (begun === null || quarantined >= SCRUB_QUARANTINED_MAX) return null;
  const claimed = { ...begun, leaseMs: nowMs + INTEGRITY_LEASE_SECONDS * 1000 };
  const claim = await replaceValue(env.DB, scrubValue, saved, JSON.stringify(claimed)).run();
  if (claim.meta.changes !== 1) return null;
  const run = new Run(env, claimed, quarantined, nowMs);
  await run.work();
  const { state, scrubbed } = run;
  await replaceValue(env.DB, scrubValue, JSON.stringify(claimed), JSON.stringify({ ...state, leaseMs: 0 })).run();
  return scrubbed;
}

/** What an earlier version of the Worker saved, and can't be read, is begun anew. */
export function parseScrubState(saved: string | null): ScrubState | null {
  if (saved === null) return null;
  const parsed = stateSchema.safeParse(JSON.parse(saved));
  return parsed.success ? parsed.data : null;
}

/** As the API tells it. */
export function toldScrub(state: ScrubState | null): Integrity["scrub"] {
  if (state === null) return null;
  const { beganMs, endedMs, kind: reading, objects, bytes } = state;
  return {
    beganAt: new Date(beganMs).toISOString(),
    endedAt: endedMs === null ? null : new Date(endedMs).toISOString(),
    nextAt: endedMs === null ? null : new Date(beganMs + SCRUB_ROUND_SECONDS * 1000).toISOString(),
    reading,
    objects,
    bytes,
  };
}

function newRound(nowMs: number, share: number): ScrubState {
  return {
    beganMs: nowMs,
    endedMs: null,
    kind: "blob",
    after: 0,
    progress: null,
    share,
    leaseMs: 0,
    objects: 0,
    bytes: 0,
  };
}

/** Where the next minute begins; null where none is due. A lease that was not given back is that of a run that was cut off. */
function nextRun(state: ScrubState, nowMs: number): ScrubState | null {
  if (state.leaseMs > nowMs) return null;
  const share =
    state.leaseMs === 0 ? Math.min(1, state.share * SHARE_GROWTH) : Math.max(SCRUB_SHARE_MIN, state.share / 2);
  if (state.endedMs === null) return { ...state, share };
  return nowMs < state.beganMs + SCRUB_ROUND_SECONDS * 1000 ? null : newRound(nowMs, share);
}

class Run {
  state: ScrubState;
  readonly #env: Pick<Env, "DB" | "BLOBS">;
  readonly #budget: Budget;
  readonly #by: Requester;
  #quarantined: number;
  #objects = 0;
  #bytes = 0;
  readonly #findings: Finding[] = [];
  readonly #unreadable: string[] = [];

  constructor(env: Pick<Env, "DB" | "BLOBS">, state: ScrubState, quarantined: number, nowMs: number) {
    this.#env = env;
    this.#quarantined = quarantined;
    this.state = state;
    this.#budget = {
      bytes: Math.ceil(SCRUB_TICK_BYTES * state.share),
      objects: Math.ceil(SCRUB_TICK_OBJECTS * state.share),
      untilMs: nowMs + SCRUB_TICK_SECONDS * 1000,
    };
    this.#by = { principal: { name: "scrub", tokenId: null }, address: null, requestId: crypto.randomUUID() };
  }

  get scrubbed(): Scrubbed {
    return { objects: this.#objects, bytes: this.#bytes, findings: this.#findings, unreadable: this.#unreadable };
  }

  async work(): Promise<void> {
    while (this.state.endedMs === null) {
      const left = this.#budget.objects - this.#objects;
      const limit = this.state.kind === "blob" ? left : Math.min(left, SCRUB_MANIFESTS_MAX);
      const contents = await this.#list(limit);
      if (!(await this.#read(contents))) return;
      if (contents.length < limit) this.#turn();
      if (this.#isSpent()) return;
    }
  }

  /** @returns whether all of it was read */
  async #read(contents: readonly Content[]): Promise<boolean> {
    const left = {
      bytes: this.#budget.bytes - this.#bytes,
      objects: this.#budget.objects - this.#objects,
      untilMs: this.#budget.untilMs,
      findings: SCRUB_QUARANTINED_MAX - this.#quarantined,
    };
    const slice = await checkSlice(this.#env, contents, this.state.progress, left, this.#by);
    this.#note(slice);
    if ((slice.progress?.failures ?? 0) >= SCRUB_FAILURES_MAX) this.#pass(contents, slice);
    return slice.ended;
  }

  #isSpent(): boolean {
    const { bytes, objects, untilMs } = this.#budget;
    const isOver = this.#bytes >= bytes || this.#objects >= objects || Date.now() >= untilMs;
    return isOver || this.#quarantined >= SCRUB_QUARANTINED_MAX;
  }

  #note({ objects, bytes, findings, last, progress }: Slice): void {
    this.#objects += objects;
    this.#bytes += bytes;
    this.#findings.push(...findings);
    this.#quarantined += findings.length;
    this.state = {
      ...this.state,
      after: last?.id ?? this.state.after,
      progress,
      objects: this.state.objects + objects,
      bytes: this.state.bytes + bytes,
    };
  }

  /** One object that R2 can't give must not keep the scrub from all others. */
  #pass(contents: readonly Content[], { progress }: Slice): void {
    const content = contents.find(({ id }) => id === progress?.id);
    if (content === undefined) return;
    this.#unreadable.push(content.objectKey ?? content.digest);
    this.state = { ...this.state, after: content.id, progress: null };
  }

  #turn(): void {
    this.state =
      this.state.kind === "blob"
        ? { ...this.state, kind: "manifest", after: 0, progress: null }
        : { ...this.state, endedMs: Date.now() };
  }

  async #list(limit: number): Promise<readonly Content[]> {
    const { kind, after } = this.state;
    const rows =
      kind === "blob"
        ? await listBlobsToCheck(this.#env.DB, after, limit)
        : await listManifestsToCheck(this.#env.DB, after, limit);
    return rows.map((row) => ({ ...row, kind }));
  }
}
