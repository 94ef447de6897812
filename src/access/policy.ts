import type { RepositoryName } from "../oci/repository.ts";

/** What a route asks of its caller, on the repository that its path names. */
export type Right = "pull" | "push" | "delete";

/** Who sent a request, as tag history and events name it. */
export interface Principal {
  readonly name: string;
}

export interface Question {
  /** host name of the request's URL, without a port */
  readonly hostname: string;
  readonly right: Right;
  /** null: the route belongs to no repository */
  readonly repository: RepositoryName | null;
}

const loopback = new Set(["localhost", "127.0.0.1", "[::1]"]);

/**
 * Everyone on loopback may do everything, and nobody elsewhere anything: a Worker that is deployed before it can tell
 * callers apart serves nothing. The name in the URL is what decides, so that a page of another name that resolves to
 * loopback (DNS rebinding) is refused too.
 */
export function decide(question: Question): boolean {
  return loopback.has(question.hostname);
}
