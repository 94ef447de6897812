import { digestOf, imageManifest, type RepositoryClient } from "../../support/client.ts";
import { bytesOf, imageIn, randomBytes, unknownDigest } from "../content.ts";
import { type Refusal, testRefusals } from "./refusal.ts";
import { begunUpload, newUpload } from "./upload-locations.ts";

const badNames = ["UPPER", "a//b", "-a", "a_-_b", "a..b", "a/-b", "a".repeat(300)];
const badTags = ["-leading-dash", ".leading-dot", "a".repeat(129), "sp%20ace", "%C3%A9"];
const badDigests = [
  ["of no form", "sha256"],
  ["without hex", "sha256:"],
  ["too short", "sha256:abcdef"],
  ["upper-case", `sha256:${"A".repeat(64)}`],
  ["not hex", `sha256:${"z".repeat(64)}`],
  ["of sha512 with the length of sha256", `sha512:${"a".repeat(64)}`],
  ["of an algorithm that is not supported", "md5:d41d8cd98f00b204e9800998ecf8427e"],
  ["of a registered algorithm that is not supported", `blake3:${"a".repeat(64)}`],
] as const;

const names: readonly Refusal[] = badNames.flatMap((name) => {
  const at = (repository: RepositoryClient): RepositoryClient => repository.registry.repository(name);
  const shown = name.slice(0, 12);
  return [
    {
      what: `end-2 GET blob in ${shown}`,
      status: 400,
      code: "NAME_INVALID",
      send: async (r) => at(r).getBlob(await unknownDigest()),
    },
    { what: `end-3 GET manifest in ${shown}`, status: 400, code: "NAME_INVALID", send: (r) => at(r).getManifest("v1") },
    { what: `end-4a POST upload in ${shown}`, status: 400, code: "NAME_INVALID", send: (r) => at(r).startUpload() },
    {
      what: `end-7a PUT manifest in ${shown}`,
      status: 400,
      code: "NAME_INVALID",
      send: async (r) => at(r).putManifest("v1", bytesOf(await imageIn(r))),
    },
    { what: `end-8 GET tags of ${shown}`, status: 400, code: "NAME_INVALID", send: (r) => at(r).listTags() },
    {
      what: `end-12 GET referrers in ${shown}`,
      status: 400,
      code: "NAME_INVALID",
      send: async (r) => at(r).listReferrers(await unknownDigest()),
    },
  ];
});

/** distribution-spec main, extensions/README.md: no repository may stand where an extension's endpoints would. */
const reserved: readonly Refusal[] = ["_catalog", "_chainguard", "_docker", "_oci"].flatMap((extension) => [
  ...[`${extension}/x`, `of/${extension}/x`].flatMap((name): readonly Refusal[] => [
    {
      what: `end-7a PUT manifest in ${name}`,
      status: 400,
      code: "NAME_INVALID",
      send: async (r) => r.registry.repository(name).putManifest("v1", bytesOf(await imageIn(r))),
    },
    {
      what: `end-4a POST upload in ${name}`,
      status: 400,
      code: "NAME_INVALID",
      send: (r) => r.registry.repository(name).startUpload(),
    },
  ]),
  {
    what: `GET of what the extension ${extension} does not have`,
    status: 404,
    code: "UNSUPPORTED",
    send: (r) => r.registry.request("GET", `/v2/${extension}/x/discover`),
  },
]);

const tags: readonly Refusal[] = badTags.flatMap((tag) => [
  {
    what: `end-7a PUT manifest by tag ${tag.slice(0, 14)}`,
    status: 400,
    code: ["MANIFEST_INVALID", "UNSUPPORTED", "NAME_INVALID"],
    send: async (r) => r.putManifest(tag, bytesOf(await imageIn(r))),
  },
  {
    what: `end-7b PUT manifest with tag=${tag.slice(0, 14)}`,
    status: 400,
    code: ["MANIFEST_INVALID", "UNSUPPORTED", "NAME_INVALID"],
    send: async (r) => {
      const bytes = bytesOf(await imageIn(r));
      return r.putManifest(await digestOf(bytes), bytes, imageManifest, ["good", decodeURIComponent(tag)]);
    },
  },
]);

const digests: readonly Refusal[] = badDigests.flatMap(([form, digest]) => [
  { what: `end-2 GET blob: digest ${form}`, status: 400, code: "DIGEST_INVALID", send: (r) => r.getBlob(digest) },
  {
    what: `end-4b POST with digest ${form}`,
    status: 400,
    code: "DIGEST_INVALID",
    send: (r) => r.startUpload({ digest }, randomBytes(8)),
  },
  {
    what: `end-6 PUT upload: digest ${form}`,
    status: 400,
    code: "DIGEST_INVALID",
    send: async (r) => r.finishUpload(await newUpload(r), digest, randomBytes(8)),
  },
  {
    what: `end-10 DELETE blob: digest ${form}`,
    status: 400,
    code: "DIGEST_INVALID",
    send: (r) => r.deleteBlob(digest),
  },
  {
    what: `end-11 POST mount: digest ${form}`,
    status: 400,
    code: "DIGEST_INVALID",
    send: (r) => r.mountBlob(digest, r.name),
  },
  {
    what: `end-12 GET referrers: digest ${form}`,
    status: 400,
    code: "DIGEST_INVALID",
    send: (r) => r.listReferrers(digest),
  },
]);

const malformedManifestDigests: readonly Refusal[] = badDigests
  .filter(([, digest]) => digest.includes(":"))
  .flatMap(([form, digest]) => [
    {
      what: `end-3 GET manifest: digest ${form}`,
      status: 400,
      code: "DIGEST_INVALID",
      send: (r) => r.getManifest(digest),
    },
    {
      what: `end-7a PUT manifest: digest ${form}`,
      status: 400,
      code: "DIGEST_INVALID",
      send: async (r) => r.putManifest(digest, bytesOf(await imageIn(r))),
    },
    {
      what: `end-9 DELETE manifest: digest ${form}`,
      status: 400,
      code: "DIGEST_INVALID",
      send: (r) => r.deleteManifest(digest),
    },
  ]);

const mismatches: readonly Refusal[] = (["sha256", "sha512"] as const).flatMap((algorithm) => [
  {
    what: `end-4b POST with digest: other bytes (${algorithm})`,
    status: 400,
    code: "DIGEST_INVALID",
    send: async (r) => r.startUpload({ digest: await unknownDigest(algorithm) }, randomBytes(8)),
  },
  {
    what: `end-6 PUT upload: other bytes (${algorithm})`,
    status: 400,
    code: "DIGEST_INVALID",
    send: async (r) => r.finishUpload(await newUpload(r), await unknownDigest(algorithm), randomBytes(8)),
  },
  {
    what: `end-6 PUT upload after PATCH: other bytes (${algorithm})`,
    status: 400,
    code: "DIGEST_INVALID",
    send: async (r) => r.finishUpload(await begunUpload(r, 99), await unknownDigest(algorithm)),
  },
  {
    what: `end-7a PUT manifest: other bytes (${algorithm})`,
    status: 400,
    code: "DIGEST_INVALID",
    send: async (r) => r.putManifest(await unknownDigest(algorithm), bytesOf(await imageIn(r))),
  },
]);

const lists: readonly Refusal[] = ["abc", "-1", "1.5", "1e3", "0x10", " ", "99999999999999999999999999"].flatMap(
  (n) => [
    {
      what: `end-8b GET tags: n=${n}`,
      status: 400,
      code: "UNSUPPORTED" as const,
      send: (r: RepositoryClient) => r.listTags({ n }),
    },
    {
      what: `GET _catalog: n=${n}`,
      status: 400,
      code: "UNSUPPORTED" as const,
      send: (r: RepositoryClient) => r.registry.listRepositories({ n }),
    },
  ],
);

const missing: readonly Refusal[] = [
  {
    what: "end-2 GET blob: unknown",
    status: 404,
    code: "BLOB_UNKNOWN",
    send: async (r) => r.getBlob(await unknownDigest()),
  },
  {
    what: "end-10 DELETE blob: unknown",
    status: 404,
    code: "BLOB_UNKNOWN",
    send: async (r) => r.deleteBlob(await unknownDigest()),
  },
  {
    what: "end-3 GET manifest: unknown tag",
    status: 404,
    code: "MANIFEST_UNKNOWN",
    send: (r) => r.getManifest("unknown"),
  },
  {
    what: "end-3 GET manifest: unknown digest",
    status: 404,
    code: "MANIFEST_UNKNOWN",
    send: async (r) => r.getManifest(await unknownDigest()),
  },
  {
    what: "end-9 DELETE manifest: unknown tag",
    status: 404,
    code: "MANIFEST_UNKNOWN",
    send: (r) => r.deleteManifest("unknown"),
  },
  {
    what: "end-8 GET tags: unknown repository",
    status: 404,
    code: "NAME_UNKNOWN",
    send: (r) => r.registry.repository(`${r.name}/none`).listTags(),
  },
  {
    what: "GET of a path that is no endpoint",
    status: 404,
    code: "UNSUPPORTED",
    send: (r) => r.registry.request("GET", "/v2/nothing"),
  },
  {
    what: "GET of a path outside /v2/",
    status: 404,
    code: "UNSUPPORTED",
    send: (r) => r.registry.request("GET", "/nothing/here"),
  },
];

testRefusals("names", names);
testRefusals("names that are reserved for extensions (main)", reserved);
testRefusals("tags", tags);
testRefusals("digests", [...digests, ...malformedManifestDigests]);
testRefusals("bytes of another digest", mismatches);
testRefusals("lists", lists);
testRefusals("what is not there", missing);
