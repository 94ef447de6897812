/** Answers told apart, and told of. */
import { z } from "zod";
import { type Answer, jsonIn } from "./exchange.ts";
import { Failed, Skipped } from "./verdict.ts";

/**
 * @param wanted what is asked for, as part of a sentence, such as "the final PUT of an upload"
 * @throws Failed with what came instead
 */
export function requireStatus(answer: Answer, statuses: readonly number[], wanted: string): void {
  if (statuses.includes(answer.status)) return;
  throw new Failed({
    expected: `${statuses.join(" or ")} for ${wanted}`,
    seen: seenIn(answer),
    mend: mendOf(answer),
  });
}

/** As `requireStatus`; a caller without the right has found nothing out. @throws Failed, Skipped */
export function requireStatusOrRight(answer: Answer, statuses: readonly number[], wanted: string): void {
  if (isRefused(answer)) throw new Skipped(`no right to ${wanted}: ${seenIn(answer)}`);
  requireStatus(answer, statuses, wanted);
}

export function isRefused({ status }: Answer): boolean {
  return status === 401 || status === 403;
}

/** @throws Failed where the connection ended before the body */
export function wholeBody(answer: Answer, wanted: string): Buffer {
  if (!answer.isCut) return answer.body;
  const length = answer.headers["content-length"];
  throw new Failed({
    expected: `${wanted} to its end`,
    seen: `the connection ended after ${String(answer.body.byteLength)} of ${length ?? "unknown"} bytes`,
    mend: "look for a proxy before the registry that bounds the size or the time of an answer, and for its log",
  });
}

/** The envelope of distribution-spec v1.1.1 «Error Codes». */
const envelopeSchema = z.object({
  errors: z.tuple([z.object({ code: z.string(), message: z.string().optional() })], z.unknown()),
});

export interface ErrorTold {
  readonly code: string;
  readonly message: string;
}

/** null where the body is no error of a registry */
export function errorIn(answer: Answer): ErrorTold | null {
  const envelope = envelopeSchema.safeParse(jsonIn(answer));
  if (!envelope.success) return null;
  const [{ code, message = "" }] = envelope.data.errors;
  return { code, message };
}

const toldMaxCharacters = 200;

/** Such as `413 with text/html`, or `404 NAME_UNKNOWN (repository name not known)`. */
export function seenIn(answer: Answer): string {
  const error = errorIn(answer);
  const status = String(answer.status);
  if (error !== null) {
    const message = error.message === "" ? "" : ` (${error.message.slice(0, toldMaxCharacters)})`;
    return `${status} ${error.code.slice(0, toldMaxCharacters)}${message}`;
  }
  return answer.body.byteLength === 0 ? status : `${status} with ${typeOf(answer)}`;
}

export function typeOf({ headers }: Answer): string {
  return headers["content-type"] ?? "no Content-Type";
}

export function mendOf(answer: Answer): string {
  const { status, headers } = answer;
  const id = headers["x-request-id"];
  const log = `look into the registry's log${typeof id === "string" ? ` for the request id ${id}` : ""}`;
  switch (status) {
    case 413:
      return "something before the registry, or itself, bounds request bodies: raise its limit, or push through npx moorage relay";
    case 429:
      return "wait, and try again; or raise the limit of requests";
    case 401:
    case 403:
      return "log in as somebody with the right: npx moorage login";
    case 404:
    case 405:
      return isHtml(answer)
        ? "that is no answer of a registry: look for a proxy before it that serves this path or method itself"
        : "this registry does not have it, or a proxy before it lets only some methods through";
    default:
      if (status >= 500) return log;
      return isHtml(answer) ? "that is no answer of a registry: look for a proxy before it" : log;
  }
}

function isHtml(answer: Answer): boolean {
  return typeOf(answer).startsWith("text/html");
}
