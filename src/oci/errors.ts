import type { z } from "zod";

/**
 * The error codes of distribution-spec v1.1.1 «Error Codes», in its order (code-1 to code-14; code-11 is unused),
 * each with its usual status and message. Where the spec has no code for a case (416, 405, 413) the nearest one is
 * thrown with another `status`.
 */
const specCatalogue = {
  BLOB_UNKNOWN: [404, "blob unknown to registry"],
  BLOB_UPLOAD_INVALID: [400, "blob upload invalid"],
  BLOB_UPLOAD_UNKNOWN: [404, "blob upload unknown to registry"],
  DIGEST_INVALID: [400, "provided digest did not match uploaded content or is malformed"],
  MANIFEST_BLOB_UNKNOWN: [404, "manifest references content that is unknown to the repository"],
  MANIFEST_INVALID: [400, "manifest invalid"],
  MANIFEST_UNKNOWN: [404, "manifest unknown to registry"],
  NAME_INVALID: [400, "invalid repository name"],
  NAME_UNKNOWN: [404, "repository name not known to registry"],
  SIZE_INVALID: [400, "provided length did not match content length"],
  UNAUTHORIZED: [401, "authentication required"],
  DENIED: [403, "requested access to the resource is denied"],
  UNSUPPORTED: [404, "the operation is unsupported"],
  TOOMANYREQUESTS: [429, "too many requests"],
} as const satisfies Catalogue;

/** What the management API, which is no part of the spec, says besides. */
const apiCatalogue = {
  INVALID_REQUEST: [400, "the request does not have the form that this endpoint takes"],
  NOT_FOUND: [404, "there is no such thing"],
  CONFLICT: [409, "the request contradicts what is there"],
} as const satisfies Catalogue;

type Catalogue = Readonly<Record<string, readonly [number, string]>>;

const catalogue = { ...specCatalogue, ...apiCatalogue };

export type ErrorCode = keyof typeof catalogue;

/** What the `detail` of an error says: always a sentence, then whatever names the offending input. */
export interface ErrorDetail {
  readonly reason: string;
  readonly [key: string]: unknown;
}

export interface OciErrorOptions {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A failure that the client can act on. Thrown anywhere, made into a response in `app.onError` alone. */
export class OciError extends Error {
  readonly code: ErrorCode;
  readonly status: number;
  readonly detail: ErrorDetail;
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: ErrorCode, detail: ErrorDetail | string, options: OciErrorOptions = {}) {
    const [status, message] = catalogue[code];
    super(message);
    this.name = "OciError";
    this.code = code;
    this.status = options.status ?? status;
    this.detail = typeof detail === "string" ? { reason: detail } : detail;
    this.headers = options.headers ?? {};
  }
}

/** The envelope of distribution-spec v1.1.1 «Error Codes»; `requestId` rides in `detail` for whoever reports a fault. */
export function errorResponse(error: OciError, requestId: string): Response {
  const body = {
    errors: [
      {
        code: error.code,
        // docker, podman and skopeo show this alone: the reason has to be in it, behind the spec's own words.
        message: `${error.message}: ${error.detail.reason}`,
        detail: { ...error.detail, requestId },
      },
    ],
  };
  return envelope(body, error.status, error.headers);
}

/** A fault of ours: nothing of its text leaves, the request id leads to the log line. */
export function faultResponse(requestId: string): Response {
  const body = {
    errors: [
      {
        code: "UNSUPPORTED" satisfies ErrorCode,
        message: "internal error",
        detail: { reason: "the registry failed; try again, and report the request id if it stays", requestId },
      },
    ],
  };
  return envelope(body, 500, {});
}

/** With its length, which a HEAD tells too, though its body is dropped on the way. */
function envelope(body: unknown, status: number, headers: Readonly<Record<string, string>>): Response {
  const bytes = new TextEncoder().encode(JSON.stringify(body));
  return new Response(bytes, {
    status,
    headers: {
      "Content-Type": "application/json",
      "Content-Length": String(bytes.byteLength),
      // A 404 may be kept by whoever is in between, unless it says that it may not (RFC 9110 section 15.1).
      "Cache-Control": "no-store",
      ...headers,
    },
  });
}

/** One line that names the first field that zod refused, such as `layers.0.size: expected number`. */
export function zodReason(error: z.ZodError): string {
  const issue = error.issues[0];
  if (issue === undefined) return "does not have the expected form";
  return issue.path.length === 0 ? issue.message : `${issue.path.join(".")}: ${issue.message}`;
}

/** The spec's, in its order. */
export const errorCodes: readonly string[] = Object.keys(specCatalogue);
/** The management API's own. */
export const apiErrorCodes: readonly string[] = Object.keys(apiCatalogue);
