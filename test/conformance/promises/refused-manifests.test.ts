import { imageManifest, type RepositoryClient } from "../../support/client.ts";
import { bytesOf, imageIn, indexOf } from "../content.ts";
import { type Refusal, testRefusals } from "./refusal.ts";

const deep = (open: string, close: string): string => open.repeat(10_000) + close.repeat(10_000);
async function put(repository: RepositoryClient, body: object | string, type = imageManifest): Promise<Response> {
  return repository.putManifest("bad", typeof body === "string" ? body : bytesOf(body), type);
}

const manifests: readonly Refusal[] = [
  ["no JSON", "{"],
  ["empty", ""],
  ["a list", "[]"],
  ["a string", '"manifest"'],
  ["null", "null"],
  ["a number", "7"],
  ["lists nested 10,000 deep", deep("[", "]")],
  ["objects nested 10,000 deep", deep('{"a":', "}").replace("}", "1}")],
  [
    "an object with a field nested 10,000 deep",
    `{"schemaVersion":2,"mediaType":"${imageManifest}","x":${deep("[", "]")}}`,
  ],
].map(([form = "", body = ""]): Refusal => ({
  what: `end-7a PUT manifest: ${form}`,
  status: 400,
  code: "MANIFEST_INVALID",
  send: (r) => put(r, body),
}));

const manifestFields: readonly Refusal[] = [
  {
    what: "end-7a PUT manifest: mediaType contradicts Content-Type",
    status: 400,
    code: "MANIFEST_INVALID",
    send: async (r) => put(r, indexOf([])),
  },
  {
    what: "end-7a PUT manifest: mediaType is no string",
    status: 400,
    code: "MANIFEST_INVALID",
    send: async (r) => put(r, await imageIn(r, { mediaType: 7 })),
  },
  {
    what: "end-7a PUT manifest: no config",
    status: 400,
    code: "MANIFEST_INVALID",
    send: async (r) => put(r, await imageIn(r, { config: undefined })),
  },
  {
    what: "end-7a PUT manifest: layers is no list",
    status: 400,
    code: "MANIFEST_INVALID",
    send: async (r) => put(r, await imageIn(r, { layers: {} })),
  },
  ...(
    [
      [-1, "is negative"],
      [-(2 ** 60), "is negative"],
      [0.5, "is not a whole number"],
      ["12", "is not a whole number"],
      [null, "is not a whole number"],
      [2 ** 53, "is larger than 2^53-1"],
      [2 ** 60, "is larger than 2^53-1"],
    ] as const
  ).flatMap(([size, reason]): readonly Refusal[] => [
    {
      what: `end-7a PUT manifest: a layer of size ${JSON.stringify(size)}`,
      status: 400,
      code: "MANIFEST_INVALID",
      reason: `layers.0.size: ${reason}`,
      send: async (r) => {
        const image = await imageIn(r);
        return put(r, { ...image, layers: [{ ...image.layers[0], size }] });
      },
    },
  ]),
  {
    what: "end-7a PUT manifest: a layer with a malformed digest",
    status: 400,
    code: ["MANIFEST_INVALID", "DIGEST_INVALID"],
    send: async (r) => put(r, await imageIn(r, { layers: [{ mediaType: "a/b", digest: "sha256:zzz", size: 1 }] })),
  },
  {
    what: "end-7a PUT manifest: config of another size than stored",
    status: 400,
    code: "SIZE_INVALID",
    send: async (r) => {
      const image = await imageIn(r);
      return put(r, { ...image, config: { ...image.config, size: image.config.size + 1 } });
    },
  },
  {
    what: "end-7a PUT manifest: layer of another size than stored",
    status: 400,
    code: "SIZE_INVALID",
    send: async (r) => {
      const image = await imageIn(r);
      return put(r, { ...image, layers: image.layers.map((layer) => ({ ...layer, size: layer.size - 1 })) });
    },
  },
  {
    what: "end-7a PUT manifest: child of another size than stored",
    status: 400,
    code: "SIZE_INVALID",
    send: async (r) => {
      const child = await r.pushManifest(await imageIn(r));
      const index = indexOf([{ ...child, size: child.size + 1 }]);
      return put(r, index, index.mediaType);
    },
  },
];

testRefusals("what is no manifest", manifests);
testRefusals("fields", manifestFields);
