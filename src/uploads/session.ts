import { DurableObject } from "cloudflare:workers";
import type { Digest } from "../oci/digest.ts";
import { ALARM_PATIENCE_SECONDS, ALARM_RETRY_SECONDS, PARTS_MAX } from "../limits.ts";
import { insertGarbage } from "../blobs/garbage.ts";
import type { AfterEnd, Ledger, Multipart, Part, Progress } from "./ledger.ts";
import { Lease } from "./lease.ts";

export type OpenAnswer =
  | {
      readonly kind: "granted";
      readonly ledger: Ledger;
      readonly lease: Lease;
    }
  | { readonly kind: "conflict"; readonly offset: number }
  /** to a PATCH alone: a final PUT came before it */
  | { readonly kind: "sealed" }
  | { readonly kind: "finished"; readonly digest: Digest }
  | { readonly kind: "unknown" };

export type SessionStatus =
  | { readonly kind: "open"; readonly offset: number }
  | { readonly kind: "finished"; readonly digest: Digest }
  | { readonly kind: "cancelled" | "absent" };

export interface OpenRequest {
  /** where the caller's bytes begin; null: wherever the session stands */
  readonly start: number | null;
  /** `finish`: a final PUT, which makes the object whole */
  readonly purpose: "append" | "finish";
  readonly hasBytes: boolean;
  /** makes the session where it is not there yet */
  readonly create: { readonly partBytes: number; readonly expiresAtMs: number } | null;
}

const TAIL_ROW_BYTES = 1024 * 1024;

/**
 * The ledger of one upload session that takes more than one request: which bytes R2 has, in which parts, and who may
 * write next. Each of its calls that changes something is one storage transaction. Why it is made this way is in
 * src/uploads/README.md.
 */
export class UploadSession extends DurableObject<Env> {
  #lease: Lease | null = null;
  /** nobody was granted anything since this machine took the session up: who was before may still be writing */
  #isNew = true;

  /**
   * Hands the right to write to one request at a time. The lease is an object in the caller's hands: it ends with
   * `release`, and by itself when the caller's request or machine is gone, so nothing has to time out first. A holder
   * whose client fell silent gives way to a newcomer at the right offset.
   */
  async open(request: OpenRequest): Promise<OpenAnswer> {
    const known = this.#ledger();
    if (known?.end?.kind === "finished") return known.end;
    if (known?.end?.kind === "cancelled" || (known === null && request.create === null)) return { kind: "unknown" };
    if (known === null && (request.start ?? 0) !== 0) return { kind: "conflict", offset: 0 };
    const ledger = known ?? (await this.#create(request.create));
    const inOrder = request.start === null || request.start === ledger.offset;
    if (ledger.sealed && request.purpose === "append") return { kind: "sealed" };
    // All bytes of a sealed session came with an earlier final PUT: its repetition brings them again, to no use.
    if (!ledger.sealed && !inOrder) return { kind: "conflict", offset: ledger.offset };
    const tookOver = this.#lease !== null || (this.#isNew && ledger.multipart !== null);
    if (this.#lease !== null && !this.#lease.isIdle(Date.now())) return { kind: "conflict", offset: ledger.offset };
    // A holder that fell silent, or that held it of the machine before, may still be sending this part's number to R2,
    // where the last writer wins: leave it unused.
    const nextPart = tookOver ? Math.max(ledger.nextPart, ledger.tailPart ?? 0) + 1 : ledger.nextPart;
    const lease = new Lease({
      isHeld: () => this.#lease === lease,
      release: () => {
        if (this.#lease === lease) this.#lease = null;
      },
      recordUpload: (multipart) => this.#write({ ...this.#mustLedger(), candidate: multipart }),
      recordParts: (parts, multipart) => this.#recordParts(parts, multipart),
      recordEnd: async (progress, then) => this.#recordEnd(progress, then),
      tail: () => this.#tail(),
      parts: () => this.#parts(),
      finish: (digest) => this.#finish(digest),
      discard: () => this.#discard(),
    });
    this.#lease = lease;
    this.#isNew = false;
    const open = { ...ledger, nextPart, candidate: null };
    // One call fewer for the empty final PUT.
    const seals = request.purpose === "finish" && !request.hasBytes;
    const granted = { ...open, sealed: ledger.sealed || seals };
    // A number that was left out stays out: the one who takes over next must not be given it either.
    if (tookOver || seals || ledger.candidate !== null) this.#write(granted);
    // Of a request that broke off, or of a silent one: it is told that it lost the session before it can record a part.
    if (ledger.candidate !== null) this.ctx.waitUntil(this.#abort(ledger.candidate).catch(() => undefined));
    return { kind: "granted", ledger: granted, lease };
  }

  /** end-13. `absent`: no chunk has made the session. */
  status(): SessionStatus {
    const ledger = this.#ledger();
    if (ledger === null) return { kind: "absent" };
    return ledger.end ?? { kind: "open", offset: ledger.offset };
  }

  /** end-14. */
  async cancel(): Promise<"cancelled" | "ended" | "absent"> {
    const ledger = this.#ledger();
    if (ledger === null) return "absent";
    if (ledger.end !== null) return "ended";
    this.#lease = null;
    await this.#discard();
    return "cancelled";
  }

  /** The session's life is over: what is not a blob by now leaves R2, and the ledger goes. */
  override async alarm(): Promise<void> {
    const ledger = this.#ledger();
    // A final PUT that is about to write its rows must not find its object gone. Its lease ends with it, or its machine.
    if (ledger !== null && this.#lease !== null && Date.now() < ledger.expiresAtMs + ALARM_PATIENCE_SECONDS * 1000) {
      await this.ctx.storage.setAlarm(Date.now() + ALARM_RETRY_SECONDS * 1000);
      return;
    }
    this.#lease = null;
    // Those of a cancelled session once more: its first try may have failed.
    if (ledger !== null && ledger.end?.kind !== "finished") await this.#removeBytes(ledger);
    await this.ctx.storage.deleteAll();
  }

  async #create(create: OpenRequest["create"]): Promise<Ledger> {
    if (create === null) throw new Error("no session to open");
    // Not in the constructor: an object that is only asked must leave no storage behind.
    this.ctx.storage.sql.exec(
      "CREATE TABLE IF NOT EXISTS parts (number INTEGER PRIMARY KEY, etag TEXT NOT NULL, size INTEGER NOT NULL)",
    );
    this.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS tail (row INTEGER PRIMARY KEY, bytes BLOB NOT NULL)");
    const ledger: Ledger = {
      expiresAtMs: create.expiresAtMs,
      offset: 0,
      partBytes: create.partBytes,
      multipart: null,
      candidate: null,
      joining: false,
      objectKey: null,
      supersededKey: null,
      tailBytes: 0,
      tailPart: null,
      nextPart: 1,
      hash: null,
      sealed: false,
      end: null,
    };
    this.#write(ledger);
    await this.ctx.storage.setAlarm(create.expiresAtMs);
    return ledger;
  }

  #ledger(): Ledger | null {
    return this.ctx.storage.kv.get<Ledger>("ledger") ?? null;
  }

  #mustLedger(): Ledger {
    const ledger = this.#ledger();
    if (ledger === null) throw new Error("the session is gone");
    return ledger;
  }

  #write(ledger: Ledger): void {
    this.ctx.storage.kv.put("ledger", ledger);
  }

  #parts(): Part[] {
    return this.ctx.storage.sql
      .exec<{ number: number; etag: string; size: number }>("SELECT number, etag, size FROM parts ORDER BY number")
      .toArray();
  }

  #recordParts(parts: readonly Part[], multipart: Multipart): void {
    const ledger = this.#mustLedger();
    const bytes = parts.reduce((sum, part) => sum + part.size, 0);
    this.ctx.storage.transactionSync(() => {
      this.#dropTail(ledger);
      for (const part of parts) this.#putPart(part);
      this.#write({
        ...ledger,
        // A tail, or a single object, was counted already: these parts hold it, and more.
        offset: ledger.offset - ledger.tailBytes - this.#singleBytes(ledger) + bytes,
        multipart,
        candidate: null,
        objectKey: null,
        supersededKey: ledger.objectKey ?? ledger.supersededKey,
        tailBytes: 0,
        tailPart: null,
        nextPart: Math.max(...parts.map((part) => part.number)) + 1,
        hash: null,
      });
    });
  }

  /** Bytes of the single object that the first parts of a multipart upload take in. */
  #singleBytes(ledger: Ledger): number {
    return ledger.multipart === null ? ledger.offset : 0;
  }

  #putPart(part: Part): void {
    this.ctx.storage.sql.exec(
      "INSERT OR REPLACE INTO parts (number, etag, size) VALUES (?, ?, ?)",
      part.number,
      part.etag,
      part.size,
    );
  }

  async #recordEnd(progress: Progress | null, then: AfterEnd): Promise<void> {
    const ledger = this.#mustLedger();
    const after = { sealed: then === "seal", joining: then === "join" };
    if (progress === null) {
      this.#write({ ...ledger, ...after });
      return;
    }
    this.ctx.storage.transactionSync(() => {
      this.#dropTail(ledger);
      // One object holds all that the parts did, or there were none.
      if (progress.ledger.multipart === null) this.ctx.storage.sql.exec("DELETE FROM parts");
      for (const part of progress.parts) this.#putPart(part);
      if (progress.tail !== null) this.#putTail(progress.tail.part, progress.tail.bytes ?? new Uint8Array(0));
      const tailPart = progress.ledger.tailBytes > 0 ? (progress.tail?.part.number ?? null) : null;
      // Of a tail that was sent again, the number before is free. Only the very one before: of others a silent holder
      // that gave way may yet be writing one.
      const isFree = tailPart !== null && ledger.tailPart === tailPart - 1;
      // Past the last number there is none to leave: there a tail is sent again under its own.
      const following = tailPart === PARTS_MAX ? tailPart : progress.ledger.nextPart;
      const nextPart = isFree ? ledger.tailPart : following;
      const next = { ...progress.ledger, nextPart, tailPart, supersededKey: null, candidate: null };
      this.#write({ ...ledger, ...next, ...after });
    });
    const superseded = ledger.objectKey ?? ledger.supersededKey;
    // What stays behind is an object without a row, which the sweep finds. The ledger has the bytes: no reason to fail.
    if (superseded !== null) await this.env.BLOBS.delete(superseded).catch(() => undefined);
  }

  /** A part that takes the tail in may have another number: the tail's own is no part of the object any more. */
  #dropTail(ledger: Ledger): void {
    if (ledger.tailPart !== null) this.ctx.storage.sql.exec("DELETE FROM parts WHERE number = ?", ledger.tailPart);
    this.ctx.storage.sql.exec("DELETE FROM tail");
  }

  #putTail(part: Part, bytes: Uint8Array): void {
    this.#putPart(part);
    for (let at = 0; at < bytes.byteLength; at += TAIL_ROW_BYTES) {
      this.ctx.storage.sql.exec("INSERT INTO tail (bytes) VALUES (?)", bytes.slice(at, at + TAIL_ROW_BYTES).buffer);
    }
  }

  #tail(): Uint8Array {
    const rows = this.ctx.storage.sql.exec<{ bytes: ArrayBuffer }>("SELECT bytes FROM tail ORDER BY row").toArray();
    const whole = new Uint8Array(rows.reduce((sum, row) => sum + row.bytes.byteLength, 0));
    let at = 0;
    for (const row of rows) {
      whole.set(new Uint8Array(row.bytes), at);
      at += row.bytes.byteLength;
    }
    return whole;
  }

  /** The blob's rows are written. The session stays until its alarm, so that a repeated final PUT is answered alike. */
  #finish(digest: Digest): void {
    this.#end({ kind: "finished", digest });
  }

  #end(end: NonNullable<Ledger["end"]>): void {
    const ledger = this.#mustLedger();
    this.ctx.storage.transactionSync(() => {
      this.ctx.storage.sql.exec("DELETE FROM tail");
      this.ctx.storage.sql.exec("DELETE FROM parts");
      this.#write({ ...ledger, supersededKey: null, end });
    });
    if (ledger.supersededKey !== null) this.ctx.waitUntil(this.env.BLOBS.delete(ledger.supersededKey));
  }

  /** Ends the session before anything is awaited, so that no request is let in while its bytes go. */
  async #discard(): Promise<void> {
    const ledger = this.#ledger();
    if (ledger === null || ledger.end !== null) return;
    this.#end({ kind: "cancelled" });
    await this.#removeBytes(ledger);
  }

  /** Safe to repeat. */
  async #removeBytes(ledger: Ledger): Promise<void> {
    const mayBeWhole = ledger.sealed || ledger.joining;
    if (ledger.candidate !== null) await this.#abort(ledger.candidate).catch(() => undefined);
    if (ledger.multipart !== null) {
      // Fails where the upload was completed, by a request that came no farther, or was aborted before.
      await this.#abort(ledger.multipart).catch((error: unknown) => {
        if (!mayBeWhole && ledger.end === null) throw error;
      });
    }
    const objectKey = ledger.multipart?.objectKey ?? ledger.objectKey;
    if (objectKey !== null && ledger.sealed) {
      // Only a sealed session's key was ever offered to the database: there it may have become a blob.
      await insertGarbage(this.env.DB, [objectKey], Date.now()).run();
    } else if (objectKey !== null && (ledger.objectKey !== null || ledger.joining)) {
      await this.env.BLOBS.delete(objectKey);
    }
    if (ledger.supersededKey !== null) await this.env.BLOBS.delete(ledger.supersededKey);
  }

  /** Safe to repeat too: an alarm that broke off after it comes again. */
  async #abort({ objectKey, uploadId }: Multipart): Promise<void> {
    try {
      await this.env.BLOBS.resumeMultipartUpload(objectKey, uploadId).abort();
    } catch (error) {
      // 10024 is R2's code for an upload that there is no more; the binding hands codes out in the message only.
      if (!(error instanceof Error && error.message.includes("10024"))) throw error;
    }
  }
}
