import { beforeAll, describe, expect, inject, it } from "vitest";
import { z } from "zod";
import { basic } from "../../support/credentials.ts";
import { expectStatus, type RegistryClient, utf8 } from "../../support/client.ts";
import { imageIn } from "../content.ts";
import { rawRequest, type RawResponse } from "../raw-http.ts";
import { registryUnderTest } from "../registry-under-test.ts";

/** Request lines as no URL parser writes them: the repository that is checked is the one that is answered from. */

const run = crypto.randomUUID();
const mine = `${run}/mine`;
const theirs = `${run}/theirs`;

/** Says who may do everything with `mine`, and nothing with `theirs`: by an access token, and by a bearer. */
const says: Record<string, string> = {};
let blob = "";

const createdToken = z.object({ token: z.string() });

async function post(client: RegistryClient, path: string, value: object): Promise<Response> {
  const headers = { "Content-Type": "application/json" };
  return expectStatus(await client.request("POST", path, { headers, body: utf8(JSON.stringify(value)) }), 201);
}

beforeAll(async () => {
  const administrator = registryUnderTest();
  for (const [name, tag] of [
    [mine, "v1"],
    [theirs, "secret"],
  ] as const) {
    const repository = administrator.repository(name);
    await repository.pushManifest(await imageIn(repository), { reference: tag });
  }
  blob = (await administrator.repository(theirs).pushBlob(utf8(`a secret blob ${run}`))).digest;
  const name = `user-${run}`;
  await post(administrator, "/api/v1/users", { name, grants: [`${mine}:pull,push,delete`] });
  const created = await post(administrator, `/api/v1/users/${name}/tokens`, { name: "of a test" });
  const { token } = createdToken.parse(await created.json());
  says["an access token"] = basic(name, token);
  const scope = `repository:${mine}:pull,push,delete`;
  const given = await administrator.as(basic(name, token)).request("GET", "/token", { query: { scope } });
  says["a bearer"] = `Bearer ${createdToken.parse(await given.json()).token}`;
  says["nobody"] = "";
});

const send = async (who: string, method: string, target: string): Promise<RawResponse> =>
  rawRequest(inject("registryUrl"), { method, target, headers: { Authorization: says[who] ?? "" } });

/** What a careless reader of the request line may take for `theirs`, behind a name that is the caller's own. */
const spellings = (rest: string): readonly string[] => [
  `/v2/${theirs}/${rest}`,
  `/v2/${mine}/../theirs/${rest}`,
  `/v2/${mine}/..%2ftheirs/${rest}`,
  `/v2/${mine}/%2e%2e/theirs/${rest}`,
  `/v2/${mine}/%2E%2e%2Ftheirs/${rest}`,
  `/v2/${mine}/..\\theirs/${rest}`,
  `/v2/${mine}/..%5ctheirs/${rest}`,
  `/v2/${mine}/..;/theirs/${rest}`,
  `/v2/${mine}/.../../theirs/${rest}`,
  `/v2/${mine}%00/../theirs/${rest}`,
  `/v2/${mine}/manifests/v1/../../../theirs/${rest}`,
  `/v2/./${theirs}/${rest}`,
  `/v2/../v2/${theirs}/${rest}`,
  `/token/../v2/${theirs}/${rest}`,
  `/api/v1/openapi.json/../../../v2/${theirs}/${rest}`,
  `//v2/${theirs}/${rest}`,
  `/v2//${theirs}/${rest}`,
  `/v2/${run}//theirs/${rest}`,
  `/v2/${theirs}//${rest}`,
  `/V2/${theirs}/${rest}`,
  `/v2/${theirs.toUpperCase()}/${rest}`,
  `/v2/${run}/THEIRS/${rest}`,
  `/v2/${run}/ｔheirs/${rest}`,
  `/v2/${run}/%ef%bd%94heirs/${rest}`,
  `/v2/${run}/thei\u0301rs/${rest}`,
  `/v2/${run}/%74heirs/${rest}`,
  `/v2/${run}/%2574heirs/${rest}`,
  `/v2/${run}%2ftheirs/${rest}`,
  `/v2/${run}%252ftheirs/${rest}`,
  `/v2/${theirs}%2f${rest.replaceAll("/", "%2f")}`,
  `/v2/${theirs}/${rest}?name=${mine}`,
  `/v2/${theirs}/${rest}?/${mine}/`,
  `/v2/${theirs}/${rest}#/v2/${mine}/${rest}`,
  `/v2/${theirs}/./${rest}`,
  `/v2/${theirs}/${rest}/`,
  `/v2/${theirs}/${rest}%00`,
  `${inject("registryUrl")}/v2/${theirs}/${rest}`,
  `http://user@elsewhere.example/v2/${theirs}/${rest}`,
  `v2/${theirs}/${rest}`,
];

const requests = [
  ["GET", () => "manifests/secret"],
  ["HEAD", () => "manifests/secret"],
  ["GET", () => `blobs/${blob}`],
  ["GET", () => "tags/list"],
  ["GET", () => `referrers/${blob}`],
  ["POST", () => "blobs/uploads/"],
  ["DELETE", () => "manifests/secret"],
  ["DELETE", () => `blobs/${blob}`],
] as const;

describe.each(["an access token", "a bearer", "nobody"])("%s", (who) => {
  it("gets at its own, and only by name", async () => {
    const { status } = await send(who, "GET", `/v2/${mine}/manifests/v1`);
    expect(status).toBe(who === "nobody" ? 401 : 200);
  });

  it.each(requests)("gets at nothing of another's by %s", async (method, rest) => {
    for (const target of spellings(rest())) {
      const response = await send(who, method, target);
      // What is refused on the way has no body of ours; whatever is answered holds nothing of theirs.
      const gave = response.status < 400 || /"secret"|a secret blob/.test(response.text());
      expect({ target, status: response.status, gave }).toMatchObject({ target, gave: false });
      expect(response.status).toBeLessThan(500);
    }
    const still = registryUnderTest().repository(theirs);
    expect((await still.headManifest("secret")).status).toBe(200);
    expect((await still.headBlob(blob)).status).toBe(200);
  });
});
