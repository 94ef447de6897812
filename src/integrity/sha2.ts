/**
 * SHA-256 and SHA-512 (FIPS 180-4) whose state can be kept between two runs of the Worker: what the platform has can't be
 * taken up again after the run that began it. A tenth of the platform's speed (README.md), so it is for blobs alone that
 * are too large to be read in one run.
 */
import type { DigestAlgorithm } from "../oci/digest.ts";

interface Variant {
  readonly blockBytes: number;
  /** 32-bit halves or wholes of the eight words */
  readonly initial: Int32Array;
  readonly compress: (state: Int32Array, bytes: Uint8Array, at: number) => void;
  /** of the message's length at its end */
  readonly lengthBytes: number;
}

/** A hash that goes on from where it was saved. */
export class ResumableHash {
  readonly #variant: Variant;
  readonly #state: Int32Array;
  readonly #tail: Uint8Array<ArrayBuffer>;
  #lengthBytes: number;

  constructor(algorithm: DigestAlgorithm) {
    this.#variant = variants[algorithm];
    this.#state = this.#variant.initial.slice();
    this.#tail = new Uint8Array(this.#variant.blockBytes);
    this.#lengthBytes = 0;
  }

  /**
   * @param saved of a hash of the same algorithm
   * @returns null where that is no saved state
   */
  static load(algorithm: DigestAlgorithm, saved: string): ResumableHash | null {
    const hash = new ResumableHash(algorithm);
    return hash.#restore(saved) ? hash : null;
  }

  /** Bytes that it has seen. */
  get lengthBytes(): number {
    return this.#lengthBytes;
  }

  update(bytes: Uint8Array): void {
    const { blockBytes, compress } = this.#variant;
    let at = 0;
    const held = this.#lengthBytes % blockBytes;
    this.#lengthBytes += bytes.byteLength;
    if (held > 0) {
      at = Math.min(blockBytes - held, bytes.byteLength);
      this.#tail.set(bytes.subarray(0, at), held);
      if (held + at < blockBytes) return;
      compress(this.#state, this.#tail, 0);
    }
    for (; at + blockBytes <= bytes.byteLength; at += blockBytes) compress(this.#state, bytes, at);
    this.#tail.set(bytes.subarray(at), 0);
  }

  /** The state as a text of at most 270 letters: words, length, and the bytes that do not fill a block yet. */
  save(): string {
    const held = this.#lengthBytes % this.#variant.blockBytes;
    const bytes = new Uint8Array(this.#state.byteLength + LENGTH_BYTES + held);
    const view = new DataView(bytes.buffer);
    for (const [index, word] of this.#state.entries()) view.setInt32(index * 4, word);
    view.setBigUint64(this.#state.byteLength, BigInt(this.#lengthBytes));
    bytes.set(this.#tail.subarray(0, held), this.#state.byteLength + LENGTH_BYTES);
    return bytes.toBase64(lettersOfState);
  }

  /** The digest of the bytes so far, in hexadecimal; more may come after. */
  hex(): string {
    const { blockBytes, lengthBytes, compress } = this.#variant;
    const held = this.#lengthBytes % blockBytes;
    const end = new Uint8Array(held + 1 + lengthBytes > blockBytes ? 2 * blockBytes : blockBytes);
    end.set(this.#tail.subarray(0, held));
    end[held] = 0x80;
    new DataView(end.buffer).setBigUint64(end.byteLength - LENGTH_BYTES, BigInt(this.#lengthBytes) * 8n);
    const state = this.#state.slice();
    for (let at = 0; at < end.byteLength; at += blockBytes) compress(state, end, at);
    return [...state].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }

  #restore(saved: string): boolean {
    const bytes = bytesOf(saved);
    const wordsBytes = this.#state.byteLength;
    if (bytes === null || bytes.byteLength < wordsBytes + LENGTH_BYTES) return false;
    const view = new DataView(bytes.buffer);
    const length = view.getBigUint64(wordsBytes);
    const tail = bytes.subarray(wordsBytes + LENGTH_BYTES);
    if (length > BigInt(Number.MAX_SAFE_INTEGER)) return false;
    if (Number(length) % this.#variant.blockBytes !== tail.byteLength) return false;
    for (let index = 0; index < this.#state.length; index++) this.#state[index] = view.getInt32(index * 4);
    this.#lengthBytes = Number(length);
    this.#tail.set(tail);
    return true;
  }
}

/** Of a length, as it is saved. */
const LENGTH_BYTES = 8;

const lettersOfState = { alphabet: "base64url", omitPadding: true } as const;

function bytesOf(saved: string): Uint8Array | null {
  try {
    return Uint8Array.fromBase64(saved, { alphabet: "base64url" });
  } catch {
    return null;
  }
}

/** Of the 64 (80) rounds: the first bits of the fractions of the cube roots of the first primes, FIPS 180-4 section 4.2. */
const rounds = firstPrimes(80).map((prime) => fractionOfRoot(prime, 3n));
const k256 = Int32Array.from(rounds.slice(0, 64), (bits) => Number(bits >> 32n) | 0);
const k512High = Int32Array.from(rounds, (bits) => Number(bits >> 32n) | 0);
const k512Low = Int32Array.from(rounds, (bits) => Number(bits & 0xffff_ffffn) | 0);

/** The same of the square roots, section 5.3. */
const squares = firstPrimes(8).map((prime) => fractionOfRoot(prime, 2n));

const w256 = new Int32Array(64);
const wHigh = new Int32Array(80);
const wLow = new Int32Array(80);

const variants: Readonly<Record<DigestAlgorithm, Variant>> = {
  sha256: {
    blockBytes: 64,
    initial: Int32Array.from(squares, (bits) => Number(bits >> 32n) | 0),
    compress: compress256,
    lengthBytes: 8,
  },
  sha512: {
    blockBytes: 128,
    initial: Int32Array.from(squares.flatMap((bits) => [Number(bits >> 32n) | 0, Number(bits & 0xffff_ffffn) | 0])),
    compress: compress512,
    lengthBytes: 16,
  },
};

function firstPrimes(count: number): bigint[] {
  const primes: bigint[] = [];
  for (let candidate = 2n; primes.length < count; candidate++) {
    if (primes.every((prime) => candidate % prime !== 0n)) primes.push(candidate);
  }
  return primes;
}

/** The first 64 bits behind the point. */
function fractionOfRoot(value: bigint, degree: bigint): bigint {
  const scaled = value << (64n * degree);
  // The roots are below 2^5.
  let [low, high] = [0n, 1n << 69n];
  while (high - low > 1n) {
    const middle = (low + high) / 2n;
    if (middle ** degree <= scaled) low = middle;
    else high = middle;
  }
  return low & 0xffff_ffff_ffff_ffffn;
}

/** FIPS 180-4 section 6.2.2. Words are read by their index: taking an array apart costs more than a round. */
function compress256(state: Int32Array, bytes: Uint8Array, at: number): void {
  const w = w256;
  for (let t = 0, from = at; t < 16; t++, from += 4) {
    w[t] =
      ((bytes[from] ?? 0) << 24) |
      ((bytes[from + 1] ?? 0) << 16) |
      ((bytes[from + 2] ?? 0) << 8) |
      (bytes[from + 3] ?? 0);
  }
  for (let t = 16; t < 64; t++) {
    const x = w[t - 15] ?? 0;
    const y = w[t - 2] ?? 0;
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    w[t] = (((s1 + (w[t - 7] ?? 0)) | 0) + ((s0 + (w[t - 16] ?? 0)) | 0)) | 0;
  }
  let a = state[0] ?? 0;
  let b = state[1] ?? 0;
  let c = state[2] ?? 0;
  let d = state[3] ?? 0;
  let e = state[4] ?? 0;
  let f = state[5] ?? 0;
  let g = state[6] ?? 0;
  let h = state[7] ?? 0;
  for (let t = 0; t < 64; t++) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const choice = g ^ (e & (f ^ g));
    const t1 = (((h + s1) | 0) + ((choice + (((k256[t] ?? 0) + (w[t] ?? 0)) | 0)) | 0)) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (s0 + ((a & b) | (c & (a | b)))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + t1) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + t2) | 0;
  }
  state[0] = (state[0] ?? 0) + a;
  state[1] = (state[1] ?? 0) + b;
  state[2] = (state[2] ?? 0) + c;
  state[3] = (state[3] ?? 0) + d;
  state[4] = (state[4] ?? 0) + e;
  state[5] = (state[5] ?? 0) + f;
  state[6] = (state[6] ?? 0) + g;
  state[7] = (state[7] ?? 0) + h;
}

/** FIPS 180-4 section 6.4.2, on halves of the words: high ones end with `h`, low ones with `l`. */
function compress512(state: Int32Array, bytes: Uint8Array, at: number): void {
  expand512(bytes, at);
  let ah = state[0] ?? 0;
  let al = state[1] ?? 0;
  let bh = state[2] ?? 0;
  let bl = state[3] ?? 0;
  let ch = state[4] ?? 0;
  let cl = state[5] ?? 0;
  let dh = state[6] ?? 0;
  let dl = state[7] ?? 0;
  let eh = state[8] ?? 0;
  let el = state[9] ?? 0;
  let fh = state[10] ?? 0;
  let fl = state[11] ?? 0;
  let gh = state[12] ?? 0;
  let gl = state[13] ?? 0;
  let hh = state[14] ?? 0;
  let hl = state[15] ?? 0;
  for (let t = 0; t < 80; t++) {
    const s1h = ((eh >>> 14) | (el << 18)) ^ ((eh >>> 18) | (el << 14)) ^ ((el >>> 9) | (eh << 23));
    const s1l = ((el >>> 14) | (eh << 18)) ^ ((el >>> 18) | (eh << 14)) ^ ((eh >>> 9) | (el << 23));
    const choiceHigh = gh ^ (eh & (fh ^ gh));
    const choiceLow = gl ^ (el & (fl ^ gl));
    const t1low = (hl >>> 0) + (s1l >>> 0) + (choiceLow >>> 0) + ((k512Low[t] ?? 0) >>> 0) + ((wLow[t] ?? 0) >>> 0);
    const t1l = t1low | 0;
    const t1h =
      (((hh + s1h) | 0) + ((choiceHigh + (((k512High[t] ?? 0) + (wHigh[t] ?? 0)) | 0)) | 0) + ((t1low / CARRY) | 0)) |
      0;
    const s0h = ((ah >>> 28) | (al << 4)) ^ ((al >>> 2) | (ah << 30)) ^ ((al >>> 7) | (ah << 25));
    const s0l = ((al >>> 28) | (ah << 4)) ^ ((ah >>> 2) | (al << 30)) ^ ((ah >>> 7) | (al << 25));
    const t2low = (s0l >>> 0) + (((al & bl) | (cl & (al | bl))) >>> 0);
    const t2h = (((s0h + ((ah & bh) | (ch & (ah | bh)))) | 0) + ((t2low / CARRY) | 0)) | 0;
    hh = gh;
    hl = gl;
    gh = fh;
    gl = fl;
    fh = eh;
    fl = el;
    const elow = (dl >>> 0) + (t1l >>> 0);
    eh = (((dh + t1h) | 0) + ((elow / CARRY) | 0)) | 0;
    el = elow | 0;
    dh = ch;
    dl = cl;
    ch = bh;
    cl = bl;
    bh = ah;
    bl = al;
    const alow = (t1l >>> 0) + ((t2low | 0) >>> 0);
    ah = (((t1h + t2h) | 0) + ((alow / CARRY) | 0)) | 0;
    al = alow | 0;
  }
  add64(state, 0, ah, al);
  add64(state, 2, bh, bl);
  add64(state, 4, ch, cl);
  add64(state, 6, dh, dl);
  add64(state, 8, eh, el);
  add64(state, 10, fh, fl);
  add64(state, 12, gh, gl);
  add64(state, 14, hh, hl);
}

/** What a sum of low halves has in the high ones. */
const CARRY = 0x1_0000_0000;

function expand512(bytes: Uint8Array, at: number): void {
  for (let t = 0, from = at; t < 16; t++, from += 8) {
    wHigh[t] =
      ((bytes[from] ?? 0) << 24) |
      ((bytes[from + 1] ?? 0) << 16) |
      ((bytes[from + 2] ?? 0) << 8) |
      (bytes[from + 3] ?? 0);
    wLow[t] =
      ((bytes[from + 4] ?? 0) << 24) |
      ((bytes[from + 5] ?? 0) << 16) |
      ((bytes[from + 6] ?? 0) << 8) |
      (bytes[from + 7] ?? 0);
  }
  for (let t = 16; t < 80; t++) {
    const xh = wHigh[t - 15] ?? 0;
    const xl = wLow[t - 15] ?? 0;
    const yh = wHigh[t - 2] ?? 0;
    const yl = wLow[t - 2] ?? 0;
    const s0h = ((xh >>> 1) | (xl << 31)) ^ ((xh >>> 8) | (xl << 24)) ^ (xh >>> 7);
    const s0l = ((xl >>> 1) | (xh << 31)) ^ ((xl >>> 8) | (xh << 24)) ^ ((xl >>> 7) | (xh << 25));
    const s1h = ((yh >>> 19) | (yl << 13)) ^ ((yl >>> 29) | (yh << 3)) ^ (yh >>> 6);
    const s1l = ((yl >>> 19) | (yh << 13)) ^ ((yh >>> 29) | (yl << 3)) ^ ((yl >>> 6) | (yh << 26));
    const low = (s1l >>> 0) + ((wLow[t - 7] ?? 0) >>> 0) + (s0l >>> 0) + ((wLow[t - 16] ?? 0) >>> 0);
    wLow[t] = low | 0;
    wHigh[t] = (((s1h + (wHigh[t - 7] ?? 0)) | 0) + ((s0h + (wHigh[t - 16] ?? 0)) | 0) + ((low / CARRY) | 0)) | 0;
  }
}

function add64(state: Int32Array, index: number, high: number, low: number): void {
  const sum = ((state[index + 1] ?? 0) >>> 0) + (low >>> 0);
  state[index] = (((state[index] ?? 0) + high) | 0) + ((sum / CARRY) | 0);
  state[index + 1] = sum;
}
