import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { z } from "zod";
import { expectError } from "../conformance/error-envelope.ts";
import { type Artifact, image, push } from "../fixtures/artifacts.ts";
import { digest, randomBytes, unknownDigest } from "../fixtures/content.ts";
import { interceptOperations, type Operation } from "../fixtures/intercepted-env.ts";
import { freshRepository, registryWith } from "../fixtures/registry.ts";
import { begin, beginWith } from "../fixtures/upload.ts";
import type { RepositoryClient } from "../support/client.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

/** Of the log line that a fault leaves. */
const logLine = z.object({ requestId: z.string(), method: z.string(), path: z.string(), error: z.string() });

interface Prepared {
  readonly pushed: Artifact;
  readonly chunked: string;
  readonly begun: string;
}

type Send = (repository: RepositoryClient, prepared: Prepared) => Promise<Response>;

const requests: readonly (readonly [what: string, broken: Operation["binding"], send: Send])[] = [
  ["end-2 GET", "DB", async (to, { pushed }) => to.getBlob(pushed.blobs[0]?.descriptor.digest ?? "")],
  ["end-2 GET", "BLOBS", async (to, { pushed }) => to.getBlob(pushed.blobs[0]?.descriptor.digest ?? "")],
  ["end-3 GET", "DB", async (to) => to.getManifest("v1")],
  ["end-4b POST", "DB", async (to) => to.startUpload({ digest: digest(new Uint8Array(1)) }, new Uint8Array(1))],
  ["end-4b POST", "BLOBS", async (to) => to.startUpload({ digest: digest(new Uint8Array(1)) }, new Uint8Array(1))],
  ["end-5 PATCH", "UPLOADS", async (to, { chunked }) => to.appendChunk(chunked, randomBytes(10))],
  ["end-5 PATCH", "BLOBS", async (to, { chunked }) => to.appendChunk(chunked, randomBytes(10))],
  ["end-6 PUT", "UPLOADS", async (to, { chunked }) => to.finishUpload(chunked, unknownDigest())],
  ["end-6 PUT", "BLOBS", async (to, { begun }) => to.finishUpload(begun, digest(new Uint8Array(1)), new Uint8Array(1))],
  ["end-7 PUT", "DB", async (to, { pushed }) => to.putManifest("v2", pushed.bytes)],
  ["end-8 GET", "DB", async (to) => to.listTags()],
  ["end-9 DELETE", "DB", async (to) => to.deleteManifest("v1")],
  ["end-10 DELETE", "DB", async (to, { pushed }) => to.deleteBlob(pushed.blobs[0]?.descriptor.digest ?? "")],
  ["end-11 POST", "DB", async (to, { pushed }) => to.mountBlob(pushed.blobs[0]?.descriptor.digest ?? "")],
  ["end-12 GET", "DB", async (to) => to.listReferrers(unknownDigest())],
  ["end-13 GET", "UPLOADS", async (to, { chunked }) => to.uploadStatus(chunked)],
  ["end-14 DELETE", "UPLOADS", async (to, { chunked }) => to.cancelUpload(chunked)],
  ["_catalog", "DB", async (to) => to.registry.listRepositories()],
];

describe("a fault of the registry's own", () => {
  it.each(requests)(
    "is a 500 in the spec's envelope, by whose request id the log tells the rest: %s without %s",
    async (_what, broken, send) => {
      const log = vi.spyOn(console, "error").mockReturnValue(undefined);
      const repository = freshRepository();
      const prepared = {
        pushed: await push(repository, image(), "v1"),
        chunked: (await beginWith(repository, randomBytes(10))).last,
        begun: (await begin(repository)).location,
      };
      const secret = `no ${crypto.randomUUID()}`;
      const faulty = interceptOperations(env, {
        before: ({ binding }) => {
          if (binding === broken) throw new Error(secret);
        },
      });
      const response = await send(registryWith(faulty).repository(repository.name), prepared);
      const requestId = response.headers.get("X-Request-Id");
      const errors = await expectError(response, 500, "UNSUPPORTED");
      expect(errors[0]?.detail).toMatchObject({ requestId });
      expect(JSON.stringify(errors)).not.toContain(secret);
      const lines = log.mock.calls.map(([line]) => logLine.parse(JSON.parse(String(line))));
      expect(lines).toMatchObject([{ requestId }]);
      expect(lines[0]?.error).toContain(secret);
      // And nothing is the worse for it.
      expect((await repository.headManifest("v1")).status).toBe(200);
      expect((await repository.uploadStatus(prepared.chunked)).headers.get("Range")).toBe("0-9");
    },
  );
});
