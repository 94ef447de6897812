import { Places } from "./places.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

/**
 * What a part of a chunk is held in. Moorage cuts blobs into parts of 8 MiB: chunks of whole parts are stored as they
 * come, others are in part sent twice.
 */
export const FRAME_BYTES = 8 * MIB;
/** Two on their way upstream, and one that fills meanwhile. */
export const FRAMES = 3;
/** Where a body of unknown length begins: most end here, and wait for no frame. */
const START_BYTES = 256 * KIB;
const STARTS = 16;
/** What the streams of a body that is passed on hold at most, on both sides. */
const PASSAGE_BYTES = 256 * KIB;
const PASSAGES = 16;

/** All body bytes of uploads that the relay holds at once; smaller bodies than this are not counted. */
export const WINDOW_BYTES = FRAMES * FRAME_BYTES + STARTS * START_BYTES + PASSAGES * PASSAGE_BYTES;
export const UNCOUNTED_BODY_BYTES = 16 * KIB;

/** A piece of memory with the bytes that it holds so far. */
export interface Frame {
  readonly kind: "frame" | "start";
  readonly buffer: Buffer;
  /** Most bytes that it is to hold. */
  readonly capacity: number;
  length: number;
}

/** The memory in which bodies are held, shared by all uploads. */
export class Window {
  readonly frames = new Places(FRAMES);
  readonly starts = new Places(STARTS);
  readonly passages = new Places(PASSAGES);
  readonly frameBytes: number;
  /** Kept for the next upload: to allocate anew is to leave garbage of their size. */
  readonly #spare: Readonly<Record<Frame["kind"], Buffer[]>> = { frame: [], start: [] };

  /** @param maxBodyBytes what upstream takes in one request: a frame holds no more */
  constructor(maxBodyBytes: number) {
    this.frameBytes = Math.min(FRAME_BYTES, maxBodyBytes);
  }

  get startBytes(): number {
    return Math.min(START_BYTES, this.frameBytes);
  }

  /** Whoever calls has taken a place for it. */
  open(kind: Frame["kind"]): Frame {
    const capacity = kind === "frame" ? this.frameBytes : this.startBytes;
    const buffer = this.#spare[kind].pop() ?? Buffer.allocUnsafeSlow(capacity);
    return { kind, buffer, capacity, length: 0 };
  }

  /** Gives the place back too. */
  close({ kind, buffer }: Frame): void {
    this.#spare[kind].push(buffer);
    (kind === "frame" ? this.frames : this.starts).give(1);
  }
}

/** Puts what fits of the bytes into the frame. @returns how many */
export function fill(frame: Frame, bytes: Buffer): number {
  const count = bytes.copy(frame.buffer, frame.length, 0, Math.min(bytes.length, frame.capacity - frame.length));
  frame.length += count;
  return count;
}
