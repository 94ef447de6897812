import { expect } from "vitest";
import { type Bytes, digestOf } from "../support/client.ts";

/**
 * Docker-Content-Digest must be a digest of the content; the spec lets its algorithm be another than the one asked
 * with («Pulling manifests»). That it is the same one is Moorage's own promise.
 */
export async function expectDigestHeader(response: Response, bytes: Bytes): Promise<void> {
  const digest = response.headers.get("Docker-Content-Digest");
  expect(digest).not.toBeNull();
  expect(digest).toBe(await digestOf(bytes, digest?.startsWith("sha512:") === true ? "sha512" : "sha256"));
}
