import { describe, expect, it } from "vitest";
import { z } from "zod";
import { type ErrorCode, errorCodes, errorResponse, faultResponse, OciError } from "../../../src/oci/errors.ts";

/** distribution-spec v1.1.1 «Error Codes», code-1 to code-14 in its order, with the status that each has here. */
const specCodes = [
  ["BLOB_UNKNOWN", 404],
  ["BLOB_UPLOAD_INVALID", 400],
  ["BLOB_UPLOAD_UNKNOWN", 404],
  ["DIGEST_INVALID", 400],
  ["MANIFEST_BLOB_UNKNOWN", 404],
  ["MANIFEST_INVALID", 400],
  ["MANIFEST_UNKNOWN", 404],
  ["NAME_INVALID", 400],
  ["NAME_UNKNOWN", 404],
  ["SIZE_INVALID", 400],
  ["UNAUTHORIZED", 401],
  ["DENIED", 403],
  ["UNSUPPORTED", 404],
  ["TOOMANYREQUESTS", 429],
] as const satisfies readonly (readonly [ErrorCode, number])[];

const envelope = z.strictObject({
  errors: z.tuple([
    z.strictObject({
      code: z.string(),
      message: z.string().min(1),
      detail: z.looseObject({ reason: z.string(), requestId: z.string() }),
    }),
  ]),
});

describe("the error catalogue", () => {
  it("has the spec's codes and none of its own", () => {
    expect(errorCodes).toEqual(specCodes.map(([code]) => code));
  });

  it.each(specCodes)("%s goes out with status %i in the spec's envelope", async (code, status) => {
    const response = errorResponse(new OciError(code, "because"), "request-1");
    expect(response.status).toBe(status);
    expect(response.headers.get("Content-Type")).toBe("application/json");
    expect(envelope.parse(await response.json()).errors[0]).toMatchObject({
      code,
      detail: { reason: "because", requestId: "request-1" },
    });
  });
});

describe("an error", () => {
  it("goes out with another status and headers where it says so", () => {
    const error = new OciError(
      "UNSUPPORTED",
      { reason: "no", method: "TRACE" },
      { status: 405, headers: { Allow: "GET" } },
    );
    const response = errorResponse(error, "request-1");
    expect([response.status, response.headers.get("Allow")]).toEqual([405, "GET"]);
  });

  it("that is a fault tells nothing but the request's id", async () => {
    const response = faultResponse("request-2");
    expect(response.status).toBe(500);
    const [error] = envelope.parse(await response.json()).errors;
    expect(specCodes.map(([code]) => code)).toContain(error.code);
    expect(error.detail.requestId).toBe("request-2");
  });
});
