import { beforeAll, describe, expect, it } from "vitest";
import { expectError } from "../conformance/error-envelope.ts";
import { type Artifact, artifact, image, index, push, referrer } from "../fixtures/artifacts.ts";
import { bearerFor, freshAddress, makeRobot } from "../fixtures/principals.ts";
import { environmentWith, registryWith } from "../fixtures/registry.ts";
import { imageManifest, type RegistryClient, type RepositoryClient, utf8 } from "../support/client.ts";
import { asAdmin } from "../support/credentials.ts";

/**
 * Private content and content that is not there can't be told apart by who may work beside it: neither by asking for it,
 * nor by naming it in what one pushes. The routes one by one are in access-matrix.test.ts.
 */

const run = crypto.randomUUID();
const environment = environmentWith({ ANONYMOUS_PULL: `open-${run}/**` });
const registry = (): RegistryClient => registryWith(environment, freshAddress());
const mine = `mine-${run}/app`;
/** Of one length, as an answer's length tells. */
const theirs = `theirs-${run}/there`;
const none = `theirs-${run}/other`;
const open = `open-${run}/app`;

let secret: Artifact;
/** As it would be, had somebody pushed it. */
const absent = image();

beforeAll(async () => {
  secret = await push(registry().repository(theirs), image(), "v1");
  for (const name of [mine, open]) await push(registry().repository(name), image({ layers: [] }), "v1");
});

/** All of an answer but for what a request alone has, and what it repeats of the question. */
async function wholeOf(response: Response, ...asked: readonly string[]): Promise<string> {
  const whole = JSON.stringify([response.status, [...response.headers], await response.text()]);
  // The whole location first: it has the id in it.
  const ownValues = [
    response.headers.get("Location")?.split("/").at(-1) ?? "-",
    response.headers.get("Docker-Upload-UUID") ?? "-",
    response.headers.get("X-Request-Id") ?? "-",
  ];
  return [...ownValues, ...asked]
    .filter((text) => text !== "-")
    .reduce((text, each) => text.replaceAll(each, "<asked>"), whole);
}

const everything = (name: string): string => `repository:${name}:pull,push,delete`;
const robotOfMine = async (): Promise<string> => (await makeRobot([`${mine}:pull,push,delete`])).token.authorization;

const callers = [
  { who: "nobody", says: async () => null },
  { who: "a dummy bearer", says: async () => "Bearer QQ==" },
  { who: "an anonymous bearer", says: async () => bearerFor(registry(), null, everything(theirs), everything(none)) },
  { who: "an access token", says: robotOfMine },
  { who: "a bearer that did not ask", says: async () => bearerFor(registry(), await robotOfMine(), everything(mine)) },
  {
    who: "a bearer that asked",
    says: async () => bearerFor(registry(), await robotOfMine(), ...[mine, theirs, none].map(everything)),
  },
] as const;

/** What is asked of a repository, or with its name. */
const questions: readonly (readonly [string, (as: RegistryClient, name: string) => Promise<Response>])[] = [
  ["a tag", async (as, name) => as.repository(name).getManifest("v1")],
  ["a tag's HEAD", async (as, name) => as.repository(name).headManifest("v1")],
  ["a digest", async (as, name) => as.repository(name).getManifest(secret.descriptor.digest)],
  ["a digest that is no digest", async (as, name) => as.repository(name).getManifest("sha256:x")],
  [
    "a manifest with If-None-Match",
    async (as, name) => as.repository(name).getManifest("v1", { "If-None-Match": "*" }),
  ],
  ["a blob", async (as, name) => as.repository(name).getBlob(secret.blobs[0]?.descriptor.digest ?? "")],
  ["a blob's HEAD", async (as, name) => as.repository(name).headBlob(secret.blobs[0]?.descriptor.digest ?? "")],
  [
    "a blob's range",
    async (as, name) => as.repository(name).getBlob(secret.blobs[0]?.descriptor.digest ?? "", { Range: "bytes=0-0" }),
  ],
  ["tags", async (as, name) => as.repository(name).listTags()],
  ["tags after a page", async (as, name) => as.repository(name).listTags({ n: 0, last: "a" })],
  ["referrers", async (as, name) => as.repository(name).listReferrers(secret.descriptor.digest)],
  ["a manifest's push", async (as, name) => as.repository(name).putManifest("v1", secret.bytes)],
  ["a tag's deletion", async (as, name) => as.repository(name).deleteManifest("v1")],
  ["a manifest's deletion", async (as, name) => as.repository(name).deleteManifest(secret.descriptor.digest)],
  ["a blob's deletion", async (as, name) => as.repository(name).deleteBlob(secret.blobs[0]?.descriptor.digest ?? "")],
  ["an upload", async (as, name) => as.repository(name).startUpload()],
  [
    "a mount into it",
    async (as, name) => as.repository(name).mountBlob(secret.blobs[0]?.descriptor.digest ?? "", mine),
  ],
  [
    "a mount from it",
    async (as, name) => as.repository(mine).mountBlob(secret.blobs[0]?.descriptor.digest ?? "", name),
  ],
  ["a session", async (as, name) => as.request("GET", `/v2/${name}/blobs/uploads/x`)],
  ["a method that there is not", async (as, name) => as.request("PATCH", `/v2/${name}/manifests/v1`)],
  ["a catalogue that begins with it", async (as, name) => as.listRepositories({ last: name, n: 1 })],
  ["a token for it", async (as, name) => as.request("GET", "/token", { query: { scope: `repository:${name}:*` } })],
];

describe.each(callers)("to $who", ({ says }) => {
  it.each(questions)("%s is answered alike for a private repository and for none", async (what, ask) => {
    const authorization = await says();
    const answers = [];
    for (const name of [theirs, none]) {
      const response = await ask(registry().as(authorization), name);
      // A token is another each time: what it says is compared in its stead.
      const told =
        what === "a token for it" && response.ok ? await wholeOfToken(response) : await wholeOf(response, name);
      answers.push(told.replaceAll(name, "<asked>"));
    }
    expect(answers[0]).toBe(answers[1]);
  });
});

async function wholeOfToken(response: Response): Promise<string> {
  const { token } = await response.json<{ token: string }>();
  const [, payload = ""] = token.split(".");
  const claims = new TextDecoder().decode(Uint8Array.fromBase64(payload, { alphabet: "base64url" }));
  return claims.replaceAll(/"(jti|iat|exp)":("[^"]*"|\d+)/g, "");
}

const asMine = async (): Promise<RepositoryClient> =>
  registry()
    .as(await robotOfMine())
    .repository(mine);

describe("a repository of one's own tells nothing of another's content", () => {
  it("by the digests of blobs and manifests", async () => {
    const repository = await asMine();
    for (const [there, not] of [
      [secret.blobs[0], absent.blobs[0]],
      [secret.blobs[1], absent.blobs[1]],
    ]) {
      const [one, other] = [there?.descriptor.digest ?? "", not?.descriptor.digest ?? ""];
      for (const ask of ["getBlob", "headBlob", "deleteBlob", "mountBlob", "listReferrers"] as const) {
        const alike = [await repository[ask](one), await repository[ask](other)];
        expect(await wholeOf(must(alike[0]), one)).toBe(await wholeOf(must(alike[1]), other));
      }
    }
    const [one, other] = [secret.descriptor.digest, absent.descriptor.digest];
    for (const ask of ["getManifest", "headManifest", "deleteManifest", "listReferrers"] as const) {
      expect(await wholeOf(await repository[ask](one), one)).toBe(await wholeOf(await repository[ask](other), other));
    }
  });

  it("by naming it in a manifest: as a layer, as a child, as a subject", async () => {
    const repository = await asMine();
    const { blobs: own } = await push(repository, image());
    const [config] = own;
    const withLayer = (layer: Artifact["blobs"][number] | undefined): Artifact =>
      artifact(imageManifest, { config: config?.descriptor, layers: [layer?.descriptor] });
    for (const [there, not] of [
      [withLayer(secret.blobs[1]), withLayer(absent.blobs[1])],
      [index([secret.descriptor], { annotations: {} }), index([absent.descriptor], { annotations: {} })],
    ] as const) {
      const answers = [];
      for (const [put, named] of [
        [there, secret],
        [not, absent],
      ] as const) {
        const response = await repository.putManifest("v2", put.bytes, put.descriptor.mediaType);
        await expectError(response.clone(), 404, "MANIFEST_BLOB_UNKNOWN");
        answers.push(await wholeOf(response, named.descriptor.digest, named.blobs[1]?.descriptor.digest ?? "-"));
      }
      expect(answers[0]).toBe(answers[1]);
    }
    const answers = [];
    for (const subject of [secret, absent]) {
      const put = referrer(subject.descriptor);
      for (const { bytes } of put.blobs) await repository.pushBlob(bytes);
      const response = await repository.putManifest(put.descriptor.digest, put.bytes);
      expect(response.status).toBe(201);
      answers.push(await wholeOf(response, subject.descriptor.digest, put.descriptor.digest));
    }
    expect(answers[0]).toBe(answers[1]);
    expect(await (await registry().repository(theirs).listReferrers(secret.descriptor.digest)).json()).toMatchObject({
      manifests: [],
    });
  });

  it("by pushing the same bytes: it is a push as of any others, and opens nothing else", async () => {
    const repository = await asMine();
    const bytes = secret.blobs[1]?.bytes ?? utf8("");
    const fresh = utf8(crypto.randomUUID().padEnd(bytes.length, "x"));
    const answers = [];
    for (const each of [bytes, fresh]) {
      const descriptor = await repository.pushBlob(each);
      answers.push(await wholeOf(await repository.headBlob(descriptor.digest), descriptor.digest));
    }
    expect(answers[0]).toBe(answers[1]);
    await expectError(await repository.getManifest(secret.descriptor.digest), 404, "MANIFEST_UNKNOWN");
  });
});

describe("what somebody who may has just been served", () => {
  it("is not served to who may not: nothing of it is kept before the check", async () => {
    const owner = registry().as(asAdmin).repository(theirs);
    const digest = secret.blobs[1]?.descriptor.digest ?? "";
    const etag = { "If-None-Match": `"${digest}"` };
    for (let time = 0; time < 2; time++) {
      expect((await owner.getBlob(digest)).status).toBe(200);
      expect((await owner.getManifest("v1")).status).toBe(200);
      expect((await owner.listTags()).status).toBe(200);
      for (const { who, says } of callers) {
        const as = registry()
          .as(await says())
          .repository(theirs);
        for (const response of [
          await as.getBlob(digest),
          await as.getBlob(digest, { Range: "bytes=0-0" }),
          await as.getBlob(digest, etag),
          await as.headBlob(digest),
          await as.getManifest("v1"),
          await as.getManifest("v1", { "If-None-Match": `"${secret.descriptor.digest}"` }),
          await as.listTags(),
        ]) {
          expect({ who, refused: [401, 403].includes(response.status) }).toEqual({ who, refused: true });
        }
      }
    }
  });

  it("is for no shared cache: what is private says nothing of public, or of an age", async () => {
    const owner = registry().as(asAdmin).repository(theirs);
    for (const response of [
      await owner.getBlob(secret.blobs[1]?.descriptor.digest ?? ""),
      await owner.getManifest("v1"),
      await owner.getManifest(secret.descriptor.digest),
      await owner.listTags(),
      await registry().as(asAdmin).listRepositories(),
    ]) {
      expect(response.status).toBe(200);
      expect(response.headers.get("Cache-Control") ?? "").not.toMatch(/public|s-maxage|max-age=[1-9]/);
    }
  });
});

describe("what everybody may pull", () => {
  it("is all that a public pattern opens: push, delete and its uploads stay shut to nobody", async () => {
    for (const authorization of [null, "Bearer QQ==", await bearerFor(registry(), null, everything(open))]) {
      const repository = registry().as(authorization).repository(open);
      expect((await repository.getManifest("v1")).status).toBe(200);
      expect((await repository.listTags()).status).toBe(200);
      for (const response of [
        await repository.startUpload(),
        await repository.mountBlob(`sha256:${"0".repeat(64)}`, open),
        await repository.putManifest("v1", absent.bytes),
        await repository.deleteManifest("v1"),
      ]) {
        await expectError(response, 401, "UNAUTHORIZED");
      }
    }
    expect((await registry().repository(open).getManifest("v1")).status).toBe(200);
  });
});

function must(response: Response | undefined): Response {
  if (response === undefined) throw new Error("no answer");
  return response;
}
