import { beforeAll, describe, expect, it } from "vitest";
import { fc, test } from "@fast-check/vitest";
import { image, push } from "../fixtures/artifacts.ts";
import { bearerFor, makeRobot } from "../fixtures/principals.ts";
import { environmentWith, registryWith } from "../fixtures/registry.ts";
import { asAdmin } from "../support/credentials.ts";
import { type RegistryClient } from "../support/client.ts";

/** However a path is spelt, the repository that is checked is the one that is answered from. */

const run = crypto.randomUUID();
const environment = environmentWith({ ANONYMOUS_PULL: `${run}/open` });
const registry = registryWith(environment);
const mine = `${run}/mine`;
const theirs = `${run}/theirs`;
const open = `${run}/open`;

/** Somebody who may do everything with `mine`, by Basic and by bearer; and nobody, who may pull `open`. */
const callers: Record<string, RegistryClient> = {};
let blob = "";

beforeAll(async () => {
  for (const name of [mine, theirs, open]) await push(registry.repository(name), image({ layers: [] }), "v1");
  const secret = await push(registry.repository(theirs), image(), "secret");
  blob = secret.blobs[0]?.descriptor.digest ?? "";
  const { token } = await makeRobot([`${mine}:pull,push,delete`]);
  callers["Basic"] = registry.as(token.authorization);
  callers["bearer"] = registry.as(await bearerFor(registry, token.authorization, `repository:${mine}:*`));
  callers["nobody"] = registry.as(null);
});

/** Of what follows /v2/ in the path: what a careless reader may take for `theirs`. */
const spellings = (target: string): readonly string[] => [
  `${mine}/../theirs/${target}`,
  `${open}/../theirs/${target}`,
  `${open}/..%2ftheirs/${target}`,
  `${open}/%2e%2e/theirs/${target}`,
  `${open}/%2E%2E%2Ftheirs/${target}`,
  `${open}/.%2e/theirs/${target}`,
  `${open}%2f..%2ftheirs/${target}`,
  `${open}/./../theirs/${target}`,
  `./${theirs}/${target}`,
  `../v2/${theirs}/${target}`,
  `%2e%2e/v2/${theirs}/${target}`,
  `/${theirs}/${target}`,
  `${run}//theirs/${target}`,
  `${run}/%2ftheirs/${target}`,
  `${run}%2ftheirs/${target}`,
  `${run}%252ftheirs/${target}`,
  `${run}%5ctheirs/${target}`,
  `${run}\\theirs/${target}`,
  `${run}/THEIRS/${target}`,
  `${run}/%74heirs/${target}`,
  `${run}/%2574heirs/${target}`,
  `${run}/theirs%00/${target}`,
  `${run}/theirs%20/${target}`,
  `${run}/theirs;x=/mine/${target}`,
  `${run}/theirs;/${target}`,
  `${run}/theirs%3b/${target}`,
  `${run}/theirs%3f/${target}`,
  `${run}/theirs%23/${target}`,
  `${run}/ｔheirs/${target}`,
  `${run}/thei%cc%80rs/${target}`,
  `${run}/theirs%c0%af/${target}`,
  `${run}／theirs/${target}`,
  `${mine}/${target}/../../../theirs/${target}`,
  `${theirs}/${target.replace("/", "%2f")}`,
  `${theirs}/${target.replace("/", "//")}`,
  `${theirs}//${target}`,
  `${theirs}/./${target}`,
  `${theirs}/${target}/`,
  `${theirs}/${target}/.`,
  `${theirs}/${target}#/${mine}/${target}`,
  `${theirs}/${target}?name=${mine}`,
];

const requests = [
  { method: "GET", target: () => "manifests/secret" },
  { method: "HEAD", target: () => "manifests/secret" },
  { method: "GET", target: () => `blobs/${blob}` },
  { method: "GET", target: () => "tags/list" },
  { method: "GET", target: () => `referrers/${blob}` },
  { method: "PUT", target: () => "manifests/secret", body: image({ layers: [] }).bytes },
  { method: "POST", target: () => "blobs/uploads/" },
  { method: "DELETE", target: () => "manifests/secret" },
  { method: "DELETE", target: () => `blobs/${blob}` },
];

describe.each(["Basic", "bearer", "nobody"])("by %s", (who) => {
  it.each(requests)("$method $target gets at nothing of another's, however its path is spelt", async (request) => {
    const { method, target, body } = request;
    for (const spelling of spellings(target())) {
      const response = await callers[who]?.request(method, `/v2/${spelling}`, body === undefined ? {} : { body });
      const text = await response?.text();
      expect({ spelling, in: response?.ok, text: text?.includes('secret"]') }).toEqual({
        spelling,
        in: false,
        text: false,
      });
      expect([400, 401, 403, 404, 405]).toContain(response?.status);
    }
    const theirsStill = registry.repository(theirs);
    expect((await theirsStill.getManifest("secret")).status).toBe(200);
    expect((await theirsStill.headBlob(blob)).status).toBe(200);
  });
});

describe("a spelling that is decoded to a name", () => {
  it("is that name, to the check as to the answer", async () => {
    for (const [own, other] of [
      [`${run}%2Fmine`, `${run}%2Ftheirs`],
      [`${run}%2fmine`, `${run}%2ftheirs`],
      [`${run}/%6dine`, `${run}/%74heirs`],
      [`${run}/x/../mine`, `${run}/mine/../theirs`],
    ] as const) {
      const response = await callers["Basic"]?.request("GET", `/v2/${own}/tags/list`);
      expect(await response?.json()).toEqual({ name: mine, tags: ["v1"] });
      expect((await callers["Basic"]?.request("GET", `/v2/${other}/tags/list`))?.status).toBe(403);
    }
  });
});

describe("a repository whose name holds what follows a name", () => {
  const inner = [
    "manifests",
    "manifests/v1",
    "blobs",
    "blobs/uploads",
    "blobs/uploads/x",
    "tags",
    "tags/list",
    "referrers",
    "referrers/x",
    "token",
    "v2",
    "v2/x/manifests/v1",
  ];

  it.each(inner)("%s is that repository, and no door to the one above it", async (rest) => {
    const name = `${mine}/${rest}`;
    await push(registry.repository(name), image({ layers: [] }), "v1");
    const above = registry.as((await makeRobot([`${mine}:pull,push,delete`])).token.authorization);
    const own = registry.as((await makeRobot([`${name}:pull,push,delete`])).token.authorization);
    expect((await own.repository(name).getManifest("v1")).status).toBe(200);
    expect((await own.repository(name).startUpload()).status).toBe(202);
    for (const [client, refused] of [
      [above, name],
      [own, mine],
    ] as const) {
      for (const response of [
        await client.repository(refused).getManifest("v1"),
        await client.repository(refused).listTags(),
        await client.repository(refused).startUpload(),
        await client.repository(refused).deleteManifest("v1"),
        await client.repository(refused).getBlob(blob),
      ]) {
        expect(response.status).toBe(403);
      }
    }
  });

  it.each(inner)("%s by a bearer for the one above it", async (rest) => {
    const name = `${mine}/${rest}`;
    const bearer = registry.as(await bearerFor(registry, asAdmin, `repository:${mine}:*`));
    const own = registry.as(await bearerFor(registry, asAdmin, `repository:${name}:*`));
    expect((await bearer.repository(name).getManifest("v1")).status).toBe(401);
    expect((await bearer.repository(name).startUpload()).status).toBe(401);
    expect((await own.repository(mine).getManifest("v1")).status).toBe(401);
    expect((await own.repository(name).startUpload()).status).toBe(202);
  });
});

const piece = fc.constantFrom(
  "theirs",
  "mine",
  "open",
  run,
  "..",
  ".",
  "",
  "/",
  "//",
  "\\",
  "%2f",
  "%2F",
  "%2e",
  "%2e%2e",
  "%5c",
  "%00",
  ";",
  "?",
  "#",
  "%3f",
  "%23",
  "%25",
  "%252f",
  "v2",
  "manifests",
  "blobs",
  "uploads",
  "tags",
  "list",
  "secret",
  "v1",
);

describe("a path of any pieces", () => {
  test.prop([fc.array(piece, { minLength: 1, maxLength: 12 }), fc.constantFrom("GET", "PUT", "POST", "DELETE")], {
    numRuns: 500,
  })("gets at what the caller has the right to, or at nothing", async (pieces, method) => {
    const body = method === "PUT" ? { body: image({ layers: [] }).bytes } : {};
    const response = await callers["Basic"]?.request(method, `/v2/${run}/${pieces.join("/")}`, body);
    const text = await response?.text();
    // Theirs has one tag more than the others, and no answer to this caller tells it.
    if (response?.ok === true) expect(text).not.toContain("secret");
    expect(response?.status).not.toBe(500);
  });

  it("has left theirs as it was", async () => {
    expect(await (await registry.repository(theirs).listTags()).json()).toEqual({
      name: theirs,
      tags: ["secret", "v1"],
    });
  });
});
