import fc from "fast-check";
import { expect, inject, test } from "vitest";
import type { Bytes } from "../../support/client.ts";
import { unknownDigest } from "../content.ts";
import { errorsOf } from "../error-envelope.ts";
import { type RawRequest, rawRequest, targetOf } from "../raw-http.ts";
import { freshRepository } from "../registry-under-test.ts";

/** Whatever is sent to any endpoint, the answer is never a 5xx, and every refusal has the envelope. */

const LONG_MS = 180_000;
const RUNS = 300;
/** An answer that takes longer is a hang. */
const ANSWER_MS = 20_000;

/**
 * Any bytes, in the form that a request line can carry: percent-encoded, or bare where RFC 3986 allows it. What is
 * no URI is refused by the HTTP server in front of the Worker, which the Worker never sees.
 */
const pathText = fc.oneof(
  fc
    .uint8Array({ maxLength: 24 })
    .map((bytes) => [...bytes].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("")),
  fc.string({ unit: fc.constantFrom(...Array.from("abcXYZ019-._~:@!$&'()*+,;=/%")), maxLength: 40 }),
  fc.constantFrom(
    "",
    ".",
    "..",
    "%",
    "%2",
    "%zz",
    "%00",
    "%2e%2e%2f",
    "sha256:",
    "sha512:",
    "uploads",
    "list",
    "a".repeat(600),
  ),
);

const headerText = fc.oneof(
  fc.string({
    unit: fc.constantFrom(...Array.from("abcXYZ019-._~:/!#$%&'()*+,;=?@[] \"<>\\{}|^`\té\u00ff")),
    maxLength: 60,
  }),
  fc.constantFrom(
    "",
    "0-",
    "-",
    "0-0",
    "bytes 0-0/1",
    "bytes=0-0",
    "bytes=-1",
    "*",
    "99999999999999999999-99999999999999999999",
    "application/json",
    "text/html; charset=x",
  ),
);

const headerNames = [
  "Content-Type",
  "Content-Range",
  "Range",
  "If-Range",
  "If-None-Match",
  "If-Match",
  "Accept",
  "Accept-Encoding",
  "Authorization",
  "Expect",
  "X-Forwarded-Proto",
  "Cookie",
];

const bodies: fc.Arbitrary<Bytes> = fc.oneof(
  fc.uint8Array({ maxLength: 300 }).map((bytes) => new Uint8Array(bytes)),
  fc.json({ maxDepth: 4 }).map((text) => new TextEncoder().encode(text)),
  fc
    .record({
      schemaVersion: fc.oneof(fc.constant(2), fc.anything()),
      mediaType: fc.oneof(fc.constant("application/vnd.oci.image.manifest.v1+json"), fc.anything()),
      config: fc.anything(),
      layers: fc.anything(),
      manifests: fc.anything(),
      subject: fc.anything(),
      annotations: fc.anything(),
    })
    .map((manifest) => new TextEncoder().encode(safeJson(manifest))),
);

const requests = fc.record({
  method: fc.constantFrom("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
  part: pathText,
  query: fc.array(
    fc.tuple(
      fc.constantFrom("digest", "mount", "from", "n", "last", "tag", "artifactType", "digest-algorithm", "ns", "x"),
      pathText,
    ),
    { maxLength: 3 },
  ),
  headers: fc.dictionary(fc.constantFrom(...headerNames), headerText, { maxKeys: 3 }),
  body: fc.option(bodies, { nil: undefined }),
  framing: fc.constantFrom("length" as const, "chunked" as const),
});

const endpoints: readonly (readonly [
  name: string,
  path: (part: string, digest: string, location: string) => string,
])[] = [
  ["end-1 /v2/", (part) => `/v2/${part}`],
  ["end-2, end-10 blob", (part) => `/v2/NAME/blobs/${part}`],
  ["end-2, end-10 blob of a random name", (part, digest) => `/v2/${part}/blobs/${digest}`],
  ["end-3, end-7, end-9 manifest", (part) => `/v2/NAME/manifests/${part}`],
  ["end-3, end-7, end-9 manifest of a random name", (part, digest) => `/v2/${part}/manifests/${digest}`],
  ["end-7 manifest with a good tag", () => "/v2/NAME/manifests/tag"],
  ["end-4, end-11 uploads", () => "/v2/NAME/blobs/uploads/"],
  ["end-4 uploads of a random name", (part) => `/v2/${part}/blobs/uploads/`],
  ["end-5, end-6, end-13, end-14 upload", (part) => `/v2/NAME/blobs/uploads/${part}`],
  ["end-5, end-6, end-13, end-14 upload that there is", (_part, _digest, location) => location],
  ["end-8 tags", (part) => `/v2/NAME/tags/list${part.startsWith("?") ? part : ""}`],
  ["end-8 tags of a random name", (part) => `/v2/${part}/tags/list`],
  ["end-12 referrers", (part) => `/v2/NAME/referrers/${part}`],
  ["_catalog", () => "/v2/_catalog"],
  ["no endpoint", (part) => `/${part}`],
];

test.each(endpoints)("%s: random bytes are never a 5xx", { timeout: LONG_MS }, async (_name, path) => {
  const repository = freshRepository();
  const url = inject("registryUrl");
  await repository.pushBlob(new Uint8Array(1));
  const digest = await unknownDigest();
  const location = async (): Promise<string> =>
    targetOf(url, (await repository.startUpload()).headers.get("Location") ?? "");
  await fc.assert(
    fc.asyncProperty(requests, async ({ part, query, method, body, framing, headers }) => {
      const bare = path(part, digest, await location())
        .replaceAll("NAME", repository.name)
        .replaceAll(/[\s#]/g, "");
      const search = query.map(([key, value]) => `${key}=${value.replaceAll("&", "%26")}`).join("&");
      const target = search === "" ? bare : `${bare}${bare.includes("?") ? "&" : "?"}${search}`;
      const hasBody = body !== undefined && method !== "GET" && method !== "HEAD";
      const request: RawRequest = { method, target, headers: tidy(headers), framing, ...(hasBody ? { body } : {}) };
      const response = await rawRequest(url, request);
      expect(response.status, JSON.stringify(request)).toBeLessThan(500);
      if (response.status < 400 || method === "HEAD") return;
      expect(response.header("Content-Type"), response.text()).toMatch(/^application\/json/);
      await errorsOf(response);
    }),
    { numRuns: RUNS, plugins: [fc.timeout(ANSWER_MS)] },
  );
});

/** A header field ends at a line end, and blanks around it are not part of it (RFC 9110 section 5.5). */
function tidy(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, name === "Expect" ? "100-continue" : value.trim()]),
  );
}

/** JSON of anything, where it has one. */
function safeJson(value: unknown): string {
  try {
    return JSON.stringify(value, (_key, each: unknown) => (typeof each === "bigint" ? String(each) : each)) ?? "null";
  } catch {
    return "{}";
  }
}
