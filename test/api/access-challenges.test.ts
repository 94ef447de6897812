import { describe, expect, it } from "vitest";
import { image, push } from "../fixtures/artifacts.ts";
import { unknownDigest } from "../fixtures/content.ts";
import { bearerFor, freshAddress, makeRobot } from "../fixtures/principals.ts";
import { environmentWith, registryWith, serve } from "../fixtures/registry.ts";
import { asAdmin, basic } from "../support/credentials.ts";

/** RFC 6750 section 3 and the distribution project's token specification: what a 401 says of where to go, and for what. */

const run = crypto.randomUUID();
const registry = registryWith(environmentWith({ ANONYMOUS_PULL: `${run}/open` }));
const name = `${run}/app`;
const other = `${run}/other`;
const digest = unknownDigest();

const start = 'Bearer realm="http://localhost/token",service="localhost"';
const toPull = `${start},scope="repository:${name}:pull"`;
const toPush = `${start},scope="repository:${name}:pull,push"`;
const toDelete = `${start},scope="repository:${name}:delete"`;
const toMount = `${start},scope="repository:${name}:pull,push repository:${other}:pull"`;

const challenges = [
  ["GET", "/v2/", start],
  ["HEAD", "/v2/", start],
  ["GET", "/v2", start],
  ["GET", `/v2/${name}/manifests/v1`, toPull],
  ["HEAD", `/v2/${name}/manifests/v1`, toPull],
  ["GET", `/v2/${name}/blobs/${digest}`, toPull],
  ["HEAD", `/v2/${name}/blobs/${digest}`, toPull],
  ["GET", `/v2/${name}/tags/list`, toPull],
  ["GET", `/v2/${name}/referrers/${digest}`, toPull],
  ["POST", `/v2/${name}/blobs/uploads/`, toPush],
  ["POST", `/v2/${name}/blobs/uploads/?digest=${digest}`, toPush],
  ["POST", `/v2/${name}/blobs/uploads/?mount=${digest}`, toPush],
  ["POST", `/v2/${name}/blobs/uploads/?mount=${digest}&from=${other}`, toMount],
  ["POST", `/v2/${name}/blobs/uploads/?mount=${digest}&from=${encodeURIComponent(other)}`, toMount],
  ["POST", `/v2/${name}/blobs/uploads/?mount=${digest}&from=${name}`, toPush],
  ["POST", `/v2/${name}/blobs/uploads/?mount=${digest}&from=Not%22A%20Name`, toPush],
  ["POST", `/v2/${name}/blobs/uploads/?from=${other}`, toPush],
  ["PATCH", `/v2/${name}/blobs/uploads/x`, toPush],
  ["PUT", `/v2/${name}/blobs/uploads/x?digest=${digest}`, toPush],
  ["GET", `/v2/${name}/blobs/uploads/x`, toPush],
  ["DELETE", `/v2/${name}/blobs/uploads/x`, toPush],
  ["PUT", `/v2/${name}/manifests/v1`, toPush],
  ["DELETE", `/v2/${name}/manifests/v1`, toDelete],
  ["DELETE", `/v2/${name}/manifests/${digest}`, toDelete],
  ["DELETE", `/v2/${name}/blobs/${digest}`, toDelete],
] as const;

describe("the challenge", () => {
  it.each(challenges)("to nobody's %s %s", async (method, target, expected) => {
    const response = await registry.as(null).request(method, target);
    expect([response.status, response.headers.get("WWW-Authenticate")]).toEqual([401, expected]);
  });

  it("to nobody's catalogue, where nothing is public", async () => {
    const response = await registryWith(environmentWith({})).as(null).listRepositories();
    expect([response.status, response.headers.get("WWW-Authenticate")]).toEqual([
      401,
      `${start},scope="registry:catalog:*"`,
    ]);
  });

  it.each(challenges)("to a bearer that does not hold says so: %s %s", async (method, target, expected) => {
    const response = await registry.as("Bearer QQ==").request(method, target);
    expect([response.status, response.headers.get("WWW-Authenticate")]).toEqual([
      401,
      `${expected},error="invalid_token"`,
    ]);
  });

  it.each(challenges.filter(([, target]) => !/^\/v2\/?$/.test(target)))(
    "to a bearer for something else says so: %s %s",
    async (method, target, expected) => {
      const bearer = await bearerFor(registry, asAdmin, `repository:${run}/else:pull,push,delete`);
      const response = await registry.as(bearer).request(method, target);
      expect([response.status, response.headers.get("WWW-Authenticate")]).toEqual([
        401,
        `${expected},error="insufficient_scope"`,
      ]);
    },
  );

  it("asks for just what then lets in: a token for its scope does", async () => {
    await push(registry.repository(name), image({ layers: [] }), "v1");
    const { token } = await makeRobot([`${run}/*:pull,push,delete`]);
    for (const [method, target] of challenges) {
      const refused = await registry.as(null).request(method, target);
      const scope = /scope="([^"]*)"/.exec(refused.headers.get("WWW-Authenticate") ?? "")?.[1];
      const scopes = scope === undefined ? [] : scope.split(" ");
      const bearer = await bearerFor(registry, token.authorization, ...scopes);
      const { status } = await registry.as(bearer).request(method, target);
      expect({ method, target, let: status !== 401 && status !== 403 }).toEqual({ method, target, let: true });
      // The manifest may have been deleted meanwhile: that is not what is asked here.
    }
  });

  it("is of the host and the scheme that were asked", async () => {
    for (const origin of ["https://registry.example", "http://127.0.0.1:8787", "https://registry.example:8443"]) {
      const response = await serve(new Request(`${origin}/v2/`));
      expect(response.headers.get("WWW-Authenticate")).toBe(
        `Bearer realm="${origin}/token",service="${new URL(origin).host}"`,
      );
    }
  });

  it("is none in a 403, which no other token mends, and Basic's own where a password was wrong", async () => {
    const { token } = await makeRobot([]);
    const denied = await registry.as(token.authorization).repository(name).listTags();
    expect([denied.status, denied.headers.get("WWW-Authenticate")]).toEqual([403, null]);
    const wrong = await registryWith(environmentWith({}), freshAddress()).as(basic("admin", "guess")).ping();
    expect([wrong.status, wrong.headers.get("WWW-Authenticate")]).toEqual([401, 'Basic realm="moorage"']);
  });

  it("comes with the error envelope, the API version and the request's id, to HEAD too", async () => {
    for (const method of ["GET", "HEAD"]) {
      const response = await registry.as(null).request(method, "/v2/");
      expect(response.headers.get("Docker-Distribution-API-Version")).toBe("registry/2.0");
      expect(response.headers.get("Content-Type")).toBe("application/json");
      expect(response.headers.get("X-Request-Id")).not.toBeNull();
    }
  });
});

describe("the scheme of Authorization", () => {
  it.each(["basic", "BASIC", "bAsIc", "Basic ", " Basic"])("%j is Basic's", async (scheme) => {
    const value = asAdmin.slice("Basic ".length);
    expect((await registry.as(`${scheme} ${value}`).ping()).status).toBe(200);
  });

  it.each(["bearer", "BEARER", "bEaReR"])("%j is a bearer's", async (scheme) => {
    const bearer = (await bearerFor(registry, asAdmin)).slice("Bearer ".length);
    expect((await registry.as(`${scheme} ${bearer}`).ping()).status).toBe(200);
  });
});
