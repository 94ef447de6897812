/** Pushes of blobs, in each form in which clients send them. */
import { randomBytes } from "node:crypto";
import { errorIn, mendOf, requireStatus, seenIn } from "./answers.ts";
import { blobOf, digestOf, freshBlob } from "./content.ts";
import type { Check, Examined } from "./examination.ts";
import { type Answer, type Streamed, Unanswered } from "./exchange.ts";
import { beginUpload, cancelUpload, locationIn, patchChunk, pushBlob, putDigest, requireRange } from "./upload.ts";
import { Failed, Skipped, Warned } from "./verdict.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

const layerBytes = 256 * KIB;

/** Also what the checks after it read. */
const upload: Check = {
  name: "upload",
  needs: ["delete"],
  async run(examined) {
    const config = blobOf(Buffer.from(JSON.stringify({ made: new Date(), by: randomBytes(16).toString("hex") })));
    await pushBlob(examined, config);
    examined.config = config;
    const layer = freshBlob(layerBytes);
    await pushBlob(examined, layer);
    examined.layer = layer;
    return `a blob of ${String(layerBytes / KIB)} KiB in one PUT`;
  },
};

const tailBytes = KIB;
const chunkUsualBytes = 64 * KIB;
/** Who asks for larger ones is asked with chunks that are too small: it may take them all the same. */
const chunkMostBytes = 16 * MIB;

/** end-5, distribution-spec v1.1.1 «Pushing a blob in chunks». */
const chunkedUpload: Check = {
  name: "chunked-upload",
  needs: ["delete"],
  async run(examined) {
    const { location: begun, chunkMinBytes } = await beginUpload(examined);
    const chunkBytes = Math.max(chunkUsualBytes, Math.min(chunkMinBytes, chunkMostBytes));
    const { digest, bytes, size } = freshBlob(chunkBytes + tailBytes);
    let location = begun;
    for (const [startByte, endByte] of [
      [0, chunkBytes],
      [chunkBytes, size],
    ] as const) {
      const wanted = `the PATCH of bytes ${String(startByte)} to ${String(endByte - 1)}`;
      const answer = await patchChunk(examined, location, startByte, bytes.subarray(startByte, endByte));
      // 201 and 204 are what some registries say, and all clients take.
      requireStatus(answer, [202, 201, 204], wanted);
      requireRange(answer, endByte, wanted);
      location = moved(examined, location, locationIn(examined, answer, wanted));
    }
    const last = await putDigest(examined, location, digest, Buffer.alloc(0));
    requireStatus(last, [201], "the final PUT of an upload in chunks");
    const found = await examined.client.send("HEAD", `/v2/${examined.repository}/blobs/${digest}`);
    requireStatus(found, [200], "HEAD of the blob right after its final PUT");
    return `${String(size)} bytes in two chunks, each with its Range, and there right after`;
  },
};

/** end-13. */
const uploadStatus: Check = {
  name: "upload-status",
  needs: ["chunked-upload"],
  async run(examined) {
    const location = await uploadWith(examined, freshBlob(KIB).bytes);
    const answer = await examined.client.send("GET", location);
    requireStatus(answer, [204], "GET of an upload in progress");
    requireRange(answer, KIB, "GET of an upload in progress");
    await cancelUpload(examined, location);
    return "GET of an upload tells how far it is";
  },
};

/** distribution-spec v1.1.1 «Pushing a blob in chunks»: chunks MUST be in order. */
const outOfOrder: Check = {
  name: "out-of-order",
  needs: ["chunked-upload"],
  async run(examined) {
    const location = await uploadWith(examined, freshBlob(KIB).bytes);
    const answer = await patchChunk(examined, location, 8 * KIB, freshBlob(KIB).bytes);
    await cancelUpload(examined, location);
    requireStatus(answer, [416], "a chunk that does not begin where the one before ended");
    return "a chunk that leaves a gap is answered 416";
  },
};

/** end-14, distribution-spec main «Canceling an upload». */
const cancel: Check = {
  name: "cancel-upload",
  needs: ["delete"],
  async run(examined) {
    const { location } = await beginUpload(examined);
    const answer = await cancelUpload(examined, location);
    if (answer.status >= 200 && answer.status < 300) return `DELETE of an upload is answered ${String(answer.status)}`;
    throw new Warned({
      expected: "204 for DELETE of an upload",
      seen: seenIn(answer),
      mend: "uploads that clients give up stay until they end by themselves; let DELETE through to the registry",
    });
  },
};

/** distribution-spec main: «If the digest does not match, 400». */
const wrongDigest: Check = {
  name: "wrong-digest",
  needs: ["upload"],
  async run(examined) {
    const { location } = await beginUpload(examined);
    const answer = await putDigest(examined, location, digestOf(randomBytes(32)), freshBlob(KIB).bytes);
    if (answer.status === 201) {
      throw new Failed({
        expected: "400 for bytes that are not those of the digest",
        seen: "201: the registry keeps what it does not check",
        mend: "it is not to be trusted with content: report it to whoever makes it",
      });
    }
    await cancelUpload(examined, location);
    requireStatus(answer, [400], "bytes that are not those of the digest");
    return `bytes of another digest are refused${errorIn(answer) === null ? "" : `: ${errorIn(answer)?.code ?? ""}`}`;
  },
};

/** Cloudflare's Free and Pro plans end at 100 MB, however it counts them. */
const largeMib = 101;
const largeBytes = largeMib * MIB;

const large: Check = {
  name: "body-limit",
  needs: ["delete"],
  async run(examined) {
    if (!examined.wishes.large) throw new Skipped(`--large tries one request of ${String(largeMib)} MiB`);
    const { location } = await beginUpload(examined);
    const headers = { "Content-Type": "application/octet-stream" };
    const answer = await examined.client
      .send("PATCH", location, { headers, body: zeros(largeBytes) })
      .catch((error: unknown): never => {
        throw error instanceof Unanswered ? tooLarge(error.seen) : error;
      });
    if (answer.status === 413) throw tooLarge(seenIn(answer));
    requireStatus(answer, [202, 201, 204], `a PATCH of ${String(largeMib)} MiB`);
    requireRange(answer, largeBytes, `a PATCH of ${String(largeMib)} MiB`);
    await cancelUpload(examined, moved(examined, location, locationIn(examined, answer, "a large PATCH")));
    return `${String(largeMib)} MiB go through in one request`;
  },
};

function tooLarge(seen: string): Failed {
  return new Failed({
    expected: `that a layer of ${String(largeMib)} MiB goes through in one request, as docker sends it`,
    seen,
    mend: "push large layers through npx moorage relay, which sends them in pieces; or raise the limit of what stands before the registry",
  });
}

function zeros(lengthBytes: number): Streamed {
  return {
    lengthBytes,
    *chunks() {
      const chunk = Buffer.alloc(MIB);
      for (let sent = 0; sent < lengthBytes; sent += chunk.byteLength) yield chunk.subarray(0, lengthBytes - sent);
    },
  };
}

/** An upload in progress with one chunk. */
async function uploadWith(examined: Examined, bytes: Buffer): Promise<URL> {
  const { location } = await beginUpload(examined);
  const answer: Answer = await patchChunk(examined, location, 0, bytes);
  if (answer.status >= 300) {
    throw new Failed({ expected: "202 for the first chunk of an upload", seen: seenIn(answer), mend: mendOf(answer) });
  }
  return moved(examined, location, locationIn(examined, answer, "the first chunk of an upload"));
}

/** The location of an upload may change with each answer: the one to cancel is the last. */
function moved({ pushed }: Examined, before: URL, location: URL): URL {
  pushed.uploadEnded(before);
  pushed.upload(location);
  return location;
}

export const uploadChecks: readonly Check[] = [
  upload,
  chunkedUpload,
  uploadStatus,
  outOfOrder,
  cancel,
  wrongDigest,
  large,
];
