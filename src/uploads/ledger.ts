import type { Digest, DigestAlgorithm } from "../oci/digest.ts";

/** A part that R2 has. Only the last one of an upload is shorter than `Ledger.partBytes`. */
export interface Part {
  readonly number: number;
  readonly etag: string;
  /** bytes */
  readonly size: number;
}

export interface Multipart {
  readonly objectKey: string;
  readonly uploadId: string;
}

export interface ContentHash {
  readonly algorithm: DigestAlgorithm;
  readonly hex: string;
}

/** What the session knows of its upload. Bytes are R2's; apart from a tail that a next chunk may have to extend. */
export interface Ledger {
  /** end of the session's life, ms since 1970 */
  readonly expiresAtMs: number;
  /** bytes recorded: where the next chunk begins */
  readonly offset: number;
  /** size of every part but the last; chosen by the first chunk */
  readonly partBytes: number;
  /** null: all bytes so far are one object at `objectKey`, or there are none */
  readonly multipart: Multipart | null;
  /** a multipart upload that was begun, and of which no part was recorded: whoever comes next aborts it */
  readonly candidate: Multipart | null;
  /** the parts, which are all recorded, are being made one object: whoever comes next goes on with that */
  readonly joining: boolean;
  /** the single object that holds all bytes so far, where there is no multipart upload */
  readonly objectKey: string | null;
  /** a single object that a part has taken in, until the request that sent the part ends */
  readonly supersededKey: string | null;
  /** bytes of the last part where it is shorter than `partBytes`; they are in the session too */
  readonly tailBytes: number;
  /** number of the short last part, null where there is none */
  readonly tailPart: number | null;
  /**
   * number for the next part. Never one that is recorded: a request that sends it and comes no farther must not have
   * changed what the ledger says. So a tail that is sent again, longer, goes by turns under two numbers.
   */
  readonly nextPart: number;
  /** of all bytes; null where a request's isolate did not have the hash of those before its own */
  readonly hash: ContentHash | null;
  /** a final PUT has begun to make the object whole: no chunk may follow */
  readonly sealed: boolean;
  /** how the session ended; its ledger stays until the alarm, so that a repeated request is answered rightly */
  readonly end: { readonly kind: "finished"; readonly digest: Digest } | { readonly kind: "cancelled" } | null;
}

/** The end of one request's bytes: what was put to R2 and not recorded yet. */
export interface Progress {
  readonly ledger: Pick<Ledger, "offset" | "multipart" | "objectKey" | "tailBytes" | "nextPart" | "hash">;
  /** whole parts */
  readonly parts: readonly Part[];
  /** the last part, where there are parts; where it is short its bytes are kept, so that the next chunk can extend it */
  readonly tail: { readonly part: Part; readonly bytes: Uint8Array | null } | null;
}

/**
 * What becomes of the session when a request's bytes have ended: the lease ends; it goes on (`hold`); it goes on to make
 * the parts one object, of a PATCH (`join`) or of a final PUT, after which no chunk may follow (`seal`).
 */
export type AfterEnd = "release" | "hold" | "join" | "seal";
