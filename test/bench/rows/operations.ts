import { randomBytes } from "node:crypto";
import { z } from "zod";
import { Client } from "../client.ts";
import { type Content, Layer } from "../content.ts";
import {
  appendChunk,
  beginUpload,
  digestOf,
  finishUpload,
  imageManifestOf,
  layerOf,
  pushBlob,
  putManifest,
  randomText,
} from "../oci.ts";
import type { Row, Stage } from "../stage.ts";

export const operationsRow: Row = { id: "operations", title: "operations of each kind of request" };

const countsSchema = z.object({ d1: z.number(), r2: z.number(), durableObjects: z.number() });

export type OperationsOf = z.infer<typeof countsSchema> & { readonly request: string };

/** How many D1 queries, R2 operations and Durable Object requests each kind of request makes. True on any machine. */
export async function countOperations(stage: Stage): Promise<readonly OperationsOf[]> {
  return stage.withCounting(async ({ url }) => {
    const client = new Client(url);
    const ask = async (): Promise<z.infer<typeof countsSchema>> => {
      const { body } = await client.request({
        method: "GET",
        path: "/operation-counts",
        expect: [200],
        keepBody: true,
      });
      return countsSchema.parse(JSON.parse(body.toString("utf8")));
    };
    try {
      // The signing key of upload locations is read once an isolate.
      await beginUpload(client, stage.content.repository);
      const counted: OperationsOf[] = [];
      for (const { request, prepare } of kindsOf(client, stage.content)) {
        const send = await prepare();
        await ask();
        await send();
        counted.push({ request, ...(await ask()) });
      }
      return counted;
    } finally {
      client.close();
    }
  });
}

interface Kind {
  readonly request: string;
  /** does what comes before the request, uncounted, and answers the request itself */
  readonly prepare: () => Promise<() => Promise<unknown>>;
}

function kindsOf(client: Client, content: Content): readonly Kind[] {
  const { repository, config, layers } = content;
  const at = `/v2/${repository}`;
  const get = (request: string, path: string, range?: string): Kind => ({
    request,
    prepare: async () => () =>
      client.request({
        method: "GET",
        path,
        headers: range === undefined ? {} : { range },
        expect: [range === undefined ? 200 : 206],
      }),
  });
  const head = (request: string, path: string): Kind => ({
    request,
    prepare: async () => () => client.request({ method: "HEAD", path, expect: [200] }),
  });
  const tag = content.tags[0] ?? "";
  const digest = content.manifests[0]?.digest ?? "";
  const blob = content.blobs[0]?.digest ?? "";
  const small = randomBytes(2048);
  const begun = (): Promise<string> => beginUpload(client, repository);
  return [
    get("manifest by tag, GET", `${at}/manifests/${tag}`),
    head("manifest by tag, HEAD", `${at}/manifests/${tag}`),
    get("manifest by digest, GET", `${at}/manifests/${digest}`),
    head("manifest by digest, HEAD", `${at}/manifests/${digest}`),
    head("blob, HEAD", `${at}/blobs/${blob}`),
    get("blob, GET", `${at}/blobs/${blob}`),
    get("blob, GET of 1 range", `${at}/blobs/${blob}`, ranges(1)),
    get("blob, GET of 5 ranges", `${at}/blobs/${blob}`, ranges(5)),
    get("blob, GET of 16 ranges", `${at}/blobs/${blob}`, ranges(16)),
    { request: "small blob, POST and PUT", prepare: async () => () => pushBlob(client, repository, small) },
    {
      request: "small blob that is there, POST and PUT",
      prepare: async () => () => pushBlob(client, repository, small),
    },
    {
      request: "small blob, POST with its digest",
      prepare: async () => () => {
        const bytes = randomBytes(2048);
        return client.request({
          method: "POST",
          path: `${at}/blobs/uploads/?digest=${digestOf(bytes)}`,
          body: bytes,
          expect: [201],
        });
      },
    },
    {
      request: "blob, mount from a repository",
      prepare: async () => () =>
        client.request({
          method: "POST",
          path: `/v2/${repository}-2/blobs/uploads/?mount=${blob}&from=${repository}`,
          expect: [201],
        }),
    },
    {
      request: "manifest, PUT",
      prepare: async () => () =>
        putManifest(client, repository, "counted", imageManifestOf({ config, layers: [layerOf(small)] })),
    },
    {
      request: "manifest of 60 layers, PUT",
      prepare: async () => () => putManifest(client, repository, "counted-60", imageManifestOf({ config, layers })),
    },
    {
      request: "manifest that names missing content, PUT (404)",
      prepare: async () => () =>
        client.request({
          method: "PUT",
          path: `${at}/manifests/refused`,
          headers: { "content-type": "application/vnd.oci.image.manifest.v1+json" },
          body: imageManifestOf({ config, layers: [layerOf(randomBytes(8))] }),
          expect: [404],
        }),
    },
    { request: "upload, POST", prepare: async () => begun },
    {
      request: "layer of 20 MB: one PATCH without a length",
      prepare: async () => {
        const location = await begun();
        return () => appendChunk(client, location, new Layer(20_000_000).stream());
      },
    },
    {
      request: "layer of 20 MB: the final PUT after it",
      prepare: async () => {
        const layer = new Layer(20_000_000);
        const location = await appendChunk(client, await begun(), layer.stream());
        return () => finishUpload(client, location, layer.digest(), null);
      },
    },
    {
      request: "chunk of 10 MiB, first",
      prepare: async () => {
        const location = await begun();
        return () => appendChunk(client, location, new Layer(CHUNK_BYTES).stream(), { start: 0, length: CHUNK_BYTES });
      },
    },
    {
      request: "chunk of 10 MiB, second",
      prepare: async () => {
        const layer = new Layer(2 * CHUNK_BYTES);
        const first = await appendChunk(client, await begun(), layer.stream(0, CHUNK_BYTES), {
          start: 0,
          length: CHUNK_BYTES,
        });
        return () => appendChunk(client, first, layer.stream(CHUNK_BYTES), { start: CHUNK_BYTES, length: CHUNK_BYTES });
      },
    },
    {
      request: "chunks of 10 MiB: the final PUT after two",
      prepare: async () => {
        const layer = new Layer(2 * CHUNK_BYTES);
        const first = await appendChunk(client, await begun(), layer.stream(0, CHUNK_BYTES), {
          start: 0,
          length: CHUNK_BYTES,
        });
        const second = await appendChunk(client, first, layer.stream(CHUNK_BYTES), {
          start: CHUNK_BYTES,
          length: CHUNK_BYTES,
        });
        return () => finishUpload(client, second, layer.digest(), null);
      },
    },
    {
      request: "upload, DELETE before any chunk",
      prepare: async () => {
        const location = await begun();
        return () => client.request({ method: "DELETE", path: location, expect: [204] });
      },
    },
    get("referrers of a subject that has 300", `${at}/referrers/${content.subject.digest}`),
    get("tags", `${at}/tags/list`),
    {
      request: "manifest by tag, DELETE",
      prepare: async () => {
        const name = `v${randomText()}`;
        await putManifest(client, repository, name, imageManifestOf({ config, layers: [] }));
        return () => client.request({ method: "DELETE", path: `${at}/manifests/${name}`, expect: [202] });
      },
    },
    {
      request: "manifest by digest, DELETE",
      prepare: async () => {
        const manifest = imageManifestOf({ config, layers: [], annotations: { nonce: randomText() } });
        await putManifest(client, repository, digestOf(manifest), manifest);
        return () => client.request({ method: "DELETE", path: `${at}/manifests/${digestOf(manifest)}`, expect: [202] });
      },
    },
    {
      request: "blob, DELETE",
      prepare: async () => {
        const bytes = randomBytes(100);
        await pushBlob(client, repository, bytes);
        return () => client.request({ method: "DELETE", path: `${at}/blobs/${digestOf(bytes)}`, expect: [202] });
      },
    },
  ];
}

const CHUNK_BYTES = 10 * 1024 * 1024;

/** So many ranges of ten bytes, a hundred bytes apart. */
function ranges(count: number): string {
  return `bytes=${Array.from({ length: count }, (_, index) => `${String(index * 100)}-${String(index * 100 + 9)}`).join(",")}`;
}
