import { exports } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { randomBytes } from "../fixtures/content.ts";
import { freshRepository } from "../fixtures/registry.ts";
import { expectError } from "../conformance/error-envelope.ts";

describe("every route", () => {
  const { name } = freshRepository();
  const digest = `sha256:${"a".repeat(64)}`;
  const routes: readonly (readonly [endpoint: string, method: string, path: string])[] = [
    ["end-1", "GET", "/v2/"],
    ["end-1", "HEAD", "/v2/"],
    ["end-2", "GET", `/v2/${name}/blobs/${digest}`],
    ["end-2", "HEAD", `/v2/${name}/blobs/${digest}`],
    ["end-3", "GET", `/v2/${name}/manifests/latest`],
    ["end-3", "HEAD", `/v2/${name}/manifests/latest`],
    ["end-4a", "POST", `/v2/${name}/blobs/uploads/`],
    ["end-4a", "POST", `/v2/${name}/blobs/uploads`],
    ["end-4b", "POST", `/v2/${name}/blobs/uploads/?digest=${digest}`],
    ["end-11", "POST", `/v2/${name}/blobs/uploads/?mount=${digest}`],
    ["end-5", "PATCH", `/v2/${name}/blobs/uploads/x`],
    ["end-6", "PUT", `/v2/${name}/blobs/uploads/x?digest=${digest}`],
    ["end-13", "GET", `/v2/${name}/blobs/uploads/x`],
    ["end-14", "DELETE", `/v2/${name}/blobs/uploads/x`],
    ["end-7", "PUT", `/v2/${name}/manifests/latest`],
    ["end-8", "GET", `/v2/${name}/tags/list`],
    ["end-9", "DELETE", `/v2/${name}/manifests/latest`],
    ["end-10", "DELETE", `/v2/${name}/blobs/${digest}`],
    ["end-12", "GET", `/v2/${name}/referrers/${digest}`],
    ["_catalog", "GET", "/v2/_catalog"],
  ];

  it.each(routes)(
    "%s %s %s serves loopback alone: another host name gets 403 DENIED",
    async (_endpoint, method, path) => {
      const withBody = method === "PUT" || method === "PATCH" || method === "POST";
      const init = withBody ? { method, body: randomBytes(10) } : { method };
      for (const host of ["registry.example.com", "localhost.example.com"]) {
        const response = await exports.default.fetch(`http://${host}${path}`, init);
        if (method === "HEAD") expect(response.status).toBe(403);
        else await expectError(response, 403, "DENIED");
        expect(response.headers.get("Docker-Distribution-API-Version")).toBe("registry/2.0");
      }
      for (const host of ["localhost", "127.0.0.1:8787", "[::1]"]) {
        expect((await exports.default.fetch(`http://${host}${path}`, init)).status).not.toBe(403);
      }
    },
  );
});
