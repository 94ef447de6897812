import type { Multipart, Part } from "./ledger.ts";

/**
 * Makes the parts of an upload one object. To be repeated where a request broke off in it: then the object may stand.
 * @param sizeBytes of all parts
 */
export async function completeParts(
  bucket: R2Bucket,
  { objectKey, uploadId }: Multipart,
  parts: readonly Part[],
  sizeBytes: number,
): Promise<void> {
  const uploaded = parts.map(({ number, etag }) => ({ partNumber: number, etag }));
  try {
    await bucket.resumeMultipartUpload(objectKey, uploadId).complete(uploaded);
  } catch (error) {
    const object = await bucket.head(objectKey);
    if (object?.size !== sizeBytes) throw error;
  }
}
