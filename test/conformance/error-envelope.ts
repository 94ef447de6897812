import { expect } from "vitest";
import { z } from "zod";
import type { RawResponse } from "./raw-http.ts";

/** The codes of distribution-spec v1.1.1 «Error Codes», code-1 to code-14. */
export const errorCodes = [
  "BLOB_UNKNOWN",
  "BLOB_UPLOAD_INVALID",
  "BLOB_UPLOAD_UNKNOWN",
  "DIGEST_INVALID",
  "MANIFEST_BLOB_UNKNOWN",
  "MANIFEST_INVALID",
  "MANIFEST_UNKNOWN",
  "NAME_INVALID",
  "NAME_UNKNOWN",
  "SIZE_INVALID",
  "UNAUTHORIZED",
  "DENIED",
  "UNSUPPORTED",
  "TOOMANYREQUESTS",
] as const;

export type ErrorCode = (typeof errorCodes)[number];

const envelope = z.object({
  errors: z
    .array(z.object({ code: z.enum(errorCodes), message: z.string().optional(), detail: z.unknown().optional() }))
    .min(1),
});

export type OciErrors = z.infer<typeof envelope>["errors"];

/** The errors of an answer in the spec's JSON form. @throws ZodError or SyntaxError where it has another */
export async function errorsOf(response: Response | RawResponse): Promise<OciErrors> {
  const text = await response.text();
  return envelope.parse(JSON.parse(text)).errors;
}

/** The spec lets a 4xx have any body, but where it is JSON it must have the envelope's form. */
export async function expectSpecError(
  response: Response,
  statuses: readonly number[],
  codes: readonly ErrorCode[],
): Promise<void> {
  expect(statuses).toContain(response.status);
  const isJson = (response.headers.get("Content-Type") ?? "").includes("json");
  const text = await response.text();
  if (!isJson || text === "") return;
  const errors = envelope.parse(JSON.parse(text)).errors;
  expect(codes).toContain(errors[0]?.code);
}

const ownDetail = z.looseObject({ reason: z.string().min(1), requestId: z.string().min(1) });

/** Moorage's own promise: always the envelope, as JSON, with a `detail` that gives a reason and the request's id. */
export async function expectError(
  response: Response | RawResponse,
  status: number,
  code: ErrorCode | readonly ErrorCode[],
): Promise<OciErrors> {
  const text = await response.text();
  expect({ status: response.status, text: text.slice(0, 500) }).toMatchObject({ status });
  const contentType = "header" in response ? response.header("Content-Type") : response.headers.get("Content-Type");
  expect(contentType).toMatch(/^application\/json(;|$)/);
  const errors = envelope.parse(JSON.parse(text)).errors;
  const codes: readonly string[] = typeof code === "string" ? [code] : code;
  expect(codes).toContain(errors[0]?.code);
  for (const error of errors) {
    expect(error.message).toMatch(/./);
    ownDetail.parse(error.detail);
  }
  return errors;
}
