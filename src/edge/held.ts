/** What a repository has under a digest, as a pull needs it. */
export interface Held {
  readonly mediaType: string;
  /** bytes */
  readonly size: number;
  /** R2 key, where the bytes are not in the row */
  readonly objectKey: string | null;
  /** the bytes, where they are few and were at hand */
  readonly body: Uint8Array | null;
}

export type HeldKind = "manifests" | "blobs";
