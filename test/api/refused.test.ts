import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { type ErrorCode, expectError } from "../conformance/error-envelope.ts";
import { MANIFEST_MAX_BYTES, TAGS_PER_PUT_MAX } from "../../src/limits.ts";
import { type Artifact, artifact, blob, image, index, push } from "../fixtures/artifacts.ts";
import { digest, randomBytes, unknownDigest } from "../fixtures/content.ts";
import { freshRepository } from "../fixtures/registry.ts";
import { listObjects, runPass } from "../fixtures/storage.ts";
import { begin, beginWith } from "../fixtures/upload.ts";
import { imageIndex, imageManifest, octetStream, type RepositoryClient } from "../support/client.ts";

/** Bad input leaves no half-written state: all that D1 and R2 hold is as before. */

/** Each row of each table, and each object. */
async function everything(): Promise<Readonly<Record<string, readonly string[]>>> {
  const { results: tables } = await env.DB.prepare(
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_cf%' ESCAPE '\\' ORDER BY name",
  ).all<{ name: string }>();
  const held: Record<string, readonly string[]> = { objects: await listObjects() };
  for (const { name } of tables) {
    const { results } = await env.DB.prepare(`SELECT * FROM "${name}"`).all();
    held[name] = results.map((row) => JSON.stringify(row)).toSorted();
  }
  return held;
}

/** What is there before: an image under a tag, an index of it, an upload without a chunk, and one with some. */
interface Prepared {
  readonly repository: RepositoryClient;
  readonly image: Artifact;
  readonly begun: string;
  readonly chunked: string;
}

async function prepare(): Promise<Prepared> {
  const repository = freshRepository();
  const pushed = await push(repository, image(), "v1");
  await push(repository, index([pushed.descriptor]), "list");
  const [{ location }, { last }] = [await begin(repository), await beginWith(repository, randomBytes(100))];
  return { repository, image: pushed, begun: location, chunked: last };
}

interface Refusal {
  readonly status: number;
  readonly code: ErrorCode;
  /** what else is there before */
  readonly after?: (to: Prepared) => Promise<unknown>;
  readonly send: (to: Prepared) => Promise<Response>;
}

function ranged(location: string, range: string, length: number) {
  return async ({ repository }: Prepared): Promise<Response> =>
    repository.registry.request("PATCH", location, {
      headers: { "Content-Type": octetStream, "Content-Range": range },
      body: randomBytes(length),
    });
}

const put =
  (body: object | string, mediaType: string = imageManifest, reference = "new") =>
  async ({ repository }: Prepared): Promise<Response> =>
    repository.putManifest(reference, typeof body === "string" ? body : JSON.stringify(body), mediaType);

const at = ({ repository }: Prepared, name: string): RepositoryClient => repository.registry.repository(name);

const badNames: Readonly<Record<string, (to: RepositoryClient) => Promise<Response>>> = {
  "end-2 GET": async (to) => to.getBlob(unknownDigest()),
  "end-3 GET": async (to) => to.getManifest("v1"),
  "end-4a POST": async (to) => to.startUpload(),
  "end-4b POST": async (to) => to.startUpload({ digest: digest(new Uint8Array(1)) }, new Uint8Array(1)),
  "end-5 PATCH": async (to) => to.request("PATCH", "blobs/uploads/x", { body: randomBytes(5) }),
  "end-6 PUT": async (to) => to.request("PUT", `blobs/uploads/x?digest=${unknownDigest()}`, { body: randomBytes(5) }),
  "end-7 PUT": async (to) => to.putManifest("v1", JSON.stringify({ schemaVersion: 2, manifests: [] }), imageIndex),
  "end-8 GET": async (to) => to.listTags(),
  "end-9 DELETE": async (to) => to.deleteManifest("v1"),
  "end-10 DELETE": async (to) => to.deleteBlob(unknownDigest()),
  "end-11 POST": async (to) => to.mountBlob(unknownDigest()),
  "end-12 GET": async (to) => to.listReferrers(unknownDigest()),
  "end-13 GET": async (to) => to.request("GET", "blobs/uploads/x"),
  "end-14 DELETE": async (to) => to.request("DELETE", "blobs/uploads/x"),
};

const names = Object.fromEntries(
  Object.entries(badNames).map(([endpoint, send]): [string, Refusal] => [
    `${endpoint} of a malformed name`,
    { status: 400, code: "NAME_INVALID", send: async (to) => send(at(to, `${to.repository.name}/UPPER`)) },
  ]),
);

const uploads: Readonly<Record<string, Refusal>> = {
  "end-4b POST with bytes of another digest": {
    status: 400,
    code: "DIGEST_INVALID",
    send: async ({ repository }) => repository.startUpload({ digest: unknownDigest() }, randomBytes(10)),
  },
  "end-4b POST with bytes of another sha512 digest": {
    status: 400,
    code: "DIGEST_INVALID",
    send: async ({ repository }) => repository.startUpload({ digest: unknownDigest("sha512") }, randomBytes(10)),
  },
  "end-4b POST with a digest of an unknown algorithm": {
    status: 400,
    code: "DIGEST_INVALID",
    send: async ({ repository }) => repository.startUpload({ digest: `md5:${"a".repeat(32)}` }, randomBytes(10)),
  },
  "end-4c POST with an unknown algorithm": {
    status: 400,
    code: "DIGEST_INVALID",
    send: async ({ repository }) => repository.startUpload({ "digest-algorithm": "blake3" }),
  },
  "end-6 PUT with bytes of another digest": {
    status: 400,
    code: "DIGEST_INVALID",
    send: async ({ repository, begun }) => repository.finishUpload(begun, unknownDigest(), randomBytes(10)),
  },
  "end-6 PUT without a digest": {
    status: 400,
    code: "DIGEST_INVALID",
    send: async ({ repository, chunked }) => repository.registry.request("PUT", chunked),
  },
  "end-6 PUT of a last chunk out of order": {
    status: 416,
    code: "BLOB_UPLOAD_INVALID",
    send: async ({ repository, chunked }) => repository.finishUpload(chunked, unknownDigest(), randomBytes(10), 101),
  },
  "end-5 PATCH out of order": {
    status: 416,
    code: "BLOB_UPLOAD_INVALID",
    send: async ({ repository, chunked }) => repository.appendChunk(chunked, randomBytes(10), 101),
  },
  "end-5 PATCH that overlaps": {
    status: 416,
    code: "BLOB_UPLOAD_INVALID",
    send: async ({ repository, chunked }) => repository.appendChunk(chunked, randomBytes(10), 99),
  },
  "end-5 PATCH out of order of a session without bytes": {
    status: 416,
    code: "BLOB_UPLOAD_INVALID",
    send: async ({ repository, begun }) => repository.appendChunk(begun, randomBytes(10), 5),
  },
  "end-5 PATCH with a Content-Range that is none": {
    status: 400,
    code: "BLOB_UPLOAD_INVALID",
    send: async (to) => ranged(to.chunked, "bytes 100 to 109", 10)(to),
  },
  "end-5 PATCH with a Content-Range longer than its Content-Length": {
    status: 400,
    code: "SIZE_INVALID",
    send: async (to) => ranged(to.chunked, "100-199", 10)(to),
  },
  "end-5 PATCH with a Content-Range shorter than its Content-Length": {
    status: 400,
    code: "SIZE_INVALID",
    send: async (to) => ranged(to.chunked, "100-104", 10)(to),
  },
  "end-5 PATCH of an unknown session": {
    status: 404,
    code: "BLOB_UPLOAD_UNKNOWN",
    send: async ({ repository }) =>
      repository.request("PATCH", `blobs/uploads/${crypto.randomUUID()}`, { body: randomBytes(10) }),
  },
  "end-5 PATCH of a session under another repository's name": {
    status: 404,
    code: "BLOB_UPLOAD_UNKNOWN",
    send: async ({ repository, chunked }) =>
      repository.appendChunk(chunked.replace(repository.name, freshRepository().name), randomBytes(10)),
  },
  "end-6 PUT of a session under another repository's name": {
    status: 404,
    code: "BLOB_UPLOAD_UNKNOWN",
    send: async ({ repository, begun }) => {
      const bytes = randomBytes(10);
      return repository.finishUpload(begun.replace(repository.name, freshRepository().name), digest(bytes), bytes);
    },
  },
  "end-11 POST with mount of a malformed digest": {
    status: 400,
    code: "DIGEST_INVALID",
    send: async ({ repository }) => repository.mountBlob("sha256:abc"),
  },
  "end-11 POST with mount from a malformed name": {
    status: 400,
    code: "NAME_INVALID",
    send: async ({ repository, image: { blobs } }) =>
      repository.mountBlob(blobs[0]?.descriptor.digest ?? "", "not//a/name"),
  },
};

/** An image of content that is there, changed in some of its fields. */
const imageWith =
  (change: (to: Prepared) => Readonly<Record<string, unknown>>) =>
  async (to: Prepared): Promise<Response> => {
    const [config, layer] = to.image.blobs.map(({ descriptor }) => descriptor);
    const fields = { config, layers: [layer], ...change(to) };
    return to.repository.putManifest("new", artifact(imageManifest, fields).bytes);
  };

const layerOf = ({ image: { blobs } }: Prepared) => blobs[1]?.descriptor;

const manifests: Readonly<Record<string, Refusal>> = {
  "end-7 PUT of no JSON": { status: 400, code: "MANIFEST_INVALID", send: put("<html></html>") },
  "end-7 PUT of a list": { status: 400, code: "MANIFEST_INVALID", send: put("[]") },
  "end-7 PUT of 10,000 levels": {
    status: 400,
    code: "MANIFEST_INVALID",
    send: put(`{"schemaVersion":2,"x":${"[".repeat(10_000)}${"]".repeat(10_000)}}`),
  },
  "end-7 PUT whose media type contradicts the header": {
    status: 400,
    code: "MANIFEST_INVALID",
    send: put({ schemaVersion: 2, mediaType: imageIndex, manifests: [] }),
  },
  "end-7 PUT with a negative size": {
    status: 400,
    code: "MANIFEST_INVALID",
    send: imageWith((to) => ({ layers: [{ ...layerOf(to), size: -1 }] })),
  },
  "end-7 PUT with a fractional size": {
    status: 400,
    code: "MANIFEST_INVALID",
    send: imageWith((to) => ({ layers: [{ ...layerOf(to), size: 64.5 }] })),
  },
  "end-7 PUT with a size that is not the stored content's": {
    status: 400,
    code: "SIZE_INVALID",
    send: imageWith((to) => ({ layers: [{ ...layerOf(to), size: 65 }] })),
  },
  "end-7 PUT that names what is not there": {
    status: 404,
    code: "MANIFEST_BLOB_UNKNOWN",
    send: imageWith(() => ({ layers: [blob(randomBytes(5)).descriptor] })),
  },
  "end-7 PUT that names what is not there, too large for its row": {
    status: 404,
    code: "MANIFEST_BLOB_UNKNOWN",
    send: imageWith(() => ({
      layers: [blob(randomBytes(5)).descriptor],
      annotations: { filling: "x".repeat(100_000) },
    })),
  },
  "end-7 PUT under another tag of what is there, a layer of which was deleted since": {
    status: 404,
    code: "MANIFEST_BLOB_UNKNOWN",
    after: async (to) => to.repository.deleteBlob(layerOf(to)?.digest ?? ""),
    send: async ({ repository, image: { bytes } }) => repository.putManifest("new", bytes),
  },
  "end-7 PUT under another digest": {
    status: 400,
    code: "DIGEST_INVALID",
    send: async ({ repository, image: { bytes } }) => repository.putManifest(unknownDigest(), bytes),
  },
  "end-7 PUT under another sha512 digest": {
    status: 400,
    code: "DIGEST_INVALID",
    send: async ({ repository, image: { bytes } }) => repository.putManifest(unknownDigest("sha512"), bytes),
  },
  "end-7 PUT under a malformed tag": {
    status: 400,
    code: "MANIFEST_INVALID",
    send: async ({ repository, image: { bytes } }) => repository.putManifest("-x", bytes),
  },
  "end-7 PUT of more than 4 MiB": {
    status: 413,
    code: "MANIFEST_INVALID",
    send: put({ schemaVersion: 2, manifests: [], x: "x".repeat(MANIFEST_MAX_BYTES) }, imageIndex),
  },
  "end-7b PUT with too many tags": {
    status: 414,
    code: "MANIFEST_INVALID",
    send: async ({ repository, image: { bytes, descriptor } }) =>
      repository.putManifest(
        descriptor.digest,
        bytes,
        imageManifest,
        Array.from({ length: TAGS_PER_PUT_MAX + 1 }, (_, number) => `t${String(number)}`),
      ),
  },
  "end-7b PUT with a malformed tag among others": {
    status: 400,
    code: "MANIFEST_INVALID",
    send: async ({ repository, image: { bytes, descriptor } }) =>
      repository.putManifest(descriptor.digest, bytes, imageManifest, ["good", ".bad"]),
  },
};

const others: Readonly<Record<string, Refusal>> = {
  "end-8 GET with a bad n": {
    status: 400,
    code: "UNSUPPORTED",
    send: async ({ repository }) => repository.listTags({ n: "ten" }),
  },
  "end-9 DELETE of a digest of an unknown algorithm": {
    status: 400,
    code: "DIGEST_INVALID",
    send: async ({ repository }) => repository.deleteManifest(`md5:${"a".repeat(32)}`),
  },
  "end-9 DELETE of what is not there": {
    status: 404,
    code: "MANIFEST_UNKNOWN",
    send: async ({ repository }) => repository.deleteManifest("v2"),
  },
  "end-10 DELETE of what is not there": {
    status: 404,
    code: "BLOB_UNKNOWN",
    send: async ({ repository }) => repository.deleteBlob(unknownDigest()),
  },
  "a wrong method": {
    status: 405,
    code: "UNSUPPORTED",
    send: async ({ repository, image: { bytes } }) => repository.request("POST", "manifests/v1", { body: bytes }),
  },
  "an unknown route": {
    status: 404,
    code: "UNSUPPORTED",
    send: async ({ repository }) => repository.request("PUT", "annotations/v1", { body: randomBytes(10) }),
  },
};

describe("what is refused", () => {
  it.each(Object.entries({ ...names, ...uploads, ...manifests, ...others }))(
    "leaves D1 and R2 as they were: %s",
    async (_what, { status, code, after, send }) => {
      const prepared = await prepare();
      await after?.(prepared);
      await runPass({ graceSeconds: 3600 });
      const before = await everything();
      const response = await send(prepared);
      const requestId = response.headers.get("X-Request-Id");
      const [error] = await expectError(response, status, code);
      expect(error?.detail).toMatchObject({ requestId });
      // An object whose row was refused is put down as garbage, which the collector takes whatever its grace.
      await runPass({ graceSeconds: 3600 });
      expect({ ...(await everything()), garbage: [] }).toEqual({ ...before, garbage: [] });
      // And the sessions go on as if nothing had been.
      const { repository, begun, chunked } = prepared;
      expect((await repository.uploadStatus(begun)).headers.get("Range")).toBe("0-0");
      expect((await repository.uploadStatus(chunked)).headers.get("Range")).toBe("0-99");
    },
  );
});
